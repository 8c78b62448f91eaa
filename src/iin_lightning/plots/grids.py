"""Grids of images: swaps, reconstructions, samples."""

import re
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from iin_lightning.plots.style import PAGE, style

GAP = 2  # pixels between images, white
CELL = 0.3  # inches an image of 32 pixels is wide


def cell_size(images: Tensor) -> float:
    """Return the width of an image (..., C, H, W) in inches: twice the area for four times the pixels.

    Example:
        >>> cell_size(torch.zeros(3, 28, 28)), cell_size(torch.zeros(3, 128, 128))
        (0.3, 0.6)
    """
    return CELL * max(max(images.shape[-2:]) / 32, 1.0) ** 0.5


def aspect(images: Tensor) -> float:
    """Return the height of images (..., C, H, W) as a multiple of their width."""
    return images.shape[-2] / images.shape[-1]


def tile(images: Tensor, columns: int) -> NDArray[np.float32]:
    """Lay images (n,C,H,W) in [-1,1] out in rows: a picture (h,w,3) in [0,1] with white gaps."""
    grid = make_grid(((images.float().cpu() + 1) / 2).clamp(0, 1), nrow=columns, padding=GAP, pad_value=1.0)
    return grid.movedim(0, -1).numpy()


def show(axes: Axes, picture: NDArray[np.float32], title: str = "") -> None:
    """Draw a picture (h,w,3) in [0,1] without ticks."""
    axes.imshow(picture, interpolation="antialiased")  # which leaves pixels sharp that are much enlarged
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def frame(axes: Axes, box: tuple[float, float, float, float], color: str = "0.35", linewidth: float = 0.8) -> None:
    """Set a box (x, y, width, height) apart from the rest of a grid, as inputs from what was made of them."""
    x, y, width, height = box
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=linewidth, clip_on=False))


def _side_by_side(count: int, width: float) -> int:
    """Return how many panels of a width in inches stand in each row of a page, as evenly as they fit."""
    fit = max(min(count, int(PAGE / width)), 1)
    return -(-count // -(-count // fit))


def broken_into_lines(text: str, width: float, size: float) -> str:
    r"""Break a text, formulas in $ and all, at blanks into lines of a width in inches, in letters of a size in points.

    Example:
        >>> broken_into_lines("decoded by the same $G$", 1.0, 7)
        'decoded by the\nsame $G$'
    """
    font, lines = FontProperties(size=size), [""]
    for word in re.findall(r"(?:\$[^$]*\$|\S)+", text):  # a formula is one word
        line = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_to_path.get_text_width_height_descent(line, font, ismath=True)[0] > 72 * width:
            lines.append(word)
        else:
            lines[-1] = line
    return "\n".join(lines)


def plain(name: str) -> str:
    r"""Escape a name for a title, in which a $ begins no formula.

    Example:
        >>> plain("cheap ($)")
        'cheap (\\$)'
    """
    return name.replace("$", r"\$")


def _lines(*texts: str) -> int:
    """Return the number of lines of the longest."""
    return max(text.count("\n") for text in texts) + 1


def swap_figure(targets: Tensor, sources: Tensor, grids: Mapping[str, Tensor]) -> Figure:
    """Draw a grid a factor (Figs. 2, 5, 6): rows are targets (R,C,H,W), columns are sources (S,C,H,W), both framed.

    ``grids``: factor -> images (R,S,C,H,W) of the targets with that factor of the sources; all images in [-1,1].
    """
    rows, columns, (height, width) = len(targets), len(sources), targets.shape[-2:]
    cell = cell_size(targets)
    across = _side_by_side(len(grids), one := (columns + 1) * cell + 0.15)
    down = -(-len(grids) // across)
    # Bold letters are wider.
    titles = [broken_into_lines(f"{plain(name)} from the top row", 0.72 * one, 9) for name in grids]
    text = "each cell: the image at its left, with the one factor named above taken from the image at its top"
    note = broken_into_lines(text, one * across, 7)
    tall = ((rows + 1) * cell * height / width + 0.2 + 0.14 * _lines(*titles)) * down + 0.15 + 0.11 * _lines(note)
    with style():
        figure = Figure(figsize=(one * across, tall), layout="constrained")
        places = figure.subplots(down, across, squeeze=False).flatten()
        for axes, title, grid in zip(places, titles, grids.values()):
            corner = torch.ones_like(targets[:1])
            table = [corner, sources, *(part for i in range(rows) for part in (targets[i : i + 1], grid[i]))]
            show(axes, tile(torch.cat([part.cpu() for part in table]), columns + 1), title)
            step_x, step_y = width + GAP, height + GAP
            frame(axes, (step_x + 0.5, 0.5, columns * step_x - 1, step_y - 1))
            frame(axes, (0.5, step_y + 0.5, step_x - 1, rows * step_y - 1))
            axes.set_ylabel("target" if axes.get_subplotspec().is_first_col() else "")
        for axes in places[len(grids) :]:
            axes.set_axis_off()
        figure.supxlabel(note, fontsize=7)
    return figure


def reconstruction_figure(images: Tensor, reconstructions: Tensor, columns: int = 12) -> Figure:
    """Draw images (B,C,H,W) in [-1,1] above their reconstructions, in as many double rows as needed."""
    columns, lines = min(columns, len(images)), list[Tensor]()
    for i in range(0, len(images) // columns * columns, columns):
        lines += [images[i : i + columns].cpu(), reconstructions[i : i + columns].cpu()]
    return sample_figure(torch.cat(lines), columns, "each image above its reconstruction")


def sample_figure(samples: Tensor, columns: int = 12, title: str = "samples") -> Figure:
    """Draw images (B,C,H,W) in [-1,1] in a grid."""
    rows, cell = -(-len(samples) // columns), cell_size(samples)
    with style():
        figure = Figure(figsize=(columns * cell, rows * cell * aspect(samples) + 0.24), layout="constrained")
        show(figure.subplots(), tile(samples, columns), title)
    return figure


def walk_figure(walks: Tensor, title: str = "straight walks between the factors of two images") -> Figure:
    """Draw interpolations (steps,B,C,H,W), a row each, from left to right (Fig. 4)."""
    return sample_figure(walks.transpose(0, 1).flatten(0, 1), len(walks), title)


def panels_figure(panels: Mapping[str, Tensor], columns: int, note: str = "") -> Figure:
    """Draw titled blocks of as many images (n,C,H,W) each, side by side where they fit a page, above a note."""
    first = next(iter(panels.values()))
    cell, rows = cell_size(first), -(-len(first) // columns)
    across = _side_by_side(len(panels), one := columns * cell + 0.2)
    down = -(-len(panels) // across)
    titles = [broken_into_lines(title, one - 0.1, 7.5) for title in panels]
    note = broken_into_lines(note, one * across, 7)
    tall = (rows * cell * aspect(first) + 0.15 + 0.12 * _lines(*titles)) * down + 0.15 + 0.11 * _lines(note)
    with style():
        figure = Figure(figsize=(one * across, tall), layout="constrained")
        places = figure.subplots(down, across, squeeze=False).flatten()
        for axes, title, images in zip(places, titles, panels.values()):
            show(axes, tile(images, columns))
            axes.set_title(title, fontsize=7.5, fontweight="normal")
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        figure.supxlabel(note, fontsize=7)
    return figure


def rows_figure(rows: Mapping[str, Tensor], title: str, note: str = "") -> Figure:
    """Draw the same images in several states: a row of images (n,C,H,W) a state, with its label, above a note."""
    first = next(iter(rows.values()))
    columns = len(first)
    cell = max(min(cell_size(first), (PAGE - 1.3) / columns), 0.8 * CELL)
    width = columns * cell + 1.3
    with style():
        figure = Figure(figsize=(width, len(rows) * cell * aspect(first) + 0.7), layout="constrained")
        axes = figure.subplots()
        show(axes, tile(torch.cat([images.cpu() for images in rows.values()]), columns))
        axes.set_title(broken_into_lines(title, 0.85 * width, 8), fontsize=8)
        step = first.shape[-2] + GAP
        axes.set_yticks([GAP / 2 + step * (place + 0.5) for place in range(len(rows))], list(rows), fontsize=8)
        axes.tick_params(length=0)
        figure.supxlabel(broken_into_lines(note, width, 7), fontsize=7)
    return figure
