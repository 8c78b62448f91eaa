"""One look for all figures, and one way to save them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

PAGE = 6.9  # inches: the two columns of a paper
# Okabe and Ito's colours, which the colour-blind tell apart; the residual is grey.
COLORS = ("#999999", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
LUMINANCE = (0.2126, 0.7152, 0.0722)
LETTERS = 18  # of a footnote, for each inch
STYLE: dict[Any, Any] = {  # matplotlib types its keys as one long literal
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # letters that can be searched and edited
    "svg.hashsalt": "iin-lightning",  # else the same figure is another file every time
}
# Without these matplotlib writes its version and the time into the file.
UNDATED: dict[str, Any] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's look, and leave the user's own settings alone."""
    with mpl.rc_context(STYLE):
        yield


def footnote(figure: Figure, text: str, alarm: bool) -> None:
    """Write below a figure what is not to be missed when it is read, in red if it is an alarm."""
    lines = fill(text, int(LETTERS * figure.get_figwidth()))
    figure.text(
        0.5, -0.01, lines, ha="center", va="top", fontsize=6.5, color="firebrick" if alarm else "0.35", parse_math=False
    )


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, PDF or SVG, as the path's suffix says; the same bytes for the same figure.

    Folders are made. Figures made here are not registered with pyplot, so nothing need be closed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, bbox_inches="tight", pad_inches=0.04, metadata=UNDATED.get(path.suffix))
    return path
