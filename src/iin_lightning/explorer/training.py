"""Concepts that are trained on the page: the project's own command in a process of its own, one at a time for all.

The training belongs to the server, not to whoever started it: who opens the page meanwhile sees how far it is.
"""

import atexit
import json
import logging
import os
import re
import shlex
import shutil
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

from iin_lightning.cli.refusals import sentence
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.folders import without_folders
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.recipe import new_folder, recipe_of, words, written
from iin_lightning.explorer.states import ConceptState
from iin_lightning.explorer.watched import PROGRESS, Watched
from iin_lightning.printing import argument

SAID, ERRORS = "said.txt", "errors.txt"
MOST_SAID = 20_000  # letters of a failure that are logged
GRACE = 5.0  # seconds that a training has to end when it is cancelled

log = logging.getLogger(__name__)

Outcome = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Status:
    """How far a training is, or how it ended.

    Attributes:
        concept: that is trained.
        of: name of the model whose latents it is trained on.
        outcome: see ``Outcome``.
        command: that does the same in a shell, where the server was started.
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
        self._waiting: threading.Thread | None = None
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
            said = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
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
            ConfigError: another one is at work, or this model's data are not known, or not in colour; its folder cannot
                be written.
        """
        recipe_of(explored)
        with self._lock:
            if self._process is not None:
                assert self._status is not None
                raise ConfigError(
                    f"{self._status.concept} is being trained, and one concept at a time can be: wait, or cancel it."
                )
            parent = Path(explored.subject.recipe.paths.outputs) / "explore" / state.name  # type: ignore[union-attr]
            try:
                folder = new_folder(parent)
                try:
                    self._begin(folder, explored, state)
                except BaseException:
                    _remove(folder)
                    raise
            except OSError as error:
                raise ConfigError(
                    f"{parent} cannot be written ({error.strerror or error}), and a training keeps its run there: make "
                    "room, or open the page with another paths.outputs=<folder>."
                ) from error

    def _begin(self, folder: Path, explored: Explored, state: ConceptState) -> None:
        said = written(folder, explored, state, recipe_of(explored))
        shell = shlex.join(["python", "-m", "iin_lightning.train", *words(said, without_folders), *self.arguments])
        told = (
            argument("hydra.run.dir", folder),
            f"+hydra.callbacks.watched._target_={Watched.__module__}.{Watched.__name__}",
        )
        with (folder / SAID).open("wb") as out, (folder / ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "iin_lightning.train", *words(said), *self.arguments, *told],
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
        """End the training at work, if there is one."""
        with self._lock:
            process, self._cancelled = self._process, True
        if process is not None:
            _end(process)

    def close(self) -> None:
        """The same, until nothing of it is left."""
        self.cancel()
        if self._waiting is not None:
            self._waiting.join(GRACE)

    def _wait(self, process: "subprocess.Popen[bytes]", status: Status) -> None:
        try:
            code = process.wait()
            with suppress(OSError):  # there is nobody, most often
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
        """What has become of a training; of one that has no model nothing is left."""
        if self._cancelled:
            _remove(self._folder)
            return replace(status, outcome="cancelled")
        if code:
            errors = self._folder / ERRORS
            reason, said = _reason(errors, code), errors.read_text(encoding="utf-8", errors="replace")
            log.warning("The training of %s has failed:\n%s", status.concept, said[-MOST_SAID:])
            _remove(self._folder)
            return replace(status, outcome="failed", reason=reason)
        with self._lock:
            self._status = replace(status, phase="Loading the model", done=0, total=0)
        (self._folder / PROGRESS).unlink(missing_ok=True)
        known, name, number = list(self.models), status.concept, 1
        while name in known:
            number += 1
            name = f"{status.concept} {number}"
        self.models.add(self._folder, name)
        return replace(status, outcome="done", model=name, seconds=time.monotonic() - self._began)


def _reason(errors: Path, code: int) -> str:
    """The last sentence that a failed run has said."""
    if code < 0:
        return f"It was ended by {signal.Signals(-code).name}, most often because memory ran out."
    said = errors.read_text(encoding="utf-8", errors="replace").strip()
    if code == 1:  # a mistake of ours, with a traceback: the last line that names an exception
        named = re.findall(r"^[\w.]+: .+", said, re.MULTILINE)
        return named[-1] if named else said.rpartition("\n")[2]
    return said.rpartition("\n\n")[2] or f"It ended with the code {code} and said nothing."


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()  # if no other run of this concept lies there
