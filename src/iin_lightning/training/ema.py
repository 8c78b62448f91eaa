"""An exponential moving average of the weights, which is often better than the last step's.

Lightning's own `EMAWeightAveraging` averages the whole task, a frozen encoder with it, whose weights then differ in
their last bits; writes the weights without the average where a checkpoint holds weights alone (`KeepBest`); and cannot
resume from a checkpoint that leaves the encoder out.
"""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from iin_lightning.errors import ConfigError


class EMA(Callback):
    """Average the weights while training; validate, keep and save the average.

    ``average_n = d_n average_{n-1} + (1 - d_n) weights_n`` after step n = 0, 1, ..., with average_0 = weights_0 and
    ``d_n = min(decay, (1 + n) / (10 + n))``, which forgets the first steps even if the run is short.

    Training goes on from the weights themselves, and checkpoints to continue from hold both. After training the task
    holds the average.

    Raises:
        ConfigError: ``decay`` is outside (0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"The decay of an average lies in (0, 1), got {decay}: 0.999 averages some 1000 steps.")
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self._steps, self._weights = 0, dict[str, Tensor]()  # the weights, while the task holds the average

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the average of a checkpoint to the device."""
        self.average = {name: value.to(pl_module.device) for name, value in self.average.items()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Put the weights back; not at the end of validation, since `KeepBest` and `Pictures` come after all others."""
        self.put_back(pl_module)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Average the weights after a step; a batch that only accumulates gradients makes no step."""
        if trainer.global_step == self._steps:
            return
        weights = learned(pl_module)
        if self.average:
            decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
            get_ema_multi_avg_fn(decay)(list(self.average.values()), list(weights.values()), self._steps)
        else:
            self.average = {name: value.clone() for name, value in weights.items()}
        self._steps = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self.show(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the task."""
        self.show(pl_module)

    def show(self, task: LightningModule) -> None:
        """Let the task hold the average, once a step has made it."""
        if self.average and not self._weights:
            weights = learned(task)
            self._weights = {name: value.clone() for name, value in weights.items()}
            _copy(self.average, weights)

    def put_back(self, task: LightningModule) -> None:
        """Let the task hold the weights themselves again."""
        _copy(self._weights, learned(task))
        self._weights = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the weights to go on from, also while the task holds the average."""
        checkpoint["state_dict"].update(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and its number of steps."""
        return {"average": self.average, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.average, self._steps = state_dict["average"], state_dict["steps"]


def learned(network: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: parameters that learn, and the running statistics beside them."""
    found: dict[str, Tensor] = {}
    for prefix, module in network.named_modules():
        own = {name: p for name, p in module.named_parameters(recurse=False) if p.requires_grad}
        if own:
            own |= {name: b for name, b in module.named_buffers(recurse=False) if b.is_floating_point()}
        found |= {f"{prefix}.{name}".lstrip("."): value.detach() for name, value in own.items()}
    return found


@torch.no_grad()
def _copy(values: dict[str, Tensor], to: dict[str, Tensor]) -> None:
    for name, value in values.items():
        to[name].copy_(value)
