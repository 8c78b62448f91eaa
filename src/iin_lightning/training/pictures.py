"""What a run shows while it trains: pictures of the same images every time, and histograms of gradients and factors."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, WandbLogger
from torch import Tensor

from iin_lightning.analysis.swap import swap_grid
from iin_lightning.encoders.base import Encoder
from iin_lightning.errors import ConfigError
from iin_lightning.factors import RESIDUAL, PairBatch
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.gaussianity import moments
from iin_lightning.plots.grids import reconstruction_figure, sample_figure, swap_figure, walk_figure
from iin_lightning.plots.style import save

ROWS, COLUMNS = 6, 6  # three grids of them stand side by side on a page
BINS = 64


@torch.no_grad()
def interpreter_figures(interpreter: Interpreter, images: Tensor) -> dict[str, Figure]:
    """Draw held-out images (B,C,H,W) in [-1,1] as an interpreter of an image decoder sees them.

    The figures are ``reconstructions`` and ``samples``; of 2 images and more also ``interpolations`` and ``swap`` (a
    grid for each factor), with up to 6 images as targets and up to 6 others as sources.
    """
    rows = min(ROWS, len(images) // 2)
    targets, sources = images[:rows], images[rows : rows + COLUMNS]
    concepts = interpreter.factors.concepts
    figures = {
        "reconstructions": reconstruction_figure(images, interpreter.reconstruct(images)),
        "samples": sample_figure(*_samples(interpreter, images, 72)),
    }
    if rows:
        figures["interpolations"] = walk_figure(interpreter.interpolate(targets, images[rows : 2 * rows], steps=12))
    if rows and concepts:
        grids = {name: swap_grid(interpreter, targets, sources, name) for name in (*concepts, RESIDUAL)}
        figures["swap"] = swap_figure(targets, sources, grids)
    return figures


def _samples(interpreter: Interpreter, images: Tensor, count: int) -> tuple[Tensor, int, str]:
    """Sample by Eq. 13, concepts from images: a concept of few classes has few values, and N(0, 1) draws between."""
    generator = torch.Generator().manual_seed(0)
    concepts = interpreter.factors.concepts
    if not concepts:
        return interpreter.sample(count, generator), 12, "samples"
    z_tilde = torch.randn(count, interpreter.factors.latent_dim, generator=generator).to(interpreter.device)
    parts, known = interpreter.factors.split(z_tilde), interpreter.factors_of(images)
    for name in concepts:
        parts[name] = known[name][torch.randint(len(images), (count,), generator=generator).to(interpreter.device)]
    drawn = interpreter.decode(interpreter.untranslate(interpreter.factors.merge(parts)))
    return drawn, 12, "samples of the residual"


@torch.no_grad()
def autoencoder_figures(network: Encoder, images: Tensor) -> dict[str, Figure]:
    """Draw reconstructions of held-out images."""
    device = next(network.parameters()).device
    return {"reconstructions": reconstruction_figure(images, network.decode(network.encode(images.to(device)).mean))}


class Pictures(Callback):
    """Draw fixed held-out images (B,C,H,W) in [-1,1] after each validation, and log the figures.

    ``folder`` gets a ``{name}.png`` for each figure; a validation replaces those of the last, W&B keeps all.
    """

    def __init__(self, draw: Callable[[Tensor], Mapping[str, Figure]], images: Tensor, folder: Path) -> None:
        self.draw = draw
        self.images = images
        self.folder = folder

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, unless it is the check before training."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        training = pl_module.training
        pl_module.eval()
        paths = {name: save(figure, self.folder / f"{name}.png") for name, figure in self.draw(self.images).items()}
        pl_module.train(training)
        log_pictures(trainer.loggers, paths, trainer.global_step)


def log_pictures(
    loggers: Sequence[Logger], paths: Mapping[str, Path], step: int | None, group: str = "figures"
) -> None:
    """Hand pictures to W&B, if a run is logged there, as ``group/name``."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for name, path in paths.items():
                logger.log_image(f"{group}/{name}", [str(path)], step=step)


class Histograms(Callback):
    """Log histograms to W&B, and their summaries to every logger.

    At every so many steps ``gradients/<block>``: the gradients of a block of the network before clipping, with their
    norm. At each validation, for a factor F of D_F dimensions, ``latents/F/means``, ``stds`` and ``kurtoses``: D_F
    numbers that should be near 0, 1 and 0; ``latents/F/mean``, ``std`` and ``kurtosis`` are root mean squares of their
    deviation from these. With several processes z̃ are those of the first.

    ``WandbLogger.watch`` has a hook at each parameter at every step, names no blocks, and leaves out other loggers.

    Raises:
        ConfigError: ``every`` is not positive.
    """

    def __init__(self, every: int = 100) -> None:
        if every < 1:
            raise ConfigError(f"callbacks.histograms.every={every} is no number of steps: 100 says every 100 steps.")
        self.every = every
        self._z_tilde: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Log the gradients that the step will use, of all processes together."""
        if not trainer.is_global_zero or trainer.global_step % self.every:
            return
        parts: dict[str, list[Tensor]] = {}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                parts.setdefault(block(name), []).append(parameter.grad.detach().flatten().float())
        gradients = {f"gradients/{name}": torch.cat(values) for name, values in parts.items()}
        _log(trainer, {f"{name}/norm": values.norm().item() for name, values in gradients.items()}, gradients)

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Translate a batch of latents."""
        interpreter = getattr(pl_module, "interpreter", None)
        if isinstance(interpreter, Interpreter) and trainer.is_global_zero and not trainer.sanity_checking:
            z = batch.a if isinstance(batch, PairBatch) else batch  # both halves of pairs have the same distribution
            self._z_tilde.append(interpreter.translator(z)[0].cpu())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the moments of the factors."""
        z_tilde = torch.cat(self._z_tilde) if self._z_tilde else torch.empty(0, 0)
        self._z_tilde = []
        if len(z_tilde) < 2:
            return
        numbers, histograms = dict[str, float](), dict[str, Tensor]()
        interpreter: Any = pl_module.interpreter
        for name, part in interpreter.factors.split(z_tilde).items():
            found = moments(part)
            for moment, plural, values, wanted in (
                ("mean", "means", found.mean, 0),
                ("std", "stds", found.std, 1),
                ("kurtosis", "kurtoses", found.kurtosis, 0),
            ):
                numbers[f"latents/{name}/{moment}"] = (values - wanted).square().mean().sqrt().item()
                histograms[f"latents/{name}/{plural}"] = values
        _log(trainer, numbers, histograms)


def block(parameter: str) -> str:
    """Return the block of a parameter: its name down to the first number ("translator.blocks.2"), else its module."""
    numbered = re.match(r"(.*?\.\d+)\.", parameter)
    return numbered[1] if numbered else parameter.rpartition(".")[0] or parameter


def _log(trainer: Trainer, numbers: Mapping[str, float], histograms: Mapping[str, Tensor]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=trainer.global_step)
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415

            # wandb makes no histogram of values that are not finite.
            finite = {name: values[values.isfinite()].tolist() for name, values in histograms.items()}
            drawn = {name: wandb.Histogram(values, num_bins=BINS) for name, values in finite.items() if len(values)}
            logger.log_metrics(drawn, step=trainer.global_step)  # type: ignore[arg-type]
