"""The progress bar of a run that counts steps."""

import sys
from time import monotonic
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

from iin_lightning.progress import EVERY, say


class StepProgress(RichProgressBar):
    """Lightning's bar without epochs, as one stream of batches makes the whole run, and with a loss when one is logged.

    What is logged for Lightning's own bar is read at every step, however seldom that is drawn, and the host waits for
    the device. So the first training value is taken here, from what loggers get.

    Where there is no terminal, as in the log of a cluster's job, it is a line a minute.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        super().on_train_start(trainer, pl_module)
        self._began = self._said = monotonic()
        self._first = trainer.global_step  # of a run that goes on

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the bar, or say the line."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        now = monotonic()
        if now - self._said >= EVERY and self.is_enabled and not sys.stdout.isatty():
            self._said = now
            shown = {name: value for name, value in self.get_metrics(trainer, pl_module).items() if "/" in name}
            loss = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
            say("Training", trainer.global_step, int(trainer.max_steps), now - self._began, loss, self._first)

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not trainer.training or trainer.global_step % interval == 0:
            super()._update_metrics(trainer, pl_module)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Add the training loss."""
        shown = super().get_metrics(trainer, pl_module)
        logged = trainer.callback_metrics
        name = next((name for name in logged if name.startswith("train/")), None)
        return shown if name is None else {name: logged[name].item(), **shown}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{'Training':{len(self.validation_description)}}"
