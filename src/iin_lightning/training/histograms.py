"""How gradients and factors are distributed while training, for W&B; their summaries for every logger."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from iin_lightning.errors import ConfigError
from iin_lightning.factors import PairBatch
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.gaussianity import moments

BINS = 64


class Histograms(Callback):
    """Log histograms of the gradients of each block now and then, and of what z̃ are like at each validation.

    Of a block: ``gradients/<block>``, its gradients before clipping, and their norm. Of a factor F with D_F dimensions,
    where a translator is trained: ``latents/F/means``, ``stds`` and ``kurtoses``, histograms of D_F numbers, which
    should be near 0, 1 and 0; ``latents/F/mean``, ``std`` and ``kurtosis`` are root mean squares over dimensions of the
    deviation from these. With several processes z̃ are those of the first.

    Not ``WandbLogger.watch``, which has a hook at each parameter at every step, names no blocks, and leaves out other
    loggers.

    Args:
        every: steps between the histograms of gradients.

    Raises:
        ConfigError: ``every`` is not positive.
    """

    def __init__(self, every: int = 100) -> None:
        if every < 1:
            raise ConfigError(f"callbacks.histograms.every={every} is no number of steps: 100 says every 100 steps.")
        self.every = every
        self._z_tilde: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the gradients that the step will use, of all processes together."""
        if not trainer.is_global_zero or trainer.global_step % self.every:
            return
        found: dict[str, list[Tensor]] = {}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                found.setdefault(block(name), []).append(parameter.grad.detach().flatten().float())
        gradients = {f"gradients/{name}": torch.cat(parts) for name, parts in found.items()}
        _log(trainer, {f"{name}/norm": values.norm().item() for name, values in gradients.items()}, gradients)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._z_tilde = []

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Translate a batch of latents."""
        interpreter = getattr(pl_module, "interpreter", None)
        if isinstance(interpreter, Interpreter) and trainer.is_global_zero and not trainer.sanity_checking:
            # The other half of pairs is distributed as the first.
            z = batch.a if isinstance(batch, PairBatch) else batch
            self._z_tilde.append(interpreter.translator(z)[0].cpu())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the factors are like."""
        z_tilde = torch.cat(self._z_tilde) if self._z_tilde else torch.empty(0, 0)
        self._z_tilde = []
        if len(z_tilde) < 2:
            return
        numbers, histograms = dict[str, float](), dict[str, Tensor]()
        interpreter: Any = pl_module.interpreter
        for name, part in interpreter.factors.split(z_tilde).items():
            found = moments(part)
            for one, several, values, wanted in (
                ("mean", "means", found.mean, 0),
                ("std", "stds", found.std, 1),
                ("kurtosis", "kurtoses", found.kurtosis, 0),
            ):
                numbers[f"latents/{name}/{one}"] = (values - wanted).square().mean().sqrt().item()
                histograms[f"latents/{name}/{several}"] = values
        _log(trainer, numbers, histograms)


def block(parameter: str) -> str:
    """The block of a network that a parameter belongs to: down to the first number in its name, else its module.

    Example:
        >>> block("translator.blocks.2.coupling_1.conditioner.weights.0"), block("network.head.weight")
        ('translator.blocks.2', 'network.head')
    """
    numbered = re.match(r"(.*?\.\d+)\.", parameter)
    return numbered[1] if numbered else parameter.rpartition(".")[0] or parameter


def _log(trainer: Trainer, numbers: Mapping[str, float], histograms: Mapping[str, Tensor]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=trainer.global_step)
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415

            # Of values that are not finite there is no histogram.
            finite = {name: values[values.isfinite()].tolist() for name, values in histograms.items()}
            drawn = {name: wandb.Histogram(values, num_bins=BINS) for name, values in finite.items() if len(values)}
            logger.log_metrics(drawn, step=trainer.global_step)  # type: ignore[arg-type]
