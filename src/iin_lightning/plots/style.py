"""One look for all figures, and one way to save them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {  # matplotlib types its keys as one long literal
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    "svg.hashsalt": "iin-lightning",  # else the same figure is another file every time
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's look, and leave the user's own settings alone."""
    with mpl.rc_context(STYLE):
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, the same bytes for the same figure.

    Args:
        figure: a figure made here; it is not registered with pyplot, so nothing need be closed.
        path: where to; folders are made.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        # Without this matplotlib writes its version into the file.
        figure.savefig(path, bbox_inches="tight", pad_inches=0.04, metadata={"Software": None})
    return path
