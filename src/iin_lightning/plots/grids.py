"""Grids of images: swaps, reconstructions, samples."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from iin_lightning.plots.style import style

GAP = 2  # pixels between images, white
CELL = 0.3  # inches an image is wide


def tile(images: Tensor, columns: int) -> NDArray[np.float32]:
    """Lay images (n,C,H,W) in [-1,1] out in rows: a picture (h,w,3) in [0,1] with white gaps."""
    grid = make_grid(((images.float().cpu() + 1) / 2).clamp(0, 1), nrow=columns, padding=GAP, pad_value=1.0)
    return grid.movedim(0, -1).numpy()


def _show(axes: Axes, picture: NDArray[np.float32], title: str = "") -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _frame(axes: Axes, box: tuple[float, float, float, float]) -> None:
    """Set the inputs of a grid apart from what was made of them."""
    x, y, width, height = box
    frame = Rectangle((x, y), width, height, fill=False, edgecolor="0.35", linewidth=0.8, clip_on=False)
    axes.add_patch(frame)


def swap_figure(targets: Tensor, sources: Tensor, grids: Mapping[str, Tensor]) -> Figure:
    """One grid a factor, side by side: rows are targets, columns give the factor (Fig. 2).

    Args:
        targets: images (R,C,H,W) in [-1,1], framed at the left of each grid.
        sources: images (S,C,H,W) in [-1,1], framed at its top.
        grids: factor name -> images (R,S,C,H,W) of the targets with that factor of the sources.

    Returns:
        The figure.
    """
    rows, columns, (height, width) = len(targets), len(sources), targets.shape[-2:]
    with style():
        figure = Figure(figsize=((columns + 1.6) * CELL * len(grids), (rows + 2.2) * CELL), layout="constrained")
        for axes, (name, grid) in zip(figure.subplots(1, len(grids), squeeze=False)[0], grids.items()):
            corner = torch.ones_like(targets[:1])
            table = [corner, sources, *(part for i in range(rows) for part in (targets[i : i + 1], grid[i]))]
            _show(axes, tile(torch.cat([part.cpu() for part in table]), columns + 1), f"{name} from the top row")
            step_x, step_y = width + GAP, height + GAP
            _frame(axes, (step_x + 0.5, 0.5, columns * step_x - 1, step_y - 1))
            _frame(axes, (0.5, step_y + 0.5, step_x - 1, rows * step_y - 1))
            axes.set_ylabel("target" if axes.get_subplotspec().is_first_col() else "")
    return figure


def reconstruction_figure(images: Tensor, reconstructions: Tensor, columns: int = 12) -> Figure:
    """Images above their reconstructions, in as many double rows as needed.

    Args:
        images: (B,C,H,W) in [-1,1].
        reconstructions: (B,C,H,W) in [-1,1].
        columns: images a row.
    """
    lines: list[Tensor] = []
    for i in range(0, len(images) - len(images) % columns or len(images), columns):
        lines += [images[i : i + columns].cpu(), reconstructions[i : i + columns].cpu()]
    with style():
        figure = Figure(figsize=(columns * CELL, (len(lines) + 0.8) * CELL), layout="constrained")
        _show(figure.subplots(), tile(torch.cat(lines), columns), "each image above its reconstruction")
    return figure


def sample_figure(samples: Tensor, columns: int = 12, title: str = "samples") -> Figure:
    """Images (B,C,H,W) in [-1,1] in a grid."""
    rows = -(-len(samples) // columns)
    with style():
        figure = Figure(figsize=(columns * CELL, (rows + 0.8) * CELL), layout="constrained")
        _show(figure.subplots(), tile(samples, columns), title)
    return figure


def walk_figure(walks: Tensor, title: str = "straight walks between the factors of two images") -> Figure:
    """Interpolations (steps,B,C,H,W), one a row, from left to right (Fig. 4)."""
    steps, rows = walks.shape[:2]
    with style():
        figure = Figure(figsize=(steps * CELL, (rows + 0.8) * CELL), layout="constrained")
        _show(figure.subplots(), tile(walks.transpose(0, 1).flatten(0, 1), steps), title)
    return figure
