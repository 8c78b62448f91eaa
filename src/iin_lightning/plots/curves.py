"""How numbers went while a model was trained."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from iin_lightning.plots.dimensions import COLORS
from iin_lightning.plots.style import PAGE, style

Curve = Sequence[tuple[float, float]]
"""(step, value), in the order of the steps."""

POINTS = 400  # a page has no more pixels for a panel
FEW = 12  # points that are marked one by one


def curves_figure(panels: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """A panel a number, in it a line for each split that it was taken on.

    Args:
        panels: number -> split -> its curve, none of them empty.

    Returns:
        The figure, three panels in a row.

    Example:
        >>> figure = curves_figure({"nll": {"train": [(0, 2.0), (10, 1.0)], "val": [(10, 1.1)]}})
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['train', 'val']
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = Figure((PAGE * max(columns, 1.5) / 3, 1.9 * rows), layout="constrained")
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (name, curves) in zip(places, panels.items()):
            for color, (split, curve) in zip(COLORS[1:] * len(curves), curves.items()):
                steps, values = zip(*thinned(curve, POINTS))
                marker = "o" if len(steps) <= FEW else ""
                axes.plot(steps, values, label=split, color=color, linewidth=1, marker=marker, markersize=2.5)
            # A name may come from a user, and a $ in it is no formula.
            axes.set_title(name, fontsize=8, fontweight="normal", parse_math=False)
            axes.set_xlabel("step", fontsize=7)
            axes.tick_params(labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            if len(curves) > 1:
                axes.legend(fontsize=7, frameon=False)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
    return figure


def thinned(curve: Curve, most: int) -> Curve:
    """At most so many points of a curve, evenly taken, the last one among them.

    Example:
        >>> thinned([(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)], 2)
        [(1, 2.0), (3, 0.0)]
    """
    every = -(-len(curve) // most)
    return list(curve)[::-1][::every][::-1]
