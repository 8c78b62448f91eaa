"""Concepts that are trained on the page: the project's own command in a process of its own, one at a time for all.

The training belongs to the server, not to whoever started it: who opens the page meanwhile sees how far it is.
"""

import atexit
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from iin_lightning.app.explore.explored import Explored
from iin_lightning.app.explore.models import Models
from iin_lightning.app.explore.sketched import write
from iin_lightning.app.explore.states import ConceptState
from iin_lightning.app.explore.watched import PROGRESS, Watched
from iin_lightning.app.locate import model_folder
from iin_lightning.callbacks.told import Told
from iin_lightning.errors import ConfigError, IINError
from iin_lightning.trusted import trusted

BASE = "explored"  # the model's own data set, as a choice of the group data
GRACE = 5.0  # seconds that a training has to end when it is cancelled

Outcome = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Status:
    """How far a training is, or how it ended.

    Attributes:
        concept: that is trained.
        of: name of the model whose latents it is trained on.
        outcome: see ``Outcome``.
        command: that does the same in a shell.
        phase: what is done now.
        done: how much of it.
        total: of how much; 0 where that is not known.
        losses: (step, loss).
        seconds: since it began.
        model: name of the model that came of it.
        reason: why it failed.
    """

    concept: str
    of: str
    outcome: Outcome
    command: str
    phase: str = "Starting"
    done: int = 0
    total: int = 0
    losses: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    model: str = ""
    reason: str = ""


class Workshop:
    """Trains concepts, one after the other.

    Args:
        models: where a finished one goes.
        arguments: of every training, besides those that the page gives.
    """

    def __init__(self, models: Models, arguments: Sequence[str] = ()) -> None:
        self.models, self.arguments = models, tuple(arguments)
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._began = 0.0
        self._cancelled = False
        atexit.register(self.close)

    @property
    def status(self) -> Status | None:
        """Of the training at work, or else the last one; None where there was none."""
        with self._lock:
            status, folder, began = self._status, self._folder, self._began
        if status is None or status.outcome != "running":
            return status
        status = replace(status, seconds=time.monotonic() - began)
        try:
            said = json.loads((folder / PROGRESS).read_text())
        except (OSError, ValueError):
            return status
        losses = tuple((int(step), float(loss)) for step, loss in said["losses"])
        return replace(status, phase=said["phase"], done=said["done"], total=said["total"], losses=losses)

    def start(self, explored: Explored, state: ConceptState) -> None:
        """Begin to train a concept.

        Args:
            explored: whose encoder and data are taken.
            state: clean, see ``sketched.clean``.

        Raises:
            ConfigError: another one is at work, or this model's data are not known, or not in colour.
        """
        base = recipe_of(explored)
        with self._lock:
            if self._process is not None:
                assert self._status is not None
                raise ConfigError(
                    f"{self._status.concept} is being trained, and one concept at a time can be: wait, or cancel it."
                )
            folder = _new_folder(Path(explored.subject.recipe.paths.outputs) / "explore" / state.name)  # type: ignore[union-attr]
            said = written(folder, explored, state, base)
            told = (
                f"hydra.run.dir={_quoted(folder)}",
                f"+hydra.callbacks.watched._target_={Watched.__module__}.{Watched.__name__}",
                f"+callbacks.told._target_={Told.__module__}.{Told.__name__}",
            )
            shell = shlex.join(["python", "-m", "iin_lightning.train", *said, *self.arguments])
            with (folder / "said.txt").open("wb") as out, (folder / "errors.txt").open("wb") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "iin_lightning.train", *said, *self.arguments, *told],
                    stdin=subprocess.PIPE,  # whose end tells the training that this server has ended, however it did
                    stdout=out,
                    stderr=errors,
                    start_new_session=True,  # so that what it starts can be ended with it
                )
            self._status = Status(state.name, explored.name, "running", shell)
            self._folder, self._began, self._cancelled = folder, time.monotonic(), False
            threading.Thread(target=self._wait, args=(self._process,), daemon=True).start()

    def cancel(self) -> None:
        """End the training at work, if there is one."""
        with self._lock:
            process, self._cancelled = self._process, True
        if process is not None:
            _end(process)

    close = cancel

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        status = self.status
        assert status is not None
        if self._cancelled:
            status = replace(status, outcome="cancelled")
        elif code:
            status = replace(status, outcome="failed", reason=_reason(self._folder / "errors.txt", code))
        else:
            with self._lock:
                self._status = replace(status, phase="Loading the model", done=0, total=0)
            (self._folder / PROGRESS).unlink(missing_ok=True)
            status = self._loaded(status)
        if process.stdin is not None:
            process.stdin.close()
        with self._lock:
            self._status, self._process = status, None

    def _loaded(self, status: Status) -> Status:
        known, name, number = list(self.models), status.concept, 1
        while name in known:
            number += 1
            name = f"{status.concept} {number}"
        try:
            self.models.add(self._folder, name)
        except (IINError, OSError) as error:
            return replace(status, outcome="failed", reason=str(error))
        return replace(status, outcome="done", model=name, seconds=time.monotonic() - self._began)


def recipe_of(explored: Explored) -> DictConfig:
    """The data set of a model, without changes that were made to its images for another concept.

    Raises:
        ConfigError: it is not known, or its images are not in colour.
    """
    recipe = explored.subject.recipe
    if recipe is None:
        raise ConfigError(
            f"{explored.name} is a model folder without its run: nothing says which data it was trained on, so that no "
            "concept can be trained. Open the page with run=<run folder>."
        )
    if explored.shape[0] != 3:
        raise ConfigError(f"A sketch changes images in colour, and those of {explored.name} are grey.")
    base: DictConfig = recipe.data
    while "changes" in base or "sketches" in base:
        base = base.base
    return base


def written(folder: Path, explored: Explored, state: ConceptState, base: DictConfig) -> list[str]:
    """Write the files that a training needs into its folder, and say it in arguments.

    Args:
        folder: of the run.
        explored: whose encoder is taken.
        state: the concept.
        base: its data set.
    """
    recipe, sketches = folder / "recipe" / "data", folder / "sketches"
    recipe.mkdir(parents=True)
    sketches.mkdir()
    (recipe / f"{BASE}.yaml").write_text(f"# The data set of {explored.name}.\n{OmegaConf.to_yaml(base)}")
    subject = explored.subject
    assert subject.recipe is not None
    packages = trusted()
    return [
        *("--config-dir", str(folder / "recipe")),
        *("data=sketch", f"data.base={BASE}", "data.keep=[]", f"data.concept={state.name}"),
        f"data.sketch_a={_quoted(write(state.sketch_a, sketches, f'{state.name}_a'))}",
        f"data.sketch_b={_quoted(write(state.sketch_b, sketches, f'{state.name}_b'))}",
        f"data.limit={state.images}",
        *("encoder=interpreter", f"first_stage.path={_quoted(model_folder(subject.folder))}"),
        *("model=sup", f"model.steps={state.steps}", f"model.val_every={max(1, state.steps // 2)}"),
        # So few latents would be learned by heart without noise.
        *(
            f"model.warmup={state.steps // 10}",
            "model.latent_noise=0.6",
            "judge.recipe=null",
            f"name=explore/{state.name}",
        ),
        *(f"paths.{name}={_quoted(path)}" for name, path in subject.recipe.paths.items()),
        *([f"trust=[{','.join(packages)}]"] if packages else []),
    ]


def _new_folder(parent: Path) -> Path:
    """A folder of this second; a number is added where there is one already."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 100):
        folder = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{parent} has too many runs of this second.")


def _quoted(value: object) -> str:
    """A value as Hydra reads it back, whatever letters it has.

    Example:
        >>> _quoted("outputs/mine"), _quoted("my, own")
        ('outputs/mine', "'my, own'")
    """
    text = str(value)
    if re.fullmatch(r"[\w./-]+", text):
        return text
    return "'" + text.replace("'", "\\'") + "'"


def _reason(errors: Path, code: int) -> str:
    """The last sentence that a failed run has said."""
    if code < 0:
        return f"It was ended by {signal.Signals(-code).name}, most often because memory ran out."
    said = errors.read_text(errors="replace").strip()
    if code == 1:  # a mistake of ours, with a traceback: the last line that names an exception
        named = re.findall(r"^[\w.]+: .+", said, re.MULTILINE)
        return named[-1] if named else said.rpartition("\n")[2]
    return said.rpartition("\n\n")[2] or f"It ended with the code {code} and said nothing."


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it, and those that it has started
