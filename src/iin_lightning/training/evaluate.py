"""Evaluate an interpreter on held-out images, on as many devices as the trainer has."""

from typing import Any

import torch
from pytorch_lightning import LightningModule

from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.measured import flat
from iin_lightning.metrics.transfer import FactorTransfer


class Evaluate(LightningModule):
    """Swap factors between held-out images and log what comes of it as ``test/transfer/...``, its errors beside it.

    Args:
        interpreter: what is evaluated.
        transfer: the metric.
    """

    def __init__(self, interpreter: Interpreter, transfer: FactorTransfer) -> None:
        super().__init__()
        self.interpreter = interpreter
        self.transfer = transfer

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """One batch of targets and sources with their labels."""
        (target, target_labels), (source, source_labels), images = batch
        # A precision is one of training: Lightning's covers tests, too, and networks in evaluation mode.
        with torch.autocast(self.device.type, enabled=False):
            self.transfer.update(self.interpreter, target, target_labels, source, source_labels, images)

    def on_test_epoch_end(self) -> None:
        """Log the means over all batches and ranks."""
        scores = flat({f"test/transfer/{name}": score for name, score in self.transfer.compute().items()})
        # They are the same on all ranks; to say so spares Lightning's warning.
        self.log_dict(scores, sync_dist=True)
        self.transfer.reset()
