"""Embeddings: walks on the map of a latent (Fig. 10), and one factor's embedding against another's (Fig. 9, right)."""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from iin_lightning.plots.grids import plain
from iin_lightning.plots.style import PAGE, style

# Petroff's ten colours, chosen for the colour-blind (Accessible Color Sequences for Data Visualization, 2021,
# arXiv 2107.02270); ten are too many to tell apart by colour alone, so that names are written beside them.
CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
UNKNOWN = "#d9d9d9"
MOST_NAMES = 12  # classes whose names find room in a panel
HALO = [withStroke(linewidth=2, foreground="white")]
BINS = 60
EDGE = 0.1  # of a panel's side, as high as the histograms at its edges are


class Coloring(NamedTuple):
    """What the colours of points say: the name of a concept or quantity, "digit" or "log-likelihood", and values.

    Values are whole numbers (n,) for ``classes``, negative where unknown; floating-point (n, 3) for true colours, RGB
    in [0,1]; floating-point (n,) for a quantity in a ``unit``; None: all points are grey.
    """

    name: str
    values: Tensor | None
    classes: Sequence[str] = ()
    unit: str = ""


class Walk(NamedTuple):
    """Walk (S+1, 2) on the map, the start first, and which share of its factor's steps stays in the start's cluster."""

    path: Tensor
    share: float | None = None


class Pair(NamedTuple):
    """Embeddings (n, 2) of factor x, to the right, and factor y, upwards, with their mutual information in nats.

    ``by`` is the concept that gives the points their colours; None: they are grey.
    """

    x: str
    y: str
    points: Tensor
    by: str | None
    information: float


def walk_map_figure(
    points: Tensor,
    coloring: Coloring,
    walks: Mapping[str, Walk],
    method: str,
    count: int = 1,
    chance: float | None = None,
) -> Figure:
    """Draw a map a factor: the embedded latents (n, 2), and on them a walk in that factor alone (Fig. 10).

    ``method`` embedded them ("UMAP"); ``count`` walks in each factor make up its share; ``chance`` is the share of
    steps in the start's class if steps fell anywhere. Points are an image in a PDF, all else is vectors.
    """
    columns = min(len(walks), 3)
    rows = math.ceil(len(walks) / columns)
    with style():
        figure = Figure(figsize=(max(PAGE * (columns / 3), 3.3), 0.7 + 2.6 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(walks) :]:
            axes.set_visible(False)
        for axes, (name, walk) in zip(grid.flat, walks.items()):
            painted = _map(axes, points, coloring, method, alpha=0.55)
            _draw_walk(axes, walk.path.numpy())
            _head(axes, f"walk in {_readable(name)}", _verdict(walk.share, chance or 0.0))
        _bar(figure, painted, grid, coloring)
        by = "" if coloring.values is None else f", coloured by {plain(coloring.name)}"
        unnamed = len(coloring.classes) > MOST_NAMES and not _named(coloring)
        repeat = f" ({len(coloring.classes)} classes, colours repeat)" if unnamed else ""
        title = f"{method} of {len(points):,} held-out latents z{by}{repeat}"
        figure.suptitle(fill(title, 30 * columns), fontsize=9)
        note = ""
        if chance is not None:
            note = f"shares: all steps of {count} walks a factor; {_percent(chance)} if steps fell anywhere"
        handles, labels = grid.flat[0].get_legend_handles_labels()
        options: dict[str, Any] = {"frameon": False, "fontsize": 7, "title_fontsize": 7, "ncols": 2}
        figure.legend(handles, labels, title=fill(note, 50 * columns), loc="outside lower center", **options)
    return figure


def map_figure(points: Tensor, coloring: Coloring, title: str, method: str) -> Figure:
    """Draw a map of points (n, 2), with the names of the classes beside their clusters.

    Example:
        >>> figure = map_figure(torch.rand(9, 2), Coloring("", None), "digit", "PCA")
        >>> figure.axes[0].get_xlabel()
        'PCA 1'
    """
    with style():
        figure = Figure(figsize=(PAGE / 2, PAGE / 2 + 0.3), layout="constrained")
        axes = figure.subplots()
        painted = _map(axes, points, coloring, method, alpha=0.8)
        axes.set_title(fill(title, 50), parse_math=False)
        _bar(figure, painted, axes, coloring)
    return figure


def pair_figure(pairs: Sequence[Pair], colorings: Mapping[str, Coloring], method: str) -> Figure:
    """Draw factors against each other, each in one dimension of its own (Fig. 9, right).

    A disentangled pair fills the plane: whichever the cluster of x, y takes all its values. ``colorings`` are of the
    concepts that give colours, or whose classes are named along their axis. Histograms are those of the single factors.
    """
    columns, side = min(len(pairs), 2), PAGE / 2
    rows = math.ceil(len(pairs) / columns)
    with style():
        figure = Figure(figsize=(side * columns, 0.3 + (side + 0.2) * rows), layout="constrained")
        grid = figure.add_gridspec(rows, columns)
        for number, pair in enumerate(pairs):
            _draw_pair(figure, grid[divmod(number, columns)], pair, colorings, method.partition(" ")[0])
        title = f"1-D {method} of each factor, {len(pairs[0].points):,} held-out images"
        hint = "of independent factors, each cluster of one spans the whole range of the other (0 nats)"
        figure.suptitle("\n".join(fill(line, 45 * columns) for line in (title, hint)), fontsize=9)
    return figure


def _map(axes: Axes, points: Tensor, coloring: Coloring, method: str, alpha: float) -> Any:
    """Draw a square map; return what a colour bar is made of, if one is needed."""
    painted = _scatter(axes, points.numpy(), coloring, alpha)
    _write_names(axes, points.numpy(), coloring)
    short = method.partition(" ")[0]
    _bare(axes, f"{short} 1", f"{short} 2")
    axes.set_box_aspect(1)
    return painted


def _bar(figure: Figure, painted: Any, axes: Any, coloring: Coloring) -> None:
    if painted is not None:
        figure.colorbar(painted, ax=axes, label=f"{plain(coloring.name)} [{coloring.unit}]", shrink=0.8)


def _draw_pair(figure: Figure, place: SubplotSpec, pair: Pair, colorings: Mapping[str, Coloring], method: str) -> None:
    points = pair.points.numpy()
    grid = place.subgridspec(2, 2, width_ratios=(1, EDGE), height_ratios=(EDGE, 1))
    axes = figure.add_subplot(grid[1, 0])
    _scatter(axes, points, Coloring("", None) if pair.by is None else colorings[pair.by], alpha=0.8)
    _bare(axes, f"{_readable(pair.x)} factor, 1-D {method}", f"{_readable(pair.y)} factor, 1-D {method}")
    above, beside = figure.add_subplot(grid[0, 0], sharex=axes), figure.add_subplot(grid[1, 1], sharey=axes)
    above.hist(points[:, 0], bins=BINS, color="0.6")
    beside.hist(points[:, 1], bins=BINS, color="0.6", orientation="horizontal")
    for margin in (above, beside):
        margin.axis("off")
    title = "" if pair.by is None else f"coloured by {_readable(pair.by)}"
    _head(above, title, f"mutual information {pair.information:.2f} nats")
    for name, axis, column in ((pair.x, axes.xaxis, 0), (pair.y, axes.yaxis, 1)):
        named = _named(colorings[name]) if name in colorings else []
        places = points[:, column]
        centres = [[np.median(places[inside])] for _, _, inside in named]
        axis.set_ticks(_spread(centres, 0.05 * np.ptp(places)).ravel(), [text for text, _, _ in named])
        upright = column == 0 and max((len(text) for text, _, _ in named), default=0) > 2
        axis.set_tick_params(length=0, labelsize=7, labelrotation=90 if upright else 0)
        for label, (_, color, _) in zip(axis.get_ticklabels(), named):
            label.set(color=_dark(color), fontweight="bold")


def _scatter(axes: Axes, points: NDArray[Any], coloring: Coloring, alpha: float) -> Any:
    """Draw points, as an image also in a PDF; return what a colour bar is made of, if one is needed."""
    values = None if coloring.values is None else coloring.values.numpy()
    size = float(np.clip(6000 / max(len(points), 1), 1.5, 9))
    options: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": alpha, "rasterized": True}
    if values is None:
        axes.scatter(points[:, 0], points[:, 1], color="0.55", **options)
    elif np.issubdtype(values.dtype, np.integer):
        palette = np.array([to_rgb(color) for color in CLASS_COLORS])
        colors = np.where(values[:, None] < 0, to_rgb(UNKNOWN), palette[values % len(CLASS_COLORS)])
        axes.scatter(points[:, 0], points[:, 1], c=colors, **options)
    elif values.ndim == 2:
        axes.scatter(points[:, 0], points[:, 1], c=values.clip(0, 1), **options)
    else:
        # A few outliers would take all the colours.
        low, high = np.nanpercentile(values, [1, 99])
        return axes.scatter(points[:, 0], points[:, 1], c=values, cmap="viridis", vmin=low, vmax=high, **options)
    return None


def _draw_walk(axes: Axes, path: NDArray[Any]) -> None:
    axes.plot(*path.T, color="white", linewidth=1.4, alpha=0.7)
    axes.plot(*path.T, color="0.35", linewidth=0.6)
    axes.plot(*path[1:].T, "x", color="black", markersize=3.5, markeredgewidth=0.9, label="step of the walk")
    axes.plot(
        *path[0], "o", markerfacecolor="white", markeredgecolor="black", markersize=5.5, zorder=4, label="its start"
    )


def _write_names(axes: Axes, points: NDArray[Any], coloring: Coloring) -> None:
    """Write the name of each class at the upper edge of its cluster, which may be smaller than a letter."""
    named = _named(coloring)
    widest = max((len(text) for text, _, _ in named), default=1)
    scale = (np.ptp(points, axis=0) + 1e-12) * (max(1.0, widest / 2), 1.0)  # wide names need more room sideways
    edges = [(np.median(points[i, 0]), np.quantile(points[i, 1], 0.85)) / scale for _, _, i in named]
    options: dict[str, Any] = {"ha": "center", "fontsize": 8, "fontweight": "bold", "path_effects": HALO, "zorder": 3}
    for place, (text, color, _) in zip(_spread(edges, 0.07), named):
        axes.annotate(text, place * scale, (0, 2), textcoords="offset points", color=_dark(color), **options)


def _named(coloring: Coloring) -> list[tuple[str, str, NDArray[Any]]]:
    """Return name, colour and members of each class that occurs; nothing if they are too many, or no classes."""
    values = coloring.values
    if values is None or values.is_floating_point() or not coloring.classes:
        return []
    occurring = [int(value) for value in values.unique() if value >= 0]
    if len(occurring) > MOST_NAMES:
        return []
    return [(plain(coloring.classes[i]), CLASS_COLORS[i % len(CLASS_COLORS)], (values == i).numpy()) for i in occurring]


def _head(axes: Axes, title: str, below: str) -> None:
    """Write a title, and below it in lighter letters what there is to see."""
    lines = below.count("\n") + 1 if below else 0
    axes.set_title(title, pad=4 + 9.5 * lines)
    axes.annotate(below, (0.5, 1), (0, 4), "axes fraction", "offset points", ha="center", fontsize=7)


def _verdict(share: float | None, chance: float) -> str:
    """Say whether a walk stays; if it leaves, more than half of the way to chance is gone."""
    if share is None:
        return ""
    stays = "stays in its cluster" if share >= 0.95 else "mostly stays in its cluster"
    words = stays if share >= (1 + chance) / 2 else "leaves its cluster"
    return f"{words}:\n{_percent(share)} of steps in the start's class"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _bare(axes: Axes, right: str, up: str) -> None:
    """Name the axes alone: coordinates of an embedding have no unit."""
    axes.set(xticks=[], yticks=[], xlabel=right, ylabel=up)


def _dark(color: str) -> tuple[float, ...]:
    """Darken a colour into ink that can be read on white."""
    return tuple(0.55 * part for part in to_rgb(color))


def _readable(name: str) -> str:
    return plain(name.replace("_", " "))


def _spread(places: Sequence[Any], gap: float) -> NDArray[np.float64]:
    """Push places (k, d) that lie closer than a gap apart in turn, so that labels at them do not overlap."""
    spread = np.array(places, dtype=float)
    if len(spread) < 2:
        return spread
    spread += 1e-6 * gap * np.arange(len(spread))[:, None]  # those that coincide have no direction to go
    for _ in range(500):
        apart = spread[:, None] - spread
        distance = np.linalg.norm(apart, axis=-1) + np.diag(np.full(len(spread), np.inf))
        short = np.maximum(gap - distance, 0)
        if short.max() < 0.01 * gap:
            break
        spread += 0.4 * (apart * (short / distance)[..., None]).sum(1)
    return spread
