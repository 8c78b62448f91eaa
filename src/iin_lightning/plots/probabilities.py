"""Class probabilities of a few inputs side by side."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.plots.grids import broken_into_lines, plain
from iin_lightning.plots.style import PAGE, style

MOST = 20  # classes that are shown
BAR = 0.16  # inches


def probabilities_figure(probabilities: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Bars of class probabilities, a panel an input.

    Args:
        probabilities: title -> (C,), in [0, 1].
        classes: the names of the C classes; of more than 20 the likeliest of any input are shown.
    """
    highest = next(iter(probabilities.values())).clone()
    for values in probabilities.values():
        highest = highest.maximum(values)
    shown = sorted(highest.topk(min(MOST, len(classes))).indices.tolist())
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
