"""What runs a job: alone, its failure ends the command; in a sweep it is noted, and the other jobs go on."""

import json
import logging
import math
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from iin_lightning.cli.arguments import expand_home
from iin_lightning.cli.paths import register_resolvers
from iin_lightning.cli.refusals import refused, sentence
from iin_lightning.cli.secrets import mask, refuse_within
from iin_lightning.errors import STOP_SIGNALS, StoppedByUser
from iin_lightning.printing import open_streams
from iin_lightning.progress import printable

FAILURE = "failure.json"
STOPPED = "stopped"
"""A file in the folder of a sweep whose workers are asked to stop: none of them begins another job."""

log = logging.getLogger(__name__)


class SweepStopped(BaseException):
    """Ends a sweep; no Exception, because Hydra would take that for the failure of a job and begin the next."""

    def __init__(self, reason: StoppedByUser) -> None:
        super().__init__(reason)
        self.reason = reason


class StoppedJob:
    """The result of a job that was stopped in another process: a search that asks for its number ends."""

    def __init__(self, reason: StoppedByUser) -> None:
        self.reason = reason

    def __float__(self) -> float:
        raise SweepStopped(self.reason)


class Watch(Callback):
    """Hydra's callback at the start of a sweep; Hydra calls none at an end with an error.

    Attributes:
        folder: Of the sweep that this process has started.
        study: Whether a search chooses the jobs.
        signal: Which stopped the sweep, where its jobs run in other processes of this machine.
    """

    folder: ClassVar[Path | None] = None
    study: ClassVar[bool] = False
    signal: ClassVar[int | None] = None

    @staticmethod
    def is_on() -> bool:
        """Say whether the job at hand belongs to a sweep that is watched."""
        hydra = HydraConfig.get()
        watched = any(callback._target_.endswith(Watch.__name__) for callback in hydra.callbacks.values())
        return hydra.mode == RunMode.MULTIRUN and watched

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember where the sweep is, and let its workers finish their work when it is stopped."""
        hydra = config.hydra
        Watch.folder, Watch.study = Path(hydra.sweep.dir), "optuna" in hydra.sweeper._target_
        (Watch.folder / STOPPED).unlink(missing_ok=True)
        if Watch.study:
            Path(config.paths.outputs, "sweeps").mkdir(parents=True, exist_ok=True)  # the data base lies there
        if "joblib" in hydra.launcher._target_:
            for number in STOP_SIGNALS:
                signal.signal(number, _wait_for_jobs)


def _wait_for_jobs(number: int, frame: FrameType | None) -> None:
    """Let the jobs at work end, which have got the signal, too; joblib would end their processes."""
    if Watch.signal is not None:
        raise KeyboardInterrupt
    Watch.signal = number
    print("\nStopping: the jobs at work write their state. Ctrl-C again stops at once.", file=sys.stderr)
    assert Watch.folder is not None
    Watch.folder.mkdir(parents=True, exist_ok=True)
    (Watch.folder / STOPPED).touch()


class Guard:
    """What Hydra runs in place of a job; launchers send it to other processes, so it holds only the job.

    The job takes the composed configuration; a search minimises what it returns.
    """

    def __init__(self, job: Callable[[DictConfig], float | None]) -> None:
        self.job = job
        self.__wrapped__ = job  # Hydra names runs after the module of this
        self.error: Exception | None = None
        """The error of a run that is no job of a sweep."""

    def __call__(self, config: DictConfig) -> float | StoppedJob | None:
        """Do the job; return None if it failed."""
        register_resolvers()  # this may be a new process
        open_streams()
        if Watch.is_on():
            return self._in_sweep(config)
        try:
            return self._do(config)
        except Exception as error:  # command() tells the kinds apart
            log.info("%s", mask(str(error)))
            self.error = self.error or error
            return None

    def _do(self, config: DictConfig) -> float | None:
        expand_home(config)
        refuse_within(config)
        try:
            return self.job(config)
        except Exception as error:
            if sentence(error) is None and (cure := refused(error, config)) is not None:
                raise cure from error
            raise

    def _in_sweep(self, config: DictConfig) -> float | StoppedJob | None:
        from iin_lightning.distributed import is_main_process  # noqa: PLC0415  torch is slow to import

        hydra = HydraConfig.get()
        folder, launcher = Path(hydra.runtime.output_dir), hydra.launcher._target_
        stopped = Path(hydra.sweep.dir, STOPPED)
        if stopped.exists():
            return StoppedJob(StoppedByUser("Stopped."))
        if is_main_process():
            (folder / FAILURE).unlink(missing_ok=True)
        try:
            with _signals() if "joblib" in launcher else nullcontext():
                value = self._do(config)
        except (StoppedByUser, KeyboardInterrupt) as stop:
            reason = stop if isinstance(stop, StoppedByUser) else StoppedByUser("Stopped.")
            if launcher.endswith("BasicLauncher"):
                raise SweepStopped(reason) from stop
            print(printable(f"\nJob {hydra.job.num}: {reason}"), file=sys.stderr)
            if "joblib" in launcher:  # elsewhere each job has a machine of its own, which may have been taken away
                stopped.touch()
            return StoppedJob(reason)
        except Exception as error:
            why = _note(error, folder, list(hydra.overrides.task))
            print(printable(f"\nJob {hydra.job.num} failed: {why}"), file=sys.stderr)
            return None
        return value if value is not None and math.isfinite(value) else None


def _note(error: Exception, folder: Path, overrides: list[str]) -> str:
    """Write why a job failed: the reason for the table of the sweep, all of it into the log."""
    cure = sentence(error)
    log.info("The job failed: %s", mask(str(cure) if cure else "".join(traceback.format_exception(error))))
    reason: str = mask(str(cure) if cure else f"{type(error).__name__}: {error}")
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    note = {"error": type(error).__name__, "reason": reason, "when": when, "overrides": overrides}
    try:
        # Of several processes the first to fail knows why; the others only that it is gone.
        with (folder / FAILURE).open("x", encoding="utf-8") as file:
            json.dump(mask(note), file, indent=2)
    except FileExistsError:
        pass
    except OSError as full:
        print(f"{folder / FAILURE} could not be written: {full}", file=sys.stderr)
    return reason


@contextmanager
def _signals() -> Iterator[None]:
    """Let signals stop the job within, and nothing between jobs: a worker that dies takes the others with it."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
