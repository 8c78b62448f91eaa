"""Concepts that are trained on the page: the project's own command in a process of its own, one at a time for all.

The training belongs to the server, not to whoever started it: who opens the page meanwhile sees how far it is.
"""

import atexit
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from iin_lightning.cli.refusals import sentence
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models, without_folders
from iin_lightning.explorer.pictures import write_sketch
from iin_lightning.explorer.states import ConceptState
from iin_lightning.printing import argument
from iin_lightning.progress import listeners
from iin_lightning.serialization import model_folder
from iin_lightning.trusted import trusted

BASE = "explored"  # the model's own data set, as a choice of the group data
PROGRESS, SAID, ERRORS = "progress.json", "said.txt", "errors.txt"  # in the folder of the run
GRACE = 5.0  # seconds that a training has to end when it is cancelled
SECONDS = 0.25  # between two writings of the progress
PATIENCE = 10.0  # seconds that a run has to end by itself once the page has ended

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How far the training of a concept is, or how it ended."""

    concept: str
    of: str  # the model whose latents it is trained on
    outcome: Literal["running", "done", "failed", "cancelled"]
    command: str  # that does the same in a shell, where the server was started
    phase: str = "Starting"
    done: int = 0
    total: int = 0  # unknown
    losses: tuple[tuple[int, float], ...] = ()  # (step, loss)
    seconds: float = 0.0
    model: str = ""  # that came of it
    reason: str = ""  # why it failed


class Workshop:
    """Trains concepts, one after the other, with these further arguments; what came of them goes to the models."""

    def __init__(self, models: Models, arguments: Sequence[str] = ()) -> None:
        self.models, self.arguments = models, tuple(arguments)
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: threading.Thread | None = None
        self._folder, self._began, self._cancelled = Path(), 0.0, False
        atexit.register(self.close)

    @property
    def status(self) -> Status | None:
        """Of the training at work, or else the last; None before the first."""
        with self._lock:
            status, folder, began = self._status, self._folder, self._began
        if status is None or status.outcome != "running":
            return status
        status = replace(status, seconds=time.monotonic() - began)
        try:
            said = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return status
        losses = tuple((int(step), float(loss)) for step, loss in said["losses"])
        return replace(status, phase=said["phase"], done=said["done"], total=said["total"], losses=losses)

    def start(self, explored: Explored, state: ConceptState) -> None:
        """Begin to train a concept of clean sketches on a model's encoder and data."""
        base = base_data(explored)
        assert explored.recipe is not None
        with self._lock:
            if self._process is not None and self._status is not None:
                raise ConfigError(
                    f"{self._status.concept} is being trained, one concept at a time: wait, or cancel it."
                )
            parent = Path(explored.recipe.paths.outputs) / "explore" / state.name
            folder = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S_%f}"
            try:
                self._begin(folder, explored, state, base)
            except OSError as error:
                _remove(folder)
                raise ConfigError(
                    f"{parent} cannot be written ({error.strerror or error}), and a training keeps its run there: make "
                    "room, or open the page with another paths.outputs=<folder>."
                ) from error

    def _begin(self, folder: Path, explored: Explored, state: ConceptState, base: DictConfig) -> None:
        given = _recipe(folder, explored, state, base)
        shell = shlex.join(["python", "-m", "iin_lightning.train", *words(given, without_folders), *self.arguments])
        watched = (
            argument("hydra.run.dir", folder),
            f"+hydra.callbacks.watched._target_={Watched.__module__}.{Watched.__name__}",
        )
        with (folder / SAID).open("wb") as out, (folder / ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "iin_lightning.train", *words(given), *self.arguments, *watched],
                stdin=subprocess.PIPE,  # whose end tells the training that this server has ended, however it did
                stdout=out,
                stderr=errors,
                start_new_session=True,  # so that what it starts can be ended with it
            )
        self._status = Status(state.name, explored.name, "running", shell)
        self._folder, self._began, self._cancelled = folder, time.monotonic(), False
        self._waiting = threading.Thread(target=self._wait, args=(self._process, self._status), daemon=True)
        self._waiting.start()

    def cancel(self) -> None:
        """End the training at work, if a concept is being trained."""
        with self._lock:
            process, self._cancelled = self._process, True
        if process is not None:
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Cancel, and wait until nothing of the training is left."""
        self.cancel()
        if self._waiting is not None:
            self._waiting.join(GRACE)

    def _wait(self, process: "subprocess.Popen[bytes]", status: Status) -> None:
        try:
            code = process.wait()
            with suppress(OSError):  # most often nobody is left
                os.killpg(process.pid, signal.SIGKILL)  # those that it has started
            status = self._ended(self.status or status, code)
        except Exception as error:  # whatever it was, another training must be possible
            log.exception("%s was trained, and its model cannot be loaded from %s", status.concept, self._folder)
            reason = sentence(error) or f"{type(error).__name__}: {error}"
            status = replace(self.status or status, outcome="failed", reason=str(reason))
        finally:
            if process.stdin is not None:
                process.stdin.close()
            with self._lock:
                self._status, self._process = status, None

    def _ended(self, status: Status, code: int) -> Status:
        """Load the model of a training; of a training without a model nothing is left."""
        if self._cancelled:
            _remove(self._folder)
            return replace(status, outcome="cancelled")
        if code:
            said = (self._folder / ERRORS).read_text(encoding="utf-8", errors="replace").strip()
            log.warning("The training of %s has failed:\n%s", status.concept, said[-20_000:])
            _remove(self._folder)
            return replace(status, outcome="failed", reason=_reason(said, code))
        with self._lock:
            self._status = replace(status, phase="Loading the model", done=0, total=0)
        (self._folder / PROGRESS).unlink(missing_ok=True)
        numbered = (f"{status.concept} {number}" if number > 1 else status.concept for number in count(1))
        name = next(name for name in numbered if name not in list(self.models))
        self.models.add(self._folder, name)
        return replace(status, outcome="done", model=name, seconds=time.monotonic() - self._began)


def _reason(said: str, code: int) -> str:
    """Return the last sentence of a failed run."""
    if code < 0:
        return f"It was ended by {signal.Signals(-code).name}, most often because memory ran out."
    if code == 1:  # a mistake of ours, with a traceback
        return said.rpartition("\n")[2]
    return said.rpartition("\n\n")[2] or f"It ended with the code {code} and said nothing."


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()  # if no other run of this concept lies there


def base_data(explored: Explored) -> DictConfig:
    """Return the data set of a model, without changes that were made to its images for another concept."""
    if explored.recipe is None:
        raise ConfigError(
            f"{explored.name} is a model folder without its run, so that its data set is not known and no concept can "
            "be trained: open the page with run=<run folder>."
        )
    if explored.shape[0] != 3:
        raise ConfigError(f"A sketch changes images in colour, and those of {explored.name} are grey.")
    base: DictConfig = explored.recipe.data
    while "changes" in base or "sketches" in base:
        base = base.base
    return base


def _recipe(folder: Path, explored: Explored, state: ConceptState, base: DictConfig) -> dict[str, str | Path]:
    """Write the files that a training reads into its folder; return its arguments as ``words`` takes them."""
    assert explored.recipe is not None
    recipe, sketches, packages = folder / "recipe", folder / "sketches", trusted()
    for made in (recipe / "data", sketches):
        made.mkdir(parents=True)
    (recipe / "data" / f"{BASE}.yaml").write_text(
        f"# The data set of {explored.name}.\n{OmegaConf.to_yaml(base)}", encoding="utf-8"
    )
    return {
        "--config-dir": recipe,
        "data": "sketch",
        "data.base": BASE,
        "data.keep": "[]",
        "data.concept": state.name,
        "data.sketch_a": Path(write_sketch(state.sketch_a, sketches, f"{state.name}_a")),
        "data.sketch_b": Path(write_sketch(state.sketch_b, sketches, f"{state.name}_b")),
        "data.limit": str(state.images),
        "encoder": "interpreter",
        "first_stage.path": model_folder(explored.folder),
        "model": "sup",
        "model.steps": str(state.steps),
        "model.val_every": str(max(1, state.steps // 2)),
        # So few latents would be learned by heart without noise.
        "model.warmup": str(state.steps // 10),
        "model.latent_noise": "0.6",
        "judge.recipe": "null",
        "name": f"explore/{state.name}",
        **{f"paths.{name}": Path(path) for name, path in explored.recipe.paths.items()},
        **({"trust": f"[{','.join(packages)}]"} if packages else {}),
    }


def words(given: Mapping[str, str | Path], spelled: Callable[[str], str] = str) -> list[str]:
    """Return arguments as a command takes them: values as Hydra reads them, and paths, which are spelled and quoted.

    Example:
        >>> words({"--config-dir": Path("/mine"), "data.limit": "5", "paths.data": Path("/my data")})
        ['--config-dir', '/mine', 'data.limit=5', 'paths.data="/my data"']
    """
    found: list[str] = []
    for key, value in given.items():
        if key.startswith("--"):
            found += [key, spelled(str(value))]
        else:
            found.append(argument(key, spelled(str(value))) if isinstance(value, Path) else f"{key}={value}")
    return found


class Watched(Callback):
    """Hydra's callback within the process of a training: tell the page how far it is, and end with the page."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Listen to the run, whose standard input is a pipe that ends when the page does."""
        folder = Path(config.hydra.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        listeners.append(Progress(folder / PROGRESS))
        threading.Thread(target=_end_with_the_page, daemon=True).start()


class Progress:
    """A file that says how far a run is: {"phase", "done", "total", "losses": [[step, loss], ...]}."""

    def __init__(self, path: Path) -> None:
        self.path, self.losses, self._written = path, list[tuple[int, float]](), 0.0

    def __call__(self, what: str, done: int, total: int, loss: float | None) -> None:
        """See ``iin_lightning.progress.Listener``."""
        if loss is not None:
            self.losses.append((done, loss))
        if time.monotonic() - self._written > SECONDS or done >= total:
            self._written = time.monotonic()
            said = {"phase": what, "done": done, "total": total, "losses": self.losses}
            new = self.path.with_suffix(".new")
            # A wrong number after a power cut is no harm: nothing is flushed to the disk.
            new.write_text(json.dumps(said), encoding="utf-8")
            os.replace(new, self.path)


def _end_with_the_page() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would be held when this process ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    if os.getpgrp() == os.getpid():  # as the page starts it
        os.killpg(os.getpgrp(), signal.SIGKILL)
