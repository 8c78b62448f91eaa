"""NaN and infinity: kept from the weights and out of checkpoints, and traced to the layer and the images at fault."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
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

    Where a loss or a gradient is not finite, ``on_nan="stop"`` ends the training before it reaches the weights;
    ``"skip"`` leaves weights and running statistics as they are in that step, and for it the host waits for the device
    at each step.

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
        self._first_broken: Tensor | None = None  # the first batch whose loss is not finite, or -1; on the device
        self._statistics: dict[str, Tensor] = {}  # floating-point buffers, as they were before the step

    @property
    def batches_done(self) -> int:
        """Training batches of this process before the present batch; several make a step where gradients accumulate."""
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total  # typed as its base class
        return int(total.processed)

    def require_finite(self, loss: Tensor, diagnose: Callable[[], str]) -> Tensor:
        """Return a scalar loss, or stop before it reaches the weights; ``diagnose`` is called only then.

        Raises:
            NonFiniteError: names the step, the items of its batch and what ``diagnose`` found.
        """
        if self.on_nan == "skip":
            return loss
        # To read a scalar the host waits for a GPU, so the device itself remembers what broke first.
        if self._first_broken is None:
            self._first_broken = torch.full((), -1, device=loss.device)
        broken = ~torch.isfinite(loss.detach()) & (self._first_broken < 0)
        self._first_broken.masked_fill_(broken, self.batches_done)
        if waits_for_nothing(loss.device) or self.global_step % STEPS_BETWEEN_CHECKS == 0:
            self._stop_if_broken(diagnose)
        return loss

    def skip_if_broken(self, optimizer: Optimizer) -> bool:
        """Drop the gradients of a step if any is not finite; all processes do, since they share gradients.

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
        # An optimizer changes neither a weight without a gradient nor its own state of it.
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
        """Keep a batch norm's statistics, which the forward pass changes and dropped gradients would not restore."""
        if self.on_nan == "skip" and self.batches_done % self.trainer.accumulate_grad_batches == 0:
            self._statistics = {name: b.clone() for name, b in self.named_buffers() if b.is_floating_point()}

    def on_train_start(self) -> None:
        """Forget what an earlier training saw."""
        self._first_broken, self._in_a_row = None, 0

    def on_train_end(self) -> None:
        """Raise a NonFiniteError if a loss since the last check is not finite."""
        self._stop_if_broken("it was seen at the end of training")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to write a checkpoint from which no run could continue.

        Raises:
            NonFiniteError: a loss since the last check, or a weight, is not finite.
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
        """Go on counting; a checkpoint of the best weights is read at the end, and has counted fewer."""
        self.skipped = max(self.skipped, checkpoint.get("skipped", 0))

    def _stop_if_broken(self, where: str | Callable[[], str]) -> None:
        first = -1 if self._first_broken is None else int(self._first_broken)
        if first >= 0:
            where = where if isinstance(where, str) else where()
            step = first // self.trainer.accumulate_grad_batches
            raise NonFiniteError(f"The loss of step {step}{self._items(first)} is not finite: {where}. {CURE}")

    def _items(self, batch: int) -> str:
        """Name the items of a training batch of this process, where its data set can."""
        indices = getattr(getattr(self.trainer.train_dataloader, "dataset", None), "indices", None)
        if indices is None:
            return ""
        found = indices(batch)
        parts = found if isinstance(found, tuple) else (found,)
        return f" (items {listed([str(i) for part in parts for i in part.tolist()], NAMED_ITEMS)} of the training data)"


def waits_for_nothing(device: torch.device) -> bool:
    """Whether the host can read a value on a device at once; other devices work behind the host."""
    return device.type == "cpu"


@torch.no_grad()
def first_non_finite(network: nn.Module, x: Tensor) -> str:
    """Run a network on x (B, ...) again and name the first module whose output is not finite, as half a sentence.

    It runs in evaluation mode, so that no layer takes statistics from the batch under suspicion, and is left as it was.
    The host waits for the device at each module: meant for after a failure.
    """
    bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
    if bad:
        return f"{bad} of {len(x)} examples in the batch are not finite"
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            if not found and not all(torch.isfinite(t).all() for t in outputs if isinstance(t, Tensor)):
                found.append(f"layer {name!r} ({type(module).__name__}) is the first whose output is not finite")

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in network.named_modules() if name]
    was_training = network.training
    try:
        network.eval()(x)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return found[0] if found else "every layer's output is finite, so the loss itself overflowed"
