"""The progress bar of a run that counts steps."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar


class StepProgress(RichProgressBar):
    """Lightning's bar without epochs, as one stream of batches makes the whole run, and with a loss when one is logged.

    What is logged for Lightning's own bar is read at every step, however seldom that is drawn, and the host waits for
    the device. So the first training value is taken here, from what loggers get.
    """

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
