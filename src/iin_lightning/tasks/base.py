"""What all tasks share: built objects in, one optimizer and one schedule, and a loss that must be finite.

No task uses manual optimization: under it Lightning counts the steps of every optimizer, so that ``max_steps`` and
schedules run out early when there are two (a discriminator's, say). One optimizer with several parameter groups
does the same work, and clipping, mixed precision and accumulation stay Lightning's.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from iin_lightning.errors import CheckpointError, NonFiniteError

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

STEPS_BETWEEN_CHECKS = 50
CURE = "Continue from the last checkpoint with a lower model.lr or model.gradient_clip, or mend the data."


class Task(LightningModule):
    """A network and a loss that Lightning trains.

    Args:
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> schedule, advanced once a step.
    """

    monitor = "val/loss"
    """What should be small on validation data."""

    def __init__(self, optimizer: OptimizerFactory, scheduler: SchedulerFactory) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self._first_broken: Tensor | None = None  # the first step whose loss is not finite, or -1; on the loss's device

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
        self._first_broken = None
        scheduler: Any = self.lr_schedulers()
        for group, rate in zip(scheduler.optimizer.param_groups, self._rates):
            group["lr"] *= rate / group["initial_lr"]
            group["initial_lr"] = rate
        scheduler.base_lrs = list(self._rates)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of a fused optimizer under bf16-mixed, too.

        Lightning refuses that, because with a gradient scaler a fused step undoes the scaling itself, after clipping;
        but bf16 has no scaler.
        """
        precision: Any = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is None:
            algorithm: Any = gradient_clip_algorithm or "norm"
            Precision.clip_gradients(precision, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write no checkpoint that nobody could continue from.

        Raises:
            NonFiniteError: a loss since the last look, or a weight, is not finite.
        """
        self._stop_if_broken("it was seen when the state was to be written")
        for name, value in checkpoint["state_dict"].items():
            if not torch.isfinite(value).all():
                raise NonFiniteError(
                    f"After step {self.global_step - 1}, {name} has values that are not finite, so no checkpoint is "
                    f"written. {CURE}"
                )

    def on_train_end(self) -> None:
        """Look at the last losses.

        Raises:
            NonFiniteError: one of them is not finite.
        """
        self._stop_if_broken("it was seen at the end of training")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture.

        Raises:
            CheckpointError: names what differs.
        """
        check_state(self.state_dict(), checkpoint["state_dict"])

    @property
    def batches_done(self) -> int:
        """Training batches of this process before the present one; several make a step where gradients accumulate."""
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total  # typed as its base class
        return int(total.processed)

    def log_terms(self, stage: str, terms: dict[str, Tensor], batch_size: int) -> None:
        """Log scalars as ``stage/name``, the first one of validation and test on the progress bar.

        Lightning reads what is on the bar after each batch; that of training `StepProgress` takes more seldom.
        """
        held_out = stage != "train"
        for i, (name, value) in enumerate(terms.items()):
            self.log(f"{stage}/{name}", value, prog_bar=held_out and i == 0, batch_size=batch_size, sync_dist=held_out)

    def require_finite(self, loss: Tensor, diagnose: Callable[[], str]) -> Tensor:
        """Stop before a loss that is not finite reaches the weights.

        Args:
            loss: a scalar.
            diagnose: says where it came from; called only then.

        Raises:
            NonFiniteError: names the step and what ``diagnose`` found.
        """
        if waits_for_nothing(loss.device):
            if not torch.isfinite(loss):
                raise NonFiniteError(f"The loss of step {self.global_step} is {loss.item()}: {diagnose()}. {CURE}")
            return loss
        # The host would wait for the device to read a scalar, so the device itself keeps in mind what broke first.
        if self._first_broken is None:
            self._first_broken = torch.full((), -1, device=loss.device)
        broken = ~torch.isfinite(loss.detach()) & (self._first_broken < 0)
        self._first_broken.masked_fill_(broken, self.global_step)
        if self.global_step % STEPS_BETWEEN_CHECKS == 0:
            self._stop_if_broken(diagnose)
        return loss

    def _stop_if_broken(self, said: str | Callable[[], str]) -> None:
        first = -1 if self._first_broken is None else int(self._first_broken)
        if first >= 0:
            said = said if isinstance(said, str) else said()
            raise NonFiniteError(f"The loss of step {first} is not finite: {said}. {CURE}")


def waits_for_nothing(device: torch.device) -> bool:
    """Whether a value on a device can be read at once; others work behind the host, which would have to wait."""
    return device.type == "cpu"


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
