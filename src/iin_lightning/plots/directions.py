"""Walks along the directions of attributes (Fig. 8), and matrices that tell how entangled directions are."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from iin_lightning.plots.grids import GAP, broken_into_lines, cell_size, frame, plain, tile
from iin_lightning.plots.style import COLORS, LUMINANCE, PAGE, style

IMAGE = 0.42  # inches a picture is wide at least, for the labels of columns
STEP = 0.55  # the same of an edit, which has longer labels
APART = 0.15  # between walks
CELL = 0.45  # inches a cell of a matrix is wide, so that "−0.12 ±0.01" fits into two lines
WRITTEN = 10  # a matrix of more attributes shows colours alone
SMALL = 6.5  # points
BOLD = 0.9  # as many letters go into a line
DIVERGING = LinearSegmentedColormap.from_list("less and more", [COLORS[1], "white", COLORS[6]])


def direction_figure(blocks: Sequence[Mapping[str, Tensor]], alphas: Sequence[float]) -> Figure:
    """Draw a block an attribute, its directions side by side; a row an image, walked from left to right (Fig. 8).

    ``blocks`` have for each attribute title -> the same images (A,B,C,H,W) in [-1,1] at A alphas, along the plain
    direction and a projected one if any. Alphas are in distances between the class means; the reconstruction, 0, is
    framed.
    """
    columns = max(len(block) for block in blocks)
    first = next(iter(blocks[0].values()))
    image = min(max(cell_size(first), IMAGE), (PAGE / columns - APART) / len(alphas))
    wide, high = len(alphas) * image, image * first.shape[-2] / first.shape[-1]
    titles = [[broken_into_lines(plain(title), BOLD * wide, 8) for title in block] for block in blocks]
    rows = [next(iter(block.values())).shape[1] for block in blocks]
    label = broken_into_lines("less ← α → more; 0: reconstruction, 1: distance of the class means", columns * wide, 8)
    with style():
        lines = sum(max(title.count("\n") for title in line) + 1 for line in titles) + label.count("\n") + 1
        height = sum(rows) * high + 0.28 * len(blocks) + 0.14 * lines + 0.15
        figure = Figure(figsize=(columns * (wide + APART), height), layout="constrained")
        table = figure.subplots(len(blocks), columns, squeeze=False, height_ratios=rows)
        for line, block, texts in zip(table, blocks, titles):
            for axes in line[len(texts) :]:
                axes.set_visible(False)
            for axes, text, walks in zip(line, texts, block.values()):
                _strips(
                    axes,
                    walks,
                    [_signed(alpha) for alpha in alphas],
                    framed=[column for column, alpha in enumerate(alphas) if alpha == 0],
                )
                axes.set_title(text, fontsize=8)
        figure.supxlabel(label, fontsize=8)
    return figure


def edit_figure(images: Tensor, walks: Tensor, alphas: Sequence[float], title: str) -> Figure:
    """Draw originals (B,C,H,W), then their reconstructions (alpha = 0) and the way to the edited images at the right.

    ``walks`` (A,B,C,H,W) are at alphas from 0 to that of the edit; all images in [-1,1].
    """
    labels = ["original", *(_signed(alpha) for alpha in alphas)]
    labels[1] = "recon-\nstruction\nα = 0"
    if len(alphas) > 1:
        labels[-1] = f"edited\nα = {labels[-1]}"
    strips = torch.cat([images[None].cpu(), walks.cpu()])
    with style():
        image = min(max(cell_size(images), STEP), PAGE / len(strips))
        wide, high = len(strips) * image, len(images) * image * images.shape[-2] / images.shape[-1]
        title = broken_into_lines(plain(title), BOLD * wide, 8)
        figure = Figure(figsize=(wide, high + 0.7 + 0.14 * title.count("\n")), layout="constrained")
        axes = figure.subplots()
        _strips(axes, strips, labels, framed=[0, len(strips) - 1])
        axes.set_title(title, fontsize=8)
    return figure


def matrix_figure(
    panels: Mapping[str, Tensor],
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    *,
    axes_labels: tuple[str, str] = ("", ""),
    errors: Mapping[str, Tensor] | None = None,
) -> Figure:
    """Draw matrices (R,S) by title, in colours from -1 to 1 with their numbers; where row and column are one, a frame.

    They stand side by side if a page has room for them, or below each other; ``errors`` are written below the numbers.
    ``axes_labels`` say what columns and rows are, ``label`` what the colours are.
    """
    written = max(len(rows), len(columns)) <= WRITTEN
    names = [plain(name.replace("_", " ")) for name in (*rows, *columns)]
    margin = 0.055 * max(map(len, names)) + 0.3
    cell = min(CELL if written else 0.115, (PAGE - margin - 0.9) / len(columns))
    wide, high = len(columns) * cell, len(rows) * cell + margin + 0.25
    beside = len(panels) if len(panels) * (wide + 0.2) + margin + 0.7 <= PAGE else 1
    below = len(panels) // beside
    with style():
        figure = Figure(figsize=(max(beside * (wide + 0.2) + margin + 0.7, 2.6), below * high), layout="constrained")
        table = figure.subplots(below, beside, squeeze=False).flatten()
        for axes, (title, matrix) in zip(table, panels.items()):
            values = matrix.double().cpu().numpy()
            picture = axes.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1)
            axes.set_title(title, fontsize=8)
            axes.set_xticks(range(len(columns)), names[len(rows) :], rotation=90, fontsize=SMALL)
            first = axes in table[::beside]
            axes.set_yticks(range(len(rows)), names[: len(rows)] if first else [""] * len(rows), fontsize=SMALL)
            axes.tick_params(length=0)
            axes.set(xlabel=axes_labels[0], ylabel=axes_labels[1] if first else "")
            axes.spines[:].set_visible(False)
            for row, name in enumerate(rows):
                if name in columns:
                    frame(axes, (columns.index(name) - 0.5, row - 0.5, 1, 1), "black")
            if written:
                _write(axes, values, None if errors is None else errors[title].double().cpu().numpy())
        figure.colorbar(picture, ax=list(table), label=label, shrink=0.8 / below, aspect=20)
    return figure


def _strips(axes: Axes, walks: Tensor, labels: Sequence[str], framed: Sequence[int]) -> None:
    """Draw images (A,B,C,H,W), a row an image, a labelled column a step."""
    steps, rows, _, height, width = walks.shape
    axes.imshow(tile(walks.transpose(0, 1).flatten(0, 1), steps), interpolation="antialiased")
    centres = GAP + np.arange(steps) * (width + GAP) + width / 2 - 0.5
    axes.set_xticks(centres.tolist(), labels, fontsize=SMALL)
    axes.set_yticks([])
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    for column in framed:
        box = (column * (width + GAP) + 0.5, 0.5, width + GAP, rows * (height + GAP))
        frame(axes, box, COLORS[6], 1.2)


def _write(axes: Axes, values: NDArray[np.float64], errors: NDArray[np.float64] | None) -> None:
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(DIVERGING((value + 1) / 2)[:3], LUMINANCE) < 0.45
        text = "" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
        if errors is not None:
            text += f"\n±{errors[row, column]:.3f}".replace("0.", ".")
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL, color="white" if dark else "black")


def _signed(alpha: float) -> str:
    return f"{alpha:+.3g}".replace("-", "−") if alpha else "0"
