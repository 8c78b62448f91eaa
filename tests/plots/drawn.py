"""Texts and pictures of a figure as they lie in the file."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

DPI = 100


def drawn(figure):
    """Texts that are drawn, with their boxes, and the boxes of pictures; labels of ticks out of sight are not drawn."""
    texts, draw = [], Text.draw

    def record(text, renderer):
        draw(text, renderer)
        if text.get_visible() and text.get_text().strip():
            texts.append((text, text.get_window_extent(renderer)))

    figure.set_dpi(DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    with patch.object(Text, "draw", record):
        figure.draw(renderer)
    # A legend or a label may be drawn twice.
    texts = list({id(text): (text, box) for text, box in texts}.values())
    return texts, [image.get_window_extent(renderer) for axes in figure.axes for image in axes.images]


def assert_apart(texts):
    """Boxes have a margin, and letters do not fill it."""
    for (a, box_a), (b, box_b) in combinations([(text.get_text(), box.padded(-1)) for text, box in texts], 2):
        assert not box_a.overlaps(box_b), f"{a!r} lies on {b!r}"
