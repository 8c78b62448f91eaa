"""The state that a run goes on from: written where going on is exact, as a whole, and when somebody asks to stop."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from iin_lightning.errors import STOP_SIGNALS, ConfigError, Preempted, StoppedByUser


class Checkpoints(Checkpoint):
    """Write one checkpoint, again and again, from which training goes on as if nothing had happened.

    It is written after each validation, and, where none follows, after every so many steps and minutes. Between a step
    and its validation it is not: a run that goes on from there would leave that validation out, and with it perhaps the
    best weights. Nor is it while gradients accumulate, which no checkpoint holds.

    At the first Ctrl-C, SIGTERM or SIGUSR1, training goes on to the next such moment, writes the state and stops; at
    the second it stops at once. All processes of a training do so at the same step, whichever got the signal.

    Args:
        path: of the checkpoint.
        every_n_steps: optimizer steps, at least 1; None: only after validations.
        every_minutes: above 0; None: however long it takes.

    Raises:
        ConfigError: an interval that is none.
    """

    def __init__(self, path: Path, every_n_steps: int | None = None, every_minutes: float | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"checkpoint.steps={every_n_steps} must be at least 1, or null.")
        if every_minutes is not None and not every_minutes > 0:
            raise ConfigError(f"checkpoint.minutes={every_minutes} must be above 0, or null.")
        self.path = path
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.validation: dict[str, float] = {}  # what the last validation found
        self._asked: int | None = None  # the signal
        self._previous: dict[int, Any] = {}
        self._written, self._step = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen while training lasts; not earlier, as Lightning sets handlers of its own before this."""
        self._asked, self._written, self._step = None, time.monotonic(), trainer.global_step
        # Only the main thread may set handlers; a notebook's or a server's thread keeps its own.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in STOP_SIGNALS}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Write if it is time, or if somebody asked to stop; after a step that no validation follows."""
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
        """Write the last state, and stop if that was asked for in the last step."""
        self._write(trainer)
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the handlers back; after an exception there is no end of training."""
        self._give_back()

    def state_dict(self) -> dict[str, Any]:
        """What the last validation found."""
        return {"validation": self.validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.validation = state_dict["validation"]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            raise KeyboardInterrupt
        self._asked = number

    def _is_time(self, trainer: Trainer) -> bool:
        minutes = (time.monotonic() - self._written) / 60
        due = self._asked is not None or (self.every_minutes is not None and minutes >= self.every_minutes)
        # The clocks of two processes differ, and a signal may reach one of them alone.
        due = trainer.strategy.reduce_boolean_decision(due, all=False)
        return due or (self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0)

    def _write(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._written = time.monotonic()
        by_user = trainer.strategy.reduce_boolean_decision(self._asked == signal.SIGINT, all=False)
        if by_user or trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False):
            said = f"Stopped after step {trainer.global_step}; the state is in {self.path}."
            raise StoppedByUser(said) if by_user else Preempted(said, self._asked)

    def _give_back(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())


def _validates_now(trainer: Trainer) -> bool:
    """Whether Lightning validates after this batch: what it asks itself (`_should_check_val_fx`), for our trainers."""
    interval = trainer.val_check_batch
    if not trainer.enable_validation or not interval:
        return False
    return (trainer.fit_loop.epoch_loop.total_batch_idx + 1) % interval == 0
