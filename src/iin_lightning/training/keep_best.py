"""The weights of the best validation, for data so few that training goes past them."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint

from iin_lightning.bounded import read_torch


class KeepBest(ModelCheckpoint):
    """Write a checkpoint whenever the validation improves, and bring the best one back after training.

    What is selected is selected on validation data; a resumed run goes on with the best of both parts.

    Args:
        path: of the checkpoint, without its suffix.
        monitor: the logged number that should be small.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        super().__init__(path.parent, path.name, monitor, save_weights_only=True, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what was best, also where the run's folder has been moved: the weights moved with it."""
        folder = str(self.dirpath)

        def here(path: str) -> str:
            return os.path.join(folder, os.path.basename(path)) if path else ""

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
        known = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": known, "dirpath": folder})

    def restore(self, task: LightningModule) -> None:
        """Load the best weights into a task, if there was a validation; the last ones stay in ``last.ckpt``.

        Raises:
            CheckpointError: their file is gone or damaged.
        """
        if not self.best_model_path:
            return
        checkpoint = read_torch(Path(self.best_model_path))
        task.on_load_checkpoint(checkpoint)
        task.load_state_dict(checkpoint["state_dict"], strict=task.strict_loading)
