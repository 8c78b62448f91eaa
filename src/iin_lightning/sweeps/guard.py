"""A job whose failure is its own: a single run says it after Hydra has ended, a sweep notes it and goes on."""

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

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from iin_lightning.cli.arguments import expand_home
from iin_lightning.cli.paths import register_resolvers
from iin_lightning.cli.refusals import refused, sentence
from iin_lightning.cli.secrets import mask, refuse_within
from iin_lightning.errors import STOP_SIGNALS, StoppedByUser
from iin_lightning.printing import open_streams
from iin_lightning.progress import printable
from iin_lightning.sweeps.watch import STOPPED, Watch

FAILURE = "failure.json"

log = logging.getLogger(__name__)


class SweepStopped(BaseException):
    """Ends a sweep; no Exception, because Hydra would take that for the failure of one job and begin the next.

    Args:
        reason: why, and how to go on.
    """

    def __init__(self, reason: StoppedByUser) -> None:
        super().__init__(reason)
        self.reason = reason


class StoppedJob:
    """What a job returns that was stopped in another process: a search that wants its number ends here.

    Args:
        reason: as of ``SweepStopped``.
    """

    def __init__(self, reason: StoppedByUser) -> None:
        self.reason = reason

    def __float__(self) -> float:
        """There is none."""
        raise SweepStopped(self.reason)


class Guard:
    """What Hydra runs in place of a job.

    It is sent to other processes by the launchers of sweeps, so it holds nothing but the job.

    Args:
        job: takes the composed configuration; what it returns is minimised by a search.
    """

    def __init__(self, job: Callable[[DictConfig], float | None]) -> None:
        self.job = job
        self.__wrapped__ = job  # Hydra names runs after the module of this
        self.error: Exception | None = None
        """What a run that is no job of a sweep has ended with."""

    def __call__(self, config: DictConfig) -> float | StoppedJob | None:
        """Do the job; None if it failed."""
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
            if (sentence(error) is None) and (said := refused(error, config)) is not None:
                raise said from error
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
            stopped_by = stop if isinstance(stop, StoppedByUser) else StoppedByUser("Stopped.")
            if launcher.endswith("BasicLauncher"):
                raise SweepStopped(stopped_by) from stop
            print(printable(f"\nJob {hydra.job.num}: {stopped_by}"), file=sys.stderr)
            if "joblib" in launcher:  # elsewhere each job has a machine of its own, which may have been taken away
                stopped.touch()
            return StoppedJob(stopped_by)
        except Exception as error:
            reason = _note(error, folder, list(hydra.overrides.task))
            print(printable(f"\nJob {hydra.job.num} failed: {reason}"), file=sys.stderr)
            return None
        return value if value is not None and math.isfinite(value) else None


def _note(error: Exception, folder: Path, overrides: list[str]) -> str:
    """Write why a job failed: the reason for the table of the sweep, all of it into the log."""
    cured = sentence(error)
    log.info("The job failed: %s", mask(str(cured) if cured else "".join(traceback.format_exception(error))))
    reason: str = mask(str(cured) if cured else f"{type(error).__name__}: {error}")
    note = {
        "error": type(error).__name__,
        "reason": reason,
        "when": datetime.now().astimezone().isoformat(timespec="seconds"),
        "overrides": overrides,
    }
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
