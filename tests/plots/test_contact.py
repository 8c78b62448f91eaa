"""Contact sheets: every caption is legible below its cell, whatever its length."""

from itertools import combinations

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from iin_lightning.plots.contact import IMAGE, MOST_LINES, Panel, contact_figure
from iin_lightning.plots.style import STYLE

PAGE = 7.1  # inches, the width of a paper's two columns
LONG = "Mouth_Slightly_Open, Wearing_Lipstick, High_Cheekbones, 5_o_Clock_Shadow, Receding_Hairline, Bald, Young"


def panels(caption: str, n: int = 8, channels: int = 3) -> list[Panel]:
    images = torch.rand(n, 1, channels, 16, 16) * 2 - 1
    pairs = torch.rand(n, 2, channels, 16, 16) * 2 - 1
    return [
        Panel("Images of the train split", images, [caption] * n, columns=6),
        Panel("Pairs and what both share", pairs, [f"same {caption}"] * n, columns=3),
    ]


@pytest.mark.parametrize("caption", ["a$_{$", "WOMEN/Tees_Tanks/id_00000002/02", LONG])
def test_texts_overlap_neither_each_other_nor_an_image(caption):
    figure = contact_figure(panels(caption))
    figure.set_dpi(STYLE["savefig.dpi"])
    axes = figure.axes[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    images = [image.get_window_extent(renderer) for image in axes.images]
    assert len(texts) == 2 * 8 + 2
    assert len(images) == 3 * 8
    for a, b in combinations(texts, 2):
        assert not a.overlaps(b)
    for text in texts:
        assert not any(text.overlaps(image) for image in images)
        # Letters of a file are rounded to pixels, those of a line's length are not.
        assert text.xmin >= -3
        assert text.xmax <= figure.bbox.xmax + 3
        assert text.ymin >= -1
    left, right, bottom, top = axes.images[0].get_extent()
    assert (right - left, bottom - top) == pytest.approx((IMAGE, IMAGE))
    assert figure.get_figwidth() < PAGE


def test_a_long_caption_is_wrapped_and_ends_in_dots():
    figure = contact_figure(panels(LONG))
    image, pair = (figure.axes[0].texts[i].get_text().split("\n") for i in (1, -1))
    assert len(image) == len(pair) == MOST_LINES
    assert image[-1].endswith("…")
    assert f"same {LONG}".startswith(" ".join(pair).removesuffix(" …")), "broken at blanks alone"


def test_images_are_drawn_with_their_own_colours():
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 4, 4)
    grey = torch.zeros(1, 4, 4)
    for image, color in ((red, [1, 0, 0]), (grey, [0.5, 0.5, 0.5])):
        figure = contact_figure([Panel("", image[None, None], [""], columns=1)])
        assert figure.axes[0].images[0].get_array()[2, 2].tolist() == color
