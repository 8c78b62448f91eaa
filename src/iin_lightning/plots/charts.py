"""Charts of numbers: dimensions of factors (Tab. 1), curves of a training, values of a sweep, class probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from iin_lightning.plots.grids import broken_into_lines, plain
from iin_lightning.plots.style import COLORS, LUMINANCE, PAGE, style

Curve = Sequence[tuple[float, float]]
"""(step, value), in the order of the steps."""

POINTS = 400  # a page has no more pixels for a panel
FEW = 12  # points that are marked one by one
WIDE = 9.0  # from this ratio of largest to smallest on, an axis is logarithmic
MOST_KEYS = 6
MOST_CLASSES = 20
BAR = 0.16  # inches


def dimension_figure(networks: Mapping[str, Sequence[Mapping[str, int]]]) -> Figure:
    """Draw a stacked bar a network: factors with their mean dimensions, and deviations over its runs.

    ``networks``: name -> factor -> dimension of each of its runs; all with the same factors.
    """
    factors = list(next(iter(next(iter(networks.values())))))
    with style():
        figure = Figure(figsize=(4.5, 0.7 + 0.45 * len(networks)), layout="constrained")
        axes = figure.subplots()
        for row, runs in enumerate(networks.values()):
            start = 0.0
            for number, factor in enumerate(factors):
                values = np.array([run[factor] for run in runs], dtype=float)
                width = values.mean()
                label = plain(factor) if row == 0 else None
                color = COLORS[number % len(COLORS)]
                axes.barh(row, width, left=start, color=color, label=label, height=0.7)
                spread = f" ± {values.std(ddof=1):.1f}" if len(runs) > 1 else ""
                ink = "white" if np.dot(to_rgb(color), LUMINANCE) < 0.45 else "black"
                text = f"{width:.3g}{spread}"
                axes.text(start + width / 2, row, text, ha="center", va="center", fontsize=7, color=ink)
                start += width
        axes.set_yticks(range(len(networks)), list(map(plain, networks)))
        axes.invert_yaxis()
        axes.set_xlabel("dimensions of the latent")
        axes.set_xlim(0, None)
        figure.legend(loc="outside upper center", ncols=len(factors), frameon=False)
    return figure


def curves_figure(panels: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Draw a panel a number, three in a row, in it a line for each split: number -> split -> its curve.

    Example:
        >>> figure = curves_figure({"nll": {"train": [(0, 2.0), (10, 1.0)], "val": [(10, 1.1)]}})
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['train', 'val']
    """
    with style():
        figure, places = _panels(len(panels), 1.9)
        for axes, (name, curves) in zip(places, panels.items()):
            for color, (split, curve) in zip(COLORS[1:] * len(curves), curves.items()):
                steps, values = zip(*thinned(curve, POINTS))
                marker = "o" if len(steps) <= FEW else ""
                axes.plot(steps, values, label=split, color=color, linewidth=1, marker=marker, markersize=2.5)
            # A user's name may have a $, which begins no formula.
            axes.set_title(name, fontsize=8, fontweight="normal", parse_math=False)
            axes.set_xlabel("step", fontsize=7)
            axes.tick_params(labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            if len(curves) > 1:
                axes.legend(fontsize=7, frameon=False)
    return figure


def thinned(curve: Curve, most: int) -> Curve:
    """Take at most so many points of a curve, evenly, the last one among them.

    Example:
        >>> thinned([(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)], 2)
        [(1, 2.0), (3, 0.0)]
    """
    every = -(-len(curve) // most)
    return list(curve)[::-1][::every][::-1]


def sweep_figure(tried: Mapping[str, Sequence[tuple[float, float]]], objective: str) -> Figure:
    """Draw a panel for each of 6 keys: a point (value, objective) a job, and the mean of those that share a value.

    Example:
        >>> figure = sweep_figure({"model.lr": [(0.001, 0.9), (0.1, 0.7), (0.1, 0.8)]}, "val/nll")
        >>> [axes.get_xscale() for axes in figure.axes]
        ['log']
    """
    shown = dict(list(tried.items())[:MOST_KEYS])
    with style():
        figure, panels = _panels(len(shown), 2.2, sharey=True)
        for axes, (key, points) in zip(panels, shown.items()):
            values, numbers = np.array(points, dtype=float).T
            distinct = np.unique(values)
            if distinct[0] > 0 and distinct[-1] / distinct[0] > WIDE:
                axes.set_xscale("log")
            else:
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((distinct % 1 == 0).all())))
            means = [numbers[values == value].mean() for value in distinct]
            axes.plot(distinct, means, color=COLORS[1], linewidth=1)
            axes.scatter(values, numbers, color=COLORS[1], s=12, alpha=0.6, linewidths=0)
            axes.set_xlabel(key)
        for axes in panels[::3]:
            axes.set_ylabel(objective)
    return figure


def probabilities_figure(probabilities: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Draw bars of class probabilities (C,), a panel an input; of more than 20 classes the likeliest of any input."""
    highest = torch.stack(list(probabilities.values())).amax(0)
    shown = sorted(highest.topk(min(MOST_CLASSES, len(classes))).indices.tolist())
    with style():
        figure = Figure(figsize=(PAGE, BAR * len(shown) + 0.7), layout="constrained")
        panels = figure.subplots(1, len(probabilities), sharey=True, squeeze=False)[0]
        for axes, (title, values) in zip(panels, probabilities.items()):
            axes.barh(range(len(shown)), [values[k].item() for k in shown], height=0.75, color="C0")
            axes.set_title(broken_into_lines(plain(title), PAGE / len(probabilities) - 0.4, 8), fontsize=8)
            axes.set_xlim(0, 1)
            axes.tick_params(length=0)
        panels[0].set_yticks(range(len(shown)), [plain(classes[k]) for k in shown])
        panels[0].invert_yaxis()
        figure.supxlabel("probability", fontsize=7)
    return figure


def _panels(count: int, height: float, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Make panels, three in a row, of a height in inches each."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure((PAGE * max(columns, 1.5) / 3, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for empty in axes[count:]:
        empty.set_axis_off()
    return figure, axes
