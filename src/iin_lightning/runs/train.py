"""The command ``train``: which folder a run is in, whether it begins or goes on there, and how it is stopped."""

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException

from iin_lightning.cli import trust
from iin_lightning.cli.arguments import carried
from iin_lightning.cli.paths import check_links, last_checkpoint
from iin_lightning.distributed import is_main_process, join
from iin_lightning.errors import STOP_SIGNALS, ConfigError, Preempted, ResourceError, StoppedByUser
from iin_lightning.printing import argument, command_line, pasted, show_next, shown
from iin_lightning.questions import results
from iin_lightning.runs.folder import CONFIG, CONFIG_RESUMED, PROVENANCE, resumed, typed
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.run import run, show

LOCK = "run.lock"

PREEMPTION = [number for number in STOP_SIGNALS if number != signal.SIGINT]
"""What schedulers send before they end a job."""

NO_MEMORY = ("can't allocate memory", "not enough memory")
NO_GPU_MEMORY = "CUDA error: out of memory"  # of CUDA itself; torch's own allocator has an exception for it
WORKER_GONE = "DataLoader worker"


def train(config: DictConfig) -> float | None:
    """Train what a composed configuration says, or go on with the run that ``resume`` names.

    A run whose folder holds the same configuration already goes on where it was stopped, as a job does that a scheduler
    starts again, and one that is finished is not done again. A run that failed before its first step leaves its folder
    to the next. The held-out loss of the model that was kept comes back: what a search over configurations makes small.

    Raises:
        ConfigError: another run has written into the folder, or is at work in it.
        StoppedByUser: says how to go on.
        ResourceError: the machine lacks memory, or room on a disk.
    """
    _refuse_distributed_sweep(config)
    trust.take(config)
    join(config.trainer.devices, config.trainer.num_nodes)
    origin = config
    if config.resume is not None:
        origin, config = resumed(config)
        folder = Path(config.resume)
    else:
        folder = Path(HydraConfig.get().runtime.output_dir)
        choice = HydraConfig.get().runtime.choices
        config.name = config.name or f"{choice['data']}_{choice['model']}"
        if _has_begun(folder) and _goes_on(config, folder) and (found := results.finished(folder)) is not None:
            if is_main_process():
                show(found, folder)
            return results.objective(found)
    check_links(folder)
    with _locked(folder), explained(folder):
        if config.resume is None and is_main_process() and not _has_begun(folder):
            for name in (CONFIG_RESUMED, PROVENANCE):  # of a run that failed
                (folder / name).unlink(missing_ok=True)
        try:
            with _preemptible():
                outcome = run(Recipe.of(config, origin), folder)
        except (StoppedByUser, KeyboardInterrupt, SystemExit) as stop:
            raise _stopped(stop, folder) from stop
    if is_main_process() and HydraConfig.get().mode != RunMode.MULTIRUN:
        show_next(_next(config, folder, outcome), "What next")
    return results.objective(outcome)


def _next(config: DictConfig, folder: Path, outcome: dict[str, Any]) -> list[tuple[str, ...]]:
    """Commands that go on from a trained model: look at it, or interpret it."""
    finished = argument("run", shown(folder))
    if config.model.stage == "interpret":
        drawn = {Path(figure).stem for figure in outcome["figures"]}
        question = "swap" if "swap" in drawn else "interpolate" if "interpolations" in drawn else "walk"
        return [("explore", finished), ("analyse", finished, f"analysis={question}"), ("report", finished)]
    data = [said for said in carried(*typed(folder)) if not said.startswith("experiment=")]
    explained_network = ("encoder=interpreter", argument("first_stage.path", shown(folder / "model")))
    return [("train", *data, "model=sup", *explained_network), ("report", finished)]


def _has_begun(folder: Path) -> bool:
    """Whether a run has left something in a folder to go on from, or to look at."""
    return any(path.exists() for path in (last_checkpoint(folder), folder / results.FILE, folder / "model"))


def _goes_on(config: DictConfig, folder: Path) -> bool:
    """Whether a folder is that of this very run, which has not been continued with other values."""
    last = folder / CONFIG_RESUMED
    saved, _ = trust.load(last if last.is_file() else folder / CONFIG)  # which is compared, and not used
    saved.resume = None
    if OmegaConf.to_container(saved) == OmegaConf.to_container(config):
        return True
    raise ConfigError(
        f"{folder} is the folder of another run: go on with it ({pasted('resume', folder)}), or name another one "
        "(name=..., hydra.run.dir=...)."
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let no second job write into a run's folder; the other processes of this one come with the first."""
    if not is_main_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, blocking=False):
            yield
    except Timeout as error:
        raise ConfigError(
            f"Another process is at work in {folder}: wait for it, stop it, or name another folder (name=..., "
            "hydra.run.dir=...)."
        ) from error


@contextmanager
def _preemptible() -> Iterator[None]:
    """Let a scheduler's signal end the block at once; while training lasts, ``Checkpoints`` listens instead.

    Without this Lightning would take SIGUSR1 under SLURM, write a state of its own into the working directory, from
    which any other run would go on, and miss SIGTERM where it tests. A sweep's own handlers stay.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        unheard = [number for number in PREEMPTION if signal.getsignal(number) == signal.SIG_DFL]
        previous = {number: signal.signal(number, _end) for number in unheard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise SIGTERMException(number)


def _stopped(stop: BaseException, folder: Path) -> BaseException:
    """What to say of a run that was stopped, and how it goes on; the same exception if nobody asked for it."""
    preempted = isinstance(stop, Preempted | SIGTERMException)
    # Outside of a training step Lightning makes an exit of Ctrl-C.
    if isinstance(stop, SystemExit) and not preempted and not isinstance(stop.__context__, KeyboardInterrupt):
        return stop
    reason = str(stop) if isinstance(stop, StoppedByUser) else "Stopped."
    text = f"{reason}\nGo on with: {command_line('train', argument('resume', shown(folder)))}"
    if not preempted:
        return StoppedByUser(text)
    number = stop.signal if isinstance(stop, Preempted) else getattr(stop, "code", None)
    if number is not None and number == getattr(signal, "SIGUSR1", None) and is_main_process():
        text = "\n".join(filter(None, (text, _requeued())))
    return Preempted(text, number)


def _requeued() -> str:
    """Put this job into SLURM's queue again, and say so; after SIGTERM SLURM does it by itself."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return ""
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        asked = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        return f"SLURM could not be asked to start job {job} again ({error})."
    if asked.returncode:
        return f"SLURM did not put job {job} into its queue again: {asked.stderr.strip()}"
    return f"SLURM will start job {job} again."


def _refuse_distributed_sweep(config: DictConfig) -> None:
    hydra = HydraConfig.get()
    own_processes = "submitit" in hydra.launcher._target_
    several = str(config.trainer.strategy).startswith("ddp") and config.trainer.devices != 1
    if hydra.mode == RunMode.MULTIRUN and several and not own_processes:
        raise ConfigError(
            "A job of several processes starts the command again for each, and in a sweep that would be a sweep of its "
            "own: run the jobs one by one without -m, or give each processes of its own "
            "(hydra/launcher=submitit_slurm, or submitit_local, with hydra.launcher.tasks_per_node=<processes>)."
        )


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say of what the machine refuses within the block what it means for a run, and what helps.

    Raises:
        ResourceError: in place of memory or room on a disk that is used up; any other error goes through.

    Example:
        >>> with explained(Path("outputs/mine")):
        ...     raise OSError(errno.ENOSPC, "No space left on device", "cache/latents")
        Traceback (most recent call last):
        ...
        iin_lightning.errors.ResourceError: No space left on device: cache/latents. Make room there (cache/ may be ...
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(_out_of_memory(error)) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or f"the disk of {folder}"
        raise ResourceError(
            f"{error.strerror}: {where}. Make room there (cache/ may be deleted at any time), then go on with the run."
        ) from error
    except RuntimeError as error:
        text = str(error)
        if any(words in text for words in (*NO_MEMORY, NO_GPU_MEMORY)):
            raise ResourceError(_out_of_memory(error)) from error
        if text.startswith(WORKER_GONE):
            raise ResourceError(
                f"A process that loads batches was ended ({text.splitlines()[0]}), most often because memory ran out: "
                "take fewer of them (data.num_workers=0 needs none), then go on with the run."
            ) from error
        raise


def _out_of_memory(error: BaseException) -> str:
    on_gpu = isinstance(error, torch.OutOfMemoryError) or NO_GPU_MEMORY in str(error)
    where = "the GPU" if on_gpu else "main memory"
    words = next(iter(str(error).splitlines()), type(error).__name__)
    return (
        f"There is not enough of {where} ({words}). Lower model.batch_size (trainer.accumulate_grad_batches=2 makes up "
        "for half of it) or data.eval_batch_size; a flow with flow.reversible=true keeps no activations of its blocks; "
        "on a GPU trainer.precision=bf16-mixed halves what is kept."
    )
