"""The weights of the best validation, for data so few that training goes past them."""

from pathlib import Path

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint


class KeepBest(ModelCheckpoint):
    """Write a checkpoint whenever the validation improves, and bring the best one back after training.

    What is selected is selected on validation data; a resumed run goes on with the best of both parts.

    Args:
        path: of the checkpoint, without its suffix.
        monitor: the logged number that should be small.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        super().__init__(path.parent, path.name, monitor, save_weights_only=True, enable_version_counter=False)

    def restore(self, task: LightningModule) -> None:
        """Load the best weights into a task, if there was a validation; the last ones stay in ``last.ckpt``."""
        if not self.best_model_path:
            return
        checkpoint = torch.load(self.best_model_path, map_location="cpu", weights_only=True)
        task.on_load_checkpoint(checkpoint)
        task.load_state_dict(checkpoint["state_dict"], strict=task.strict_loading)
