"""Pictures while training: the same images every time, in the run folder and in the logger."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, WandbLogger
from torch import Tensor

from iin_lightning.analysis.swap import swap_grid
from iin_lightning.encoders.base import Encoder
from iin_lightning.interpreter import Interpreter
from iin_lightning.plots.grids import reconstruction_figure, sample_figure, swap_figure, walk_figure
from iin_lightning.plots.style import save

ROWS, COLUMNS = 6, 6  # three grids of them stand side by side on a page


@torch.no_grad()
def interpreter_figures(interpreter: Interpreter, images: Tensor) -> dict[str, Figure]:
    """What an interpreter of an image decoder can show of held-out images.

    Args:
        interpreter: whose network decodes to images.
        images: held-out images (B,C,H,W) in [-1,1]; up to 6 are targets, up to 6 others sources.

    Returns:
        ``reconstructions`` and ``samples``; of 2 images and more ``interpolations``, too, and ``swap`` (a grid for
        each factor).
    """
    rows = min(ROWS, len(images) // 2)
    targets, sources = images[:rows], images[rows : rows + COLUMNS]
    concepts = interpreter.factors.concepts
    names = [*concepts, *(name for name in interpreter.factors if name not in concepts)]
    figures = {
        "reconstructions": reconstruction_figure(images, interpreter.reconstruct(images)),
        "samples": sample_figure(*_samples(interpreter, images, 72)),
    }
    if rows:
        walk = interpreter.interpolate(targets, images[rows : 2 * rows], steps=12)
        figures["interpolations"] = walk_figure(walk)
    if rows and concepts:
        grids = {name: swap_grid(interpreter, targets, sources, name) for name in names}
        figures["swap"] = swap_figure(targets, sources, grids)
    return figures


def _samples(interpreter: Interpreter, images: Tensor, count: int) -> tuple[Tensor, int, str]:
    """Eq. 13; but a concept of few classes has few values, between which N(0, 1) would draw."""
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
    """What an autoencoder can show before it is explained: reconstructions of held-out images."""
    device = next(network.parameters()).device
    return {"reconstructions": reconstruction_figure(images, network.decode(network.encode(images.to(device)).mean))}


class Pictures(Callback):
    """Draw after each validation, and log the figures.

    Args:
        draw: images -> figures by name.
        images: fixed held-out images (B,C,H,W) in [-1,1].
        folder: where ``{name}.png`` is written; each validation replaces the last one's, W&B keeps all.
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
