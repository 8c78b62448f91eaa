"""Ctrl-C that loses nothing."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from iin_lightning.errors import StoppedByUser


class GracefulStop(Callback):
    """Finish the current step at the first Ctrl-C (or SIGTERM), write a checkpoint, and stop.

    A step that is half done would leave the weights ahead of the step count, and a resumed run would not repeat
    what an uninterrupted one does. A second Ctrl-C stops at once.

    Args:
        checkpoint: where to write the state.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.requested = False
        self._previous: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, while training lasts."""
        # Only the main thread may set handlers; a notebook's or a server's thread keeps its own.
        if stage == "fit" and threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._request) for n in (signal.SIGINT, signal.SIGTERM)}

    def _request(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Stop here if asked to; all ranks at the same step."""
        if not trainer.strategy.reduce_boolean_decision(self.requested, all=False):
            return
        trainer.save_checkpoint(self.checkpoint)
        raise StoppedByUser(f"Stopped after step {trainer.global_step}; the state is in {self.checkpoint}.")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the handlers back; after an exception there is no teardown."""
        self._give_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the handlers back."""
        self._give_back()

    def _give_back(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
