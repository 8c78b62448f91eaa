"""Contact sheets: what a data set looks like, with a caption below each image and each pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from torch import Tensor

from iin_lightning.plots.grids import tile
from iin_lightning.plots.style import style

# Inches, so that a sheet of six images and three pairs in a row is as wide as a paper's page.
IMAGE = 0.5
GAP = 0.08  # between cells; the images of one cell touch but for a hair
HAIR = 0.02
BETWEEN = 0.35  # panels
TITLE = 0.28
LINE = 0.096  # of text
FONT = 5.5  # points
MOST_LINES = 6
FEWEST = 4  # characters a line


@dataclass(frozen=True)
class Panel:
    """Cells under a title: images (n, m, C, H, W) in [-1, 1], m side by side, with a caption below each cell."""

    title: str
    cells: Tensor
    captions: Sequence[str]
    columns: int

    @property
    def cell_width(self) -> float:
        """Inches."""
        return self.cells.shape[1] * (IMAGE + HAIR) - HAIR

    @property
    def width(self) -> float:
        """Inches; not less where there are fewer cells than columns, for the title's sake."""
        return self.columns * (self.cell_width + GAP) - GAP


def contact_figure(panels: Sequence[Panel]) -> Figure:
    """Draw panels side by side, each as high as its captions need."""
    width = sum(panel.width + BETWEEN for panel in panels) - BETWEEN
    with style():
        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        left, height = 0.0, 0.0
        for panel in panels:
            height = max(height, _draw(axes, panel, left))
            left += panel.width + BETWEEN
        figure.set_size_inches(width, height)
        # Positions are inches from the upper left corner.
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return figure


def _draw(axes: Axes, panel: Panel, left: float) -> float:
    """Draw a panel and return how far down it reaches, in inches."""
    axes.text(left, TITLE / 2, panel.title, fontsize=8, fontweight="bold", va="center")
    top = TITLE
    for start in range(0, len(panel.cells), panel.columns):
        lowest = top
        for column, cell in enumerate(panel.cells[start : start + panel.columns]):
            x = left + column * (panel.cell_width + GAP)
            for place, image in enumerate(cell):
                at = x + place * (IMAGE + HAIR)
                axes.imshow(tile(image[None], 1), extent=_within(image, at, top), interpolation="nearest")
            lines = _lines(panel.captions[start + column], panel.cell_width)
            text = axes.text(x + panel.cell_width / 2, top + IMAGE + HAIR, "\n".join(lines), ha="center", va="top")
            text.set(fontsize=FONT, parse_math=False)  # a class may be called $
            lowest = max(lowest, top + IMAGE + HAIR + LINE * len(lines))
        top = lowest + GAP
    return top - GAP


def _within(image: Tensor, left: float, top: float) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of an image (C, H, W), in the middle of its square."""
    height, width = (IMAGE * side / max(image.shape[-2:]) for side in image.shape[-2:])
    left, top = left + (IMAGE - width) / 2, top + (IMAGE - height) / 2
    return left, left + width, top + height, top


@cache  # most captions of a sheet occur more than once
def _lines(caption: str, width: float) -> list[str]:
    """Break a caption at blanks, and a word that is too long anywhere, so that no line is wider than so many inches."""
    font = FontProperties(size=FONT)
    for characters in range(len(caption) + FEWEST, FEWEST - 1, -1):
        lines = wrap(caption, characters, max_lines=MOST_LINES, placeholder=" …")
        if all(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] <= 72 * width for line in lines):
            break
    return lines
