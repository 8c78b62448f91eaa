"""What came of a sweep, over each value that was tried."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from iin_lightning.plots.dimensions import COLORS
from iin_lightning.plots.style import PAGE, style

WIDE = 9.0  # from this ratio of largest to smallest on, the axis is logarithmic
MOST = 6


def sweep_figure(tried: Mapping[str, Sequence[tuple[float, float]]], objective: str) -> Figure:
    """A panel a key: a point a job, and the mean of those that share a value.

    Args:
        tried: key -> (value, objective) of each job; the first 6 keys are drawn.
        objective: its name, in words.

    Returns:
        The figure, at most as wide as a page.

    Example:
        >>> figure = sweep_figure({"model.lr": [(0.001, 0.9), (0.1, 0.7), (0.1, 0.8)]}, "val/nll")
        >>> [axes.get_xscale() for axes in figure.axes]
        ['log']
    """
    shown = dict(list(tried.items())[:MOST])
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with style():
        figure = Figure((PAGE * max(columns, 1.5) / 3, 2.2 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, (key, points) in zip(panels.flat, shown.items()):
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
        for axes in panels[:, 0]:
            axes.set_ylabel(objective)
        for axes in list(panels.flat)[len(shown) :]:
            axes.set_axis_off()
    return figure
