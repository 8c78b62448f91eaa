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
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from iin_lightning.errors import CheckpointError
from iin_lightning.layers.collective import mean_over_ranks, world_size
from iin_lightning.training.finite import StaysFinite

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class Task(StaysFinite):
    """A network and a loss that Lightning trains, with a schedule that advances at each step.

    A subclass defines ``training_step`` and `evaluate`. ``on_nan`` is "stop" or "skip", see `StaysFinite`.
    """

    monitor = "val/loss"
    """The logged number that should be small on validation data."""

    def __init__(self, optimizer: OptimizerFactory, scheduler: SchedulerFactory, on_nan: str = "stop") -> None:
        super().__init__(on_nan)
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler

    def evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        """Log the numbers of a held-out batch; ``stage`` is "val" or "test"."""
        raise NotImplementedError

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate a batch of the validation split."""
        self.evaluate("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate a batch of the test split."""
        self.evaluate("test", batch, batch_idx)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups: a single group of all parameters that require a gradient."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule."""
        optimizer = self.make_optimizer(self.parameter_groups())
        self._rates = [group["lr"] for group in optimizer.param_groups]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "step", "name": "lr"},
        }

    def on_train_start(self) -> None:
        """Set the rates that this run asks for: a checkpoint brings back those of the run that wrote it."""
        super().on_train_start()
        scheduler: Any = self.lr_schedulers()
        for group, rate in zip(scheduler.optimizer.param_groups, self._rates):
            group["lr"] *= rate / group["initial_lr"]
            group["initial_lr"] = rate
        scheduler.base_lrs = list(self._rates)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Give loggers the true step: in a resumed run Lightning may count a step too many or too few."""
        super().on_train_batch_start(batch, batch_idx)
        loop: Any = self.trainer.fit_loop.epoch_loop  # typed as its base class
        loop._batches_that_stepped = self.global_step

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients, also of a fused optimizer under bf16-mixed; drop them where the step is skipped.

        Lightning refuses a fused optimizer, because with a gradient scaler a fused step undoes the scaling itself,
        after clipping; but bf16 has no scaler.
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
        """Raise a CheckpointError that names what differs, if the checkpoint is of another architecture."""
        super().on_load_checkpoint(checkpoint)
        check_state(self.kept_state(), checkpoint["state_dict"])

    def kept_state(self) -> dict[str, Tensor]:
        """Return the weights that a checkpoint holds."""
        return self.state_dict()

    def log_terms(self, stage: str, terms: dict[str, Tensor], batch_size: int) -> None:
        """Log scalars as ``stage/name``, the first of validation and test on the progress bar.

        Lightning reads what is on the bar after each batch; `StepProgress` reads the training loss less often. Training
        batches have equally many rows in all processes, so that the mean of their scalars is that of the batch.
        """
        held_out = stage != "train"
        if not held_out and world_size() > 1:
            # All terms in one message: Lightning would let the processes wait for each other at each scalar.
            terms = dict(zip(terms, mean_over_ranks(torch.stack([value.float() for value in terms.values()]))))
        for i, (name, value) in enumerate(terms.items()):
            self.log(f"{stage}/{name}", value, prog_bar=held_out and i == 0, batch_size=batch_size, sync_dist=held_out)


def check_state(own: dict[str, Tensor], loaded: dict[str, Tensor]) -> None:
    """Raise a CheckpointError with up to three differences, if names or shapes of two sets of weights differ."""
    wrong = [f"{name} is missing" for name in own.keys() - loaded.keys()]
    wrong += [f"{name} is not known here" for name in loaded.keys() - own.keys()]
    shapes = {name: (tuple(loaded[name].shape), tuple(own[name].shape)) for name in own.keys() & loaded.keys()}
    wrong += [f"{name} is {theirs}, here {ours}" for name, (theirs, ours) in shapes.items() if theirs != ours]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"The checkpoint is of another architecture: {'; '.join(sorted(wrong)[:3])}{more}. "
            "Build the network as it was trained: its config.yaml says how (encoder.latent_dim, flow, model.factors)."
        )


def warmup_linear(optimizer: Optimizer, steps: int, warmup: int = 0, hold: int = 0) -> LambdaLR:
    """Rise linearly for ``warmup`` steps, hold until step ``hold``, then fall linearly to 0 at ``steps``.

    The factor scales every parameter group's own rate; the schedule advances at each step.
    """
    start = max(warmup, hold)

    def scale(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        fall = min(1.0, max(steps - step, 0) / max(steps - start, 1))
        return min(rise, fall)

    return LambdaLR(optimizer, scale)
