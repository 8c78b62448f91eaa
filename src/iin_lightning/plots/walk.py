"""Walks in each factor: how a network answers to them, and how much each of them matters (Fig. 9, left)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray
from torch import Tensor

from iin_lightning.plots.grids import plain
from iin_lightning.plots.style import COLORS, PAGE, style

RIGHT, GAP = 0.62, 0.13  # for the colour bar; between factors
LINE, TICKS = 0.18, 0.42  # a line of text; ticks with their label
SMALL = 7
BOLD, SMALLEST_BOLD = 100.0, 6.5  # points of the letters of a title, times their number, for each inch; the least
NARROW = 1.2  # inches of a column in which few ticks have room
LONGEST = 16  # letters of a class' name
PREDICTED = COLORS[6]
MAP = "Blues"
SMALLEST = 1e-4  # what a logarithmic axis of shares can show
WIDE = 20.0  # from this ratio of largest to smallest on, the axis is logarithmic


@dataclass(frozen=True)
class FactorResponse:
    """What one factor does to a network's outputs.

    Attributes:
        dim: of the factor.
        walk: log-softmax (steps + 1, C) along one walk of one example, in nats.
        redrawn: log-softmax (D, C) of the same example with D draws of the factor.
        kept: (steps + 1,) share of many walks whose prediction is that of their start.
        measures: name -> (value, low, high), all shares of something; the same names for all factors.
        images_changed: the same of some of the names where the images themselves were changed in this concept.
    """

    dim: int
    walk: Tensor
    redrawn: Tensor
    kept: Tensor
    measures: Mapping[str, tuple[float, float, float]]
    images_changed: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def response_figure(
    responses: Mapping[str, FactorResponse], classes: Sequence[str], concept: str, examples: int, law: str
) -> Figure:
    """Draw a column for each of 1 to 6 factors: a walk of an example, that example with draws; then all examples.

    There are up to 40 ``classes`` of a ``concept``; shares and measures are over so many ``examples``; ``law`` says in
    words what factors are drawn from. The figure is at most as wide as a page.
    """
    first = next(iter(responses.values()))
    names = [_short(name, LONGEST) for name in classes]
    left = 0.35 + 0.06 * max(map(len, names))
    width = max(5.0, min(PAGE, left + RIGHT + 2.0 * len(responses)))
    column = (width - left - RIGHT + GAP) / len(responses)
    tall = max(0.9, 0.105 * len(classes))
    low = max(1.1, 0.2 + 0.1 * len(first.measures) * len(responses))
    page = _Page(width, [2.7 * LINE, tall, TICKS, 1.5 * LINE, tall, TICKS, 2.6 * LINE, low, TICKS])
    with style():
        start = plain(names[int(first.walk[0].argmax())])
        page.write(f"One walk in each factor, from an example predicted as {start} (orange: prediction)", 0)
        page.write(f"The same example, each factor drawn {len(first.redrawn)} times from {law}", 3)
        middle = left + (width - left - RIGHT) / 2
        page.write("step of the walk", 2, middle)
        text = "log-softmax in nats: 5 to 95 % (line), 25 to 75 % (bar), start (black); share predicted (orange)"
        page.write(text, 5, width / 2)  # of the page, which it nearly fills
        norm = Normalize(_floor(response.walk for response in responses.values()), 0)
        floor = _floor(response.redrawn for response in responses.values())
        for number, (name, response) in enumerate(responses.items()):
            x, wide = left + number * column, column - GAP
            heat, spread = page.axes(x, 1, wide), page.axes(x, 4, 0.72 * wide)
            bars = page.axes(x + 0.76 * wide, 4, 0.24 * wide)
            title = _short(name, int(BOLD * wide / SMALLEST_BOLD))
            heat.set_title(plain(title), pad=11, fontsize=min(9.0, BOLD * wide / len(title)))
            dims = f"{response.dim} dimension{'s' * (response.dim > 1)}"
            above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
            heat.annotate(dims, (0.5, 1), (0, 2), ha="center", fontsize=SMALL, **above)
            _walk(heat, _array(response.walk), norm)
            _spread(spread, response, floor, COLORS[number % len(COLORS)], ticks=3 if wide > NARROW else 2)
            _predictions(bars, response, ticks=[0, 1] if wide > NARROW else [1])
            for axes in (heat, spread, bars):
                axes.set_ylim(len(names) - 0.5, -0.5)
                axes.set_yticks([])
            if number == 0:
                for axes in (heat, spread):
                    axes.set_yticks(range(len(names)), map(plain, names))
                    axes.set_ylabel(plain(concept))
        bar = page.figure.colorbar(ScalarMappable(norm, MAP), cax=page.axes(width - RIGHT + 0.1, 1, 0.1))
        bar.set_label("log-softmax (nats)", fontsize=SMALL)
        bar.outline.set_visible(False)
        page.write(f"All {examples} examples: predictions kept", 6)
        really = any(r.images_changed for r in responses.values())
        title = "Factor changed (◇ image changed)" if really else "What each factor accounts for"
        page.write(title, 6, middle + 0.2, centred=False)
        kept = page.axes(left, 7, middle - left - 0.1)
        _kept(kept, responses)
        options: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "handlelength": 1.0, "columnspacing": 1.2}
        place = page.at(width / 2, 6, 1.9 * LINE)
        handles = kept.get_legend_handles_labels()
        page.figure.legend(*handles, loc="center", bbox_to_anchor=place, ncols=len(responses), **options)
        _measures(page.axes(middle + 0.95, 7, width - middle - 0.95 - 0.4), responses)
    return page.figure


class _Page:
    """Figure laid out in inches, so that columns stay aligned and letters legible whatever there is to show."""

    def __init__(self, width: float, heights: Sequence[float]) -> None:
        self.width, self.heights = width, heights
        self.tops = [sum(heights[:row]) for row in range(len(heights) + 1)]
        self.figure = Figure(figsize=(width, self.tops[-1]))

    def at(self, x: float, row: int, below: float = 0.0) -> tuple[float, float]:
        """Return the place x inches from the left and so many below the top of a row, in parts of the figure."""
        return x / self.width, 1 - (self.tops[row] + below) / self.tops[-1]

    def axes(self, x: float, row: int, width: float) -> Axes:
        """Make axes that fill a row."""
        size = width / self.width, self.heights[row] / self.tops[-1]
        axes = self.figure.add_axes((*self.at(x, row + 1), *size))
        axes.tick_params(labelsize=SMALL, length=2, pad=2)
        return axes

    def write(self, text: str, row: int, x: float | None = None, centred: bool = True) -> None:
        """Write a caption at the left edge, or a smaller label around x below the ticks."""
        if x is None or not centred:
            self.figure.text(*self.at(x or 0.05, row, 0.8 * LINE if row else 0.4 * LINE), text, va="center")
        else:
            self.figure.text(*self.at(x, row, 1.25 * LINE), text, ha="center", va="center", fontsize=SMALL + 0.5)


def _walk(axes: Axes, walk: NDArray[np.float32], norm: Normalize) -> None:
    axes.imshow(walk.T, aspect="auto", cmap=MAP, norm=norm, interpolation="nearest")
    predicted = walk.argmax(1)
    axes.plot(range(len(walk)), predicted, ".", color=PREDICTED, markersize=3, markeredgewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.spines[:].set_visible(False)


def _spread(axes: Axes, response: FactorResponse, floor: float, color: str, ticks: int) -> None:
    outputs, start = _array(response.redrawn), _array(response.walk)[0]
    rows = np.arange(outputs.shape[1])
    q05, q25, q75, q95 = np.quantile(outputs, [0.05, 0.25, 0.75, 0.95], axis=0)
    axes.hlines(rows, q05, q95, color=color, linewidth=0.9)
    axes.hlines(rows, q25, q75, color=color, linewidth=3.2)
    axes.plot(start, rows, "|", color="black", markersize=4.5, markeredgewidth=1)
    axes.set_xlim(1.05 * floor, -0.05 * floor)
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _predictions(axes: Axes, response: FactorResponse, ticks: list[int]) -> None:
    outputs = _array(response.redrawn)
    share = np.bincount(outputs.argmax(1), minlength=outputs.shape[1]) / len(outputs)
    axes.barh(np.arange(len(share)), share, height=0.75, color=PREDICTED)
    axes.set_xlim(0, 1)
    axes.set_xticks(ticks)


def _kept(axes: Axes, responses: Mapping[str, FactorResponse]) -> None:
    for number, (name, response) in enumerate(responses.items()):
        axes.plot(_array(response.kept), color=COLORS[number % len(COLORS)], linewidth=1.4, label=plain(name))
    axes.set_ylim(0, 1.03)
    axes.set_xlim(0, None)
    axes.set_xlabel("step of the walk", fontsize=SMALL + 0.5, labelpad=1)
    axes.set_ylabel("share")


def _measures(axes: Axes, responses: Mapping[str, FactorResponse]) -> None:
    groups = list(next(iter(responses.values())).measures)
    values = np.array([[response.measures[group] for group in groups] for response in responses.values()])
    real = [value for response in responses.values() for value, *_ in response.images_changed.values()]
    shown = np.append(values[..., 0], real).clip(SMALLEST)
    shown = shown[np.isfinite(shown)]  # of a network whose outputs never change, shares are of nothing
    if not shown.size:
        shown = np.ones(1)
    logarithmic = shown.max() / shown.min() > WIDE
    smallest = 10 ** np.floor(np.log10(shown.min())) if logarithmic else 0.0
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    for number, (response, color) in enumerate(zip(responses.values(), COLORS)):
        rows = np.arange(len(groups)) + 0.8 * ((number + 0.5) / len(responses) - 0.5)
        value, low, high = values[number].clip(smallest).T
        axes.hlines(rows, low, high, color=color, linewidth=1.2)
        axes.plot(value, rows, "o", color=color, markersize=3.5, clip_on=False)
        for row, true in zip(rows, values[number, :, 0]):
            axes.text(1.02, row, f"{true:.2g}", va="center", fontsize=6.5, transform=axes.get_yaxis_transform())
        for row, group in zip(rows, groups):
            if group in response.images_changed:
                of_images = max(response.images_changed[group][0], smallest)
                axes.plot(of_images, row, "D", color=color, markerfacecolor="none", markersize=5, clip_on=False)
    axes.set_xlim(smallest, 1.1 * max(1.0, values[np.isfinite(values)].max(initial=1.0), shown.max()))
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("share, with 95 % interval", fontsize=SMALL + 0.5, labelpad=1)


def _floor(outputs: Iterable[Tensor]) -> float:
    """Return where an axis of log-softmax begins: rare depths are cut off, or all else would be flat."""
    return min(-1.0, *(float(np.quantile(_array(part), 0.02)) for part in outputs))


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()
