"""The state that a run goes on from, the weights of its best validation, and how both reach the disk."""

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.trainer.states import TrainerFn

from iin_lightning.bounded import read_torch
from iin_lightning.errors import STOP_SIGNALS, ConfigError, Preempted, ResourceError, StoppedByUser


class Checkpoints(Checkpoint):
    """Write a checkpoint, again and again, from which training goes on as if nothing had happened.

    It is written after each validation, and in between after every ``every_n_steps`` and ``every_minutes``; None leaves
    either out. Between a step and its validation nothing is written: a run that went on from there would leave that
    validation out, and with it perhaps the best weights. Nor is it while gradients accumulate, which no checkpoint
    holds.

    At the first Ctrl-C, SIGTERM or SIGUSR1, training goes on to the next such moment, writes the state and stops; at
    the second it stops at once. All processes of a training do so at the same step, whichever got the signal.

    Raises:
        ConfigError: an interval that is not positive.
    """

    def __init__(self, path: Path, every_n_steps: int | None = None, every_minutes: float | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"checkpoint.steps={every_n_steps} must be at least 1, or null.")
        if every_minutes is not None and not every_minutes > 0:
            raise ConfigError(f"checkpoint.minutes={every_minutes} must be above 0, or null.")
        self.path = path
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.validation: dict[str, float] = {}  # numbers of the last validation
        self._signal: int | None = None  # that asked to stop
        self._previous: dict[int, Any] = {}
        self._written, self._step = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals while training lasts; not earlier, as Lightning sets handlers of its own before this."""
        self._signal, self._written, self._step = None, time.monotonic(), trainer.global_step
        # Only the main thread may set handlers; a notebook's or a server's thread keeps its own.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in STOP_SIGNALS}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Write after a step that no validation follows, if it is time or a signal has come."""
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and not _validates_now(trainer) and self._is_time(trainer):
            self._write(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write; callbacks that keep the best weights have come before."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        logged = trainer.callback_metrics
        self.validation = {name: float(value) for name, value in logged.items() if name.startswith("val/")}
        if not trainer.fit_loop._should_accumulate():
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last state, and stop if a signal came in the last step."""
        self._write(trainer)
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the handlers back; after an exception no ``on_train_end`` comes."""
        self._give_back()

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of the last validation."""
        return {"validation": self.validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.validation = state_dict["validation"]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number

    def _is_time(self, trainer: Trainer) -> bool:
        minutes = (time.monotonic() - self._written) / 60
        due = self._signal is not None or (self.every_minutes is not None and minutes >= self.every_minutes)
        # The clocks of two processes differ, and a signal may reach a single process.
        due = trainer.strategy.reduce_boolean_decision(due, all=False)
        return due or (self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0)

    def _write(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._written = time.monotonic()
        by_user = trainer.strategy.reduce_boolean_decision(self._signal == signal.SIGINT, all=False)
        if by_user or trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False):
            text = f"Stopped after step {trainer.global_step}; the state is in {self.path}."
            raise StoppedByUser(text) if by_user else Preempted(text, self._signal)

    def _give_back(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())


def _validates_now(trainer: Trainer) -> bool:
    """Whether Lightning validates after this batch, as its own ``_should_check_val_fx`` does for our trainers."""
    interval = trainer.val_check_batch
    if not trainer.enable_validation or not interval:
        return False
    return (trainer.fit_loop.epoch_loop.total_batch_idx + 1) % interval == 0


class KeepBest(ModelCheckpoint):
    """Write the weights whenever validation improves, and bring the best back after training.

    ``path`` has no suffix; ``monitor`` is the logged number that should be small. A resumed run goes on with the best
    of both parts.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        super().__init__(path.parent, path.name, monitor, save_weights_only=True, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what was best; where the run's folder has been moved, the weights moved with it."""
        folder = str(self.dirpath)

        def here(path: str) -> str:
            return os.path.join(folder, os.path.basename(path)) if path else ""

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
        known = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": known, "dirpath": folder})

    def restore(self, task: LightningModule) -> None:
        """Load the best weights into a task if a validation wrote any; the last weights stay in ``last.ckpt``.

        Raises:
            CheckpointError: their file is gone or damaged.
        """
        if not self.best_model_path:
            return
        checkpoint = read_torch(Path(self.best_model_path))
        task.on_load_checkpoint(checkpoint)
        task.load_state_dict(checkpoint["state_dict"], strict=task.strict_loading)


class AtomicCheckpointIO(CheckpointIO):
    """Write beside the target, under a temporary name, and rename; read tensors and plain values alone.

    Lightning writes into the system's folder for temporary files, which is often another disk, and then copies: after
    a power cut, or for a reader meanwhile, half a checkpoint lies there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; the previous file stays until the new one is whole.

        Raises:
            ResourceError: the disk is full, or may not be written to.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # else the name could reach the disk before the content
            part.replace(target)
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of some failures to write
            part.unlink(missing_ok=True)
            kept = f"the last state is still in {target}" if target.is_file() else "there is none before it"
            raise ResourceError(
                f"The state could not be written to {target} ({_reason(error)}); {kept}. Make room on that disk, then "
                "go on with the run."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU without running code in it; a damaged file raises a CheckpointError."""
        return read_torch(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, if it exists."""
        Path(path).unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """Return the system's first complaint: torch closes the file on its way out, and fails again."""
    while error.__context__ is not None:
        error = error.__context__
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).splitlines()[0]
