"""What all tasks share: built objects in, one optimizer and one schedule, and a loss that must be finite.

No task uses manual optimization: under it Lightning counts the steps of every optimizer, so that ``max_steps`` and
schedules run out early when there are two (a discriminator's, say). One optimizer with several parameter groups
does the same work, and clipping, mixed precision and accumulation stay Lightning's.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from iin_lightning.errors import NonFiniteError

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

STEPS_BETWEEN_CHECKS = 50


class Task(LightningModule):
    """A network and a loss that Lightning trains.

    Args:
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> schedule, advanced once a step.
    """

    def __init__(self, optimizer: OptimizerFactory, scheduler: SchedulerFactory) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; here one of all that require a gradient."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """One optimizer, one schedule, advanced each step."""
        optimizer = self.make_optimizer(self.parameter_groups())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "step", "name": "lr"},
        }

    def log_terms(self, stage: str, terms: dict[str, Tensor], batch_size: int) -> None:
        """Log scalars as ``stage/name``, the first one on the progress bar."""
        for i, (name, value) in enumerate(terms.items()):
            self.log(f"{stage}/{name}", value, prog_bar=i == 0, batch_size=batch_size, sync_dist=stage != "train")

    def require_finite(self, loss: Tensor, diagnose: Callable[[], str]) -> Tensor:
        """Stop before a loss that is not finite reaches the weights.

        Args:
            loss: a scalar.
            diagnose: says where it came from; called only then.

        Raises:
            NonFiniteError: names the step and what ``diagnose`` found.
        """
        # Reading a scalar makes a GPU wait for the host, so there it is not done at every step.
        interval = 1 if loss.device.type == "cpu" else STEPS_BETWEEN_CHECKS
        if self.global_step % interval == 0 and not torch.isfinite(loss):
            raise NonFiniteError(
                f"The loss of step {self.global_step} is {loss.item()}: {diagnose()}. The last checkpoint is valid; "
                "continue from it with a lower model.lr or trainer.gradient_clip_val, or mend the data."
            )
        return loss
