"""Training that tells how far it is."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from iin_lightning.data.told import tell


class Told(Callback):
    """Tells ``data.told``'s listeners the step, and where Lightning logs, the loss, too.

    Args:
        what: is trained, in words.
    """

    def __init__(self, what: str = "Training") -> None:
        self.what = what

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell it; the loss more seldom, since the host waits for the device to know it."""
        step, loss = trainer.global_step, None
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every == 0:
            loss = next(
                (float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")), None
            )
        tell(self.what, step, int(trainer.max_steps), loss)
