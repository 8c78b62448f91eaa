"""NaN and infinity: kept from the weights and out of checkpoints, and traced to the images that they came from."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from iin_lightning.errors import ConfigError, NonFiniteError, choices, listed

log = logging.getLogger(__name__)

STEPS_BETWEEN_CHECKS = 50
ON_NAN = ("stop", "skip")
MOST_SKIPPED = 10  # steps in a row: where the weights are broken no batch helps
NAMED_ITEMS = 12
CURE = "Continue from the last checkpoint with a lower model.lr or model.gradient_clip, or mend the data."


class StaysFinite(LightningModule):
    """A task whose weights stay finite.

    Args:
        on_nan: what to do where a loss or a gradient is not finite: "stop", before it reaches the weights; or "skip",
            and leave weights and running statistics as they are in that step, for which the host waits for the device
            in each.

    Raises:
        ConfigError: on_nan is neither.
    """

    def __init__(self, on_nan: str = "stop") -> None:
        if on_nan not in ON_NAN:
            raise ConfigError(f"There is no on_nan={on_nan}; {choices(on_nan, ON_NAN)}.")
        super().__init__()
        self.on_nan = on_nan
        self.skipped = 0  # steps, in this run and in those that it resumes
        self._in_a_row = 0
        # The first batch whose loss is not finite, or -1; on the loss's device.
        self._first_broken: Tensor | None = None
        self._statistics: dict[str, Tensor] = {}  # running ones, as they were before the step

    @property
    def batches_done(self) -> int:
        """Training batches of this process before the present one; several make a step where gradients accumulate."""
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total  # typed as its base class
        return int(total.processed)

    def require_finite(self, loss: Tensor, diagnose: Callable[[], str]) -> Tensor:
        """Stop before a loss that is not finite reaches the weights, unless such steps are skipped.

        Args:
            loss: a scalar.
            diagnose: says where it came from; called only then.

        Raises:
            NonFiniteError: names the step, the items of its batch and what ``diagnose`` found.
        """
        if self.on_nan == "skip":
            return loss
        if waits_for_nothing(loss.device):
            if not torch.isfinite(loss):
                items = self._items(self.batches_done)
                raise NonFiniteError(
                    f"The loss of step {self.global_step}{items} is {loss.item()}: {diagnose()}. {CURE}"
                )
            return loss
        # The host would wait for the device to read a scalar, so the device itself keeps in mind what broke first.
        if self._first_broken is None:
            self._first_broken = torch.full((), -1, device=loss.device)
        broken = ~torch.isfinite(loss.detach()) & (self._first_broken < 0)
        self._first_broken.masked_fill_(broken, self.batches_done)
        if self.global_step % STEPS_BETWEEN_CHECKS == 0:
            self._stop_if_broken(diagnose)
        return loss

    def skip_if_broken(self, optimizer: Optimizer) -> bool:
        """Drop the gradients of a step if one is not finite; all processes do, since they share gradients.

        Raises:
            NonFiniteError: it is the tenth step in a row.
        """
        # A gradient scaler looks for itself, and lowers its scale.
        if self.on_nan != "skip" or getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return False
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self._in_a_row = 0
            return False
        # An optimizer moves no weight that has no gradient, nor what it keeps beside it.
        optimizer.zero_grad(set_to_none=True)
        for name, value in self._statistics.items():
            self.get_buffer(name).copy_(value)
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        items = self._items(self.batches_done)
        if self._in_a_row == MOST_SKIPPED:
            raise NonFiniteError(f"The gradients of {MOST_SKIPPED} steps in a row are not finite, last{items}. {CURE}")
        log.warning("Step %d is skipped: its gradient%s is not finite.", self.global_step, items)
        return True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Keep what the forward pass changes, and dropping gradients would not undo: a batch norm's statistics."""
        if self.on_nan == "skip" and self.batches_done % self.trainer.accumulate_grad_batches == 0:
            self._statistics = {name: b.clone() for name, b in self.named_buffers() if b.is_floating_point()}

    def on_train_start(self) -> None:
        """Begin to look."""
        self._first_broken, self._in_a_row = None, 0

    def on_train_end(self) -> None:
        """Look at the last losses.

        Raises:
            NonFiniteError: one of them is not finite.
        """
        self._stop_if_broken("it was seen at the end of training")

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
        checkpoint["skipped"] = self.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting; a checkpoint of the best weights is read at the end, and knows of fewer."""
        self.skipped = max(self.skipped, checkpoint.get("skipped", 0))

    def _stop_if_broken(self, said: str | Callable[[], str]) -> None:
        first = -1 if self._first_broken is None else int(self._first_broken)
        if first >= 0:
            said = said if isinstance(said, str) else said()
            step = first // self.trainer.accumulate_grad_batches
            raise NonFiniteError(f"The loss of step {step}{self._items(first)} is not finite: {said}. {CURE}")

    def _items(self, batch: int) -> str:
        """The items of a training batch of this process, for a sentence; nothing where its data set cannot say."""
        indices = getattr(getattr(self.trainer.train_dataloader, "dataset", None), "indices", None)
        if indices is None:
            return ""
        found = indices(batch)
        parts = found if isinstance(found, tuple) else (found,)
        return f" (items {listed([str(i) for part in parts for i in part.tolist()], NAMED_ITEMS)} of the training data)"


def waits_for_nothing(device: torch.device) -> bool:
    """Whether a value on a device can be read at once; others work behind the host, which would have to wait."""
    return device.type == "cpu"
