"""What all tasks share: built objects in, one optimizer and one schedule, and a loss that must be finite.

No task uses manual optimization: under it Lightning counts the steps of every optimizer, so that ``max_steps`` and
schedules run out early when there are two (a discriminator's, say). One optimizer with several parameter groups
does the same work, and clipping, mixed precision and accumulation stay Lightning's.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from iin_lightning.errors import CheckpointError
from iin_lightning.layers.collective import mean_over_ranks, world_size
from iin_lightning.training.finite import StaysFinite

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class Task(StaysFinite):
    """A network and a loss that Lightning trains.

    Args:
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> schedule, advanced once a step.
        on_nan: see ``StaysFinite``.
    """

    monitor = "val/loss"
    """What should be small on validation data."""

    def __init__(self, optimizer: OptimizerFactory, scheduler: SchedulerFactory, on_nan: str = "stop") -> None:
        super().__init__(on_nan)
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer; here one of all that require a gradient."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """One optimizer, one schedule, advanced each step."""
        optimizer = self.make_optimizer(self.parameter_groups())
        self._rates = [group["lr"] for group in optimizer.param_groups]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "step", "name": "lr"},
        }

    def on_train_start(self) -> None:
        """Take the rates that were asked for: a checkpoint brings back those of the run that wrote it."""
        super().on_train_start()
        scheduler: Any = self.lr_schedulers()
        for group, rate in zip(scheduler.optimizer.param_groups, self._rates):
            group["lr"] *= rate / group["initial_lr"]
            group["initial_lr"] = rate
        scheduler.base_lrs = list(self._rates)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let loggers count steps as they are: going on from a state, Lightning may count one too many or too few."""
        super().on_train_batch_start(batch, batch_idx)
        loop: Any = self.trainer.fit_loop.epoch_loop  # typed as its base class
        loop._batches_that_stepped = self.global_step

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, or drop them if the step is skipped; those of a fused optimizer under bf16-mixed, too.

        Lightning refuses that, because with a gradient scaler a fused step undoes the scaling itself, after clipping;
        but bf16 has no scaler.
        """
        if self.skip_if_broken(optimizer):
            return
        precision: Any = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is None:
            algorithm: Any = gradient_clip_algorithm or "norm"
            Precision.clip_gradients(precision, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture.

        Raises:
            CheckpointError: names what differs.
        """
        super().on_load_checkpoint(checkpoint)
        check_state(self.kept_state(), checkpoint["state_dict"])

    def kept_state(self) -> dict[str, Tensor]:
        """The weights that a checkpoint holds."""
        return self.state_dict()

    def log_terms(self, stage: str, terms: dict[str, Tensor], batch_size: int) -> None:
        """Log scalars as ``stage/name``, the first one of validation and test on the progress bar.

        Lightning reads what is on the bar after each batch; that of training `StepProgress` takes more seldom. All
        processes have equally many training rows, so that the mean of their scalars is that of the batch.
        """
        held_out = stage != "train"
        if not held_out and world_size() > 1:
            # At once: Lightning would let the processes wait for each other once a scalar.
            terms = dict(zip(terms, mean_over_ranks(torch.stack([value.float() for value in terms.values()]))))
        for i, (name, value) in enumerate(terms.items()):
            self.log(f"{stage}/{name}", value, prog_bar=held_out and i == 0, batch_size=batch_size, sync_dist=held_out)


def check_state(own: dict[str, Tensor], loaded: dict[str, Tensor]) -> None:
    """Compare the names and shapes of two sets of weights.

    Raises:
        CheckpointError: lists up to three differences and the cure.

    Example:
        >>> check_state({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
        Traceback (most recent call last):
        ...
        iin_lightning.errors.CheckpointError: The checkpoint is of another architecture: a is (3,), here (2,). Build ...
    """
    wrong = [f"{k} is missing" for k in own.keys() - loaded.keys()]
    wrong += [f"{k} is not known here" for k in loaded.keys() - own.keys()]
    wrong += [
        f"{k} is {tuple(loaded[k].shape)}, here {tuple(v.shape)}"
        for k, v in own.items()
        if k in loaded and loaded[k].shape != v.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"The checkpoint is of another architecture: {'; '.join(sorted(wrong)[:3])}{more}. "
            "Build the network as it was trained: its config.yaml says how (encoder.latent_dim, flow, model.factors)."
        )
