"""``analysis=swap``: every target with every source, one factor at a time (Figs. 2, 5, 6)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from iin_lightning.analysis.swap import swap_errors, swap_grid
from iin_lightning.errors import ConfigError
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.grids import swap_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.subject import Subject

NOTHING = "nothing"


@torch.no_grad()
def swap(
    subject: Subject, *, targets: int, sources: int, factors: str | Sequence[str] | None, pairs: int, seed: int
) -> Answer:
    """A grid a factor, and the error of each factor when what was decoded is encoded again.

    Raises:
        ConfigError: the network decodes to no image, there is no concept, or there are too few images.
        FactorError: there is no factor of that name.
    """
    subject.need_images("swap")
    network = subject.interpreter
    if not network.factors.concepts:
        raise ConfigError(
            f"analysis=swap exchanges a concept and keeps the rest, but the translator of {subject.folder} was trained "
            f"without concepts, its only factor is the {RESIDUAL}: train model=sup, or ask analysis=interpolate."
        )
    names = [factors] if isinstance(factors, str) else list(factors or (*network.factors.concepts, RESIDUAL))
    network.factors.mask(names)  # raises on an unknown name
    images = subject.pick(targets + sources, seed)
    if len(images) < 2:
        raise ConfigError(f"analysis=swap needs a target and a source, and has {len(images)} image: give two or more.")
    rows, columns = (images, images) if subject.own else (images[:targets], images[targets:])
    if not len(rows) or not len(columns):
        raise ConfigError(
            f"analysis.targets={targets} and analysis.sources={sources} leave no target or no source of the "
            f"{len(images)} test images: take fewer targets."
        )
    grids = {name: swap_grid(network, rows, columns, name).cpu() for name in names}
    a, b = _pairs(subject, images, pairs, seed)
    errors = {name or NOTHING: swap_errors(network, a, b, name) for name in track((*names, None), "Swapping")}
    table = [{"swapped": name} | values for name, values in errors.items()]
    numbers = {"of": f"{len(a)} pairs", "errors_of_factors_after_swap_of": errors}
    return Answer(numbers, {"": swap_figure(rows, columns, grids)}, {"": table}, factors=names)


def _pairs(subject: Subject, images: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """z̃ of targets and of their sources."""
    if subject.own:
        z_tilde = subject.interpreter.translate(subject.encode(images))
        first, second = torch.cartesian_prod(*[torch.arange(len(images))] * 2).T
        return z_tilde[first[first != second]], z_tilde[second[first != second]]
    z_tilde = subject.interpreter.translate(subject.encode(subject.pick(2 * count, seed)))
    half = len(z_tilde) // 2
    return z_tilde[:half], z_tilde[half : 2 * half]
