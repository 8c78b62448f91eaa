"""Straight walks in z̃ beside straight walks in z (Fig. 4), and squares of images between four corners (Fig. 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.plots.grids import GAP, aspect, broken_into_lines, cell_size, frame, show, tile
from iin_lightning.plots.style import COLORS, PAGE, style

LABELS = {"z_tilde": r"$\tilde{z}$", "z": "$z$"}
COLOR = {"z_tilde": COLORS[1], "z": COLORS[6]}
MARGIN = 0.8  # inches, for the labels of rows
SPACE = 0.01  # inches between the two walks of a pair, besides the frames of images; between pairs much more
APART = 0.12
CURVES = 1.45  # inches, the height of the curves
ACROSS = 4  # curves side by side


@dataclass(frozen=True)
class Curve:
    """Measure along walks: space where they are straight -> (S, B), and its values (n,) of held-out images.

    Without ``held_out`` it is the lengths of steps (S-1, B). Of held-out images the middle 98 % are shaded.
    """

    label: str
    walks: Mapping[str, Tensor]
    held_out: Tensor | None


def walks_figure(images: Mapping[str, Tensor], curves: Sequence[Curve]) -> Figure:
    """Draw for each pair of images the walk that is straight in z̃ above that in z, and measures of all pairs along t.

    ``images``: space, "z_tilde" and "z" -> (S,B,C,H,W) in [-1,1].
    """
    first = next(iter(images.values()))
    size = min((PAGE - MARGIN) / len(first), 1.6 * cell_size(first))
    lines = -(-len(curves) // ACROSS)
    height = first.shape[1] * (len(images) * (size * aspect(first) + SPACE) + APART)
    with style():
        figure = Figure(figsize=(PAGE, height + 0.5 + lines * (CURVES + 0.25)), layout="constrained")
        ratios = [height + 0.4, *[CURVES] * lines]
        picture, *parts = figure.subfigures(1 + lines, 1, height_ratios=ratios, squeeze=False)[:, 0]
        _walks(picture.subplots(), images, size)
        for start, part in zip(range(0, len(curves), ACROSS), parts):
            few = curves[start : start + ACROSS]
            places = part.subplots(1, max(len(few), min(ACROSS, len(curves))), squeeze=False)[0]
            for axes, curve in zip(places, few):
                _curve(axes, curve)
            for axes in places[len(few) :]:
                axes.set_axis_off()
        known = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}
        figure.legend(
            known.values(), known.keys(), loc="outside lower center", ncols=len(known), frameon=False, fontsize=7
        )
    return figure


def _walks(axes: Axes, images: Mapping[str, Tensor], size: float) -> None:
    """Draw all walks, a row each, in inches from the upper left corner."""
    first = next(iter(images.values()))
    (steps, pairs), (high, wide) = first.shape[:2], first.shape[-2:]
    pixel = size / (wide + GAP)
    tall = (high + 2 * GAP) * pixel
    top = 0.0
    for pair in range(pairs):
        for space, walk in images.items():
            box = (0, steps * size + GAP * pixel, top + tall, top)
            axes.imshow(tile(walk[:, pair], steps), extent=box, interpolation="antialiased")
            label = f"straight in {LABELS[space]}"
            axes.text(-0.06, top + tall / 2, label, color=COLOR[space], ha="right", va="center")
            top += tall + SPACE
        top += APART
    for t in (0, 0.5, 1):
        axes.text((0.5 + t * (steps - 1)) * size, -0.03, f"$t={t}$", ha="center", va="bottom", fontsize=7)
    axes.set(xlim=(-MARGIN, steps * size + GAP * pixel), ylim=(top - (SPACE + APART), -0.15), aspect="equal")
    axes.set_axis_off()
    axes.set_title(
        "Walks between two images: in each pair the straight one in $\\tilde{z}$ above that in $z$", fontsize=8
    )


def _curve(axes: Axes, curve: Curve) -> None:
    """Draw median and middle 80 % over pairs for each space."""
    steps = curve.held_out is None
    if curve.held_out is None:
        axes.axhline(1, color="0.55", linewidth=0.8, linestyle="dotted")
    else:
        low, middle, high = np.quantile(curve.held_out.double().numpy(), (0.01, 0.5, 0.99))
        axes.axhspan(low, high, color="0.88", linewidth=0, label="held-out images (1 to 99 %, median)")
        axes.axhline(middle, color="0.55", linewidth=0.8)
    for space, values in curve.walks.items():
        shown = (values / values.mean(0)).nan_to_num(1.0).sort(0, descending=True).values if steps else values
        low, middle, high = np.quantile(shown.double().numpy(), (0.1, 0.5, 0.9), axis=1)
        x = np.arange(1, len(values) + 1) if steps else np.linspace(0, 1, len(values))
        axes.fill_between(x, low, high, color=COLOR[space], alpha=0.2, linewidth=0)
        which = " (median, middle 80 % of pairs)" if values.shape[1] > 1 else ""
        axes.plot(x, middle, color=COLOR[space], linewidth=1.4, label=f"straight in {LABELS[space]}{which}")
    if steps:
        axes.set(xlim=(1, len(x)), ylim=(0, None), xticks=(1, len(x)), xlabel="steps, the largest first")
    else:
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xlabel="$t$ along the walk")
    axes.set_title(broken_into_lines(curve.label, PAGE / ACROSS - 0.4, 7), fontsize=7, fontweight="normal")
    axes.xaxis.label.set_fontsize(7)
    axes.tick_params(labelsize=6.5)


def square_figure(images: Tensor, title: str) -> Figure:
    """Draw a square of images (S,S,C,H,W) in [-1,1]; its corners, which the rest were made from, are framed."""
    steps, (height, width) = len(images), images.shape[-2:]
    side = min(steps * 1.3 * cell_size(images), PAGE)
    with style():
        figure = Figure(figsize=(side, side + 0.5), layout="constrained")
        axes = figure.subplots()
        show(axes, tile(images.flatten(0, 1), steps))
        axes.set_title(broken_into_lines(title, side, 7.5), fontsize=7.5, fontweight="normal")
        for across, down in product((0, steps - 1), repeat=2):
            corner = (across * (width + GAP) + 0.5, down * (height + GAP) + 0.5)
            frame(axes, (*corner, width + GAP, height + GAP), COLORS[6], 1.5)
    return figure
