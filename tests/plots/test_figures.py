"""What holds for all figures: a page's width, letters that can be read, names as users wrote them, the same bytes."""

import html
import re

import matplotlib as mpl
import pytest
import torch
from tests.plots.drawn import assert_apart, drawn

from iin_lightning.plots import style
from iin_lightning.plots.charts import dimension_figure, probabilities_figure
from iin_lightning.plots.directions import direction_figure, edit_figure, matrix_figure
from iin_lightning.plots.embed import Coloring, Pair, Walk, map_figure, pair_figure, walk_map_figure
from iin_lightning.plots.grids import panels_figure, rows_figure, swap_figure
from iin_lightning.plots.interpolate import COLOR, Curve, square_figure, walks_figure
from iin_lightning.plots.walk import FactorResponse, response_figure
from iin_lightning.seeding import generator

SMALLEST_LETTERS = 6.5  # points
LONG = "move by encoding and decoding anew (RMS over pixels)"
FACTORS = ("residual", "digit", "color", "Wearing_Lipstick", "background", "pose")
SHARES = (
    "variance of\nlog-softmax",
    "variance of\nprobabilities",
    "predictions\nchanged",
    "information on\nthe prediction",
)


def response(factors, classes, changed=False):
    parts = {}
    for number, name in enumerate(FACTORS[:factors]):
        key = generator("response", number)
        walk, redrawn = (torch.randn(n, classes, generator=key).mul(4 * number + 1).log_softmax(1) for n in (31, 50))
        measures = dict.fromkeys(SHARES, (0.3, 0.2, 0.4))
        images = {"predictions\nchanged": (0.2, 0.1, 0.3)} if changed else {}
        parts[name] = FactorResponse(8, walk, redrawn, torch.linspace(1, 0.2, 31), measures, images)
    names = [f"class {c}" if c % 2 else "Mouth_Slightly_Open" for c in range(classes)]
    return response_figure(parts, names, "attribute", 100, "N(0, 1)")


def direction(alphas, size=16, channels=3):
    walks = torch.zeros(len(alphas), 3, channels, size, size)
    blocks = [{"Smiling": walks, "Smiling, keeping Male, Wearing Lipstick": walks}, {"Male": walks}]
    return direction_figure(blocks, alphas)


def edit(alphas):
    walks = torch.zeros(len(alphas), 3, 3, 16, 16)
    return edit_figure(walks[0], walks, alphas, "Smiling, keeping Male, Eyeglasses, Young")


def matrix(rows, columns):
    names = [f"Wearing_Something_{number}" for number in range(max(rows, columns))]
    values = torch.linspace(-1, 1, rows * columns).view(rows, columns)
    panels = {"plain": values, "others kept": values / 2}
    return matrix_figure(panels, names[:rows], names[:columns], "change", axes_labels=("read", "moved,\nα"))


def embedded(names, *walking):
    points = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    coloring = Coloring("digit", torch.arange(400) % len(names), names)
    walks = {name: Walk(torch.linspace(-1, 1, 22).view(11, 2), 0.97 - 0.3 * i) for i, name in enumerate(walking)}
    return walk_map_figure(points, coloring, walks, "UMAP", 64, 0.1)


def pair(by):
    values = torch.arange(400) % 4
    points = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) / 4
    points[:, 0] += values
    coloring = Coloring("digit", values, "0123")
    return pair_figure([Pair("digit", "color", points, by, 0.021)] * 2, {"digit": coloring}, "UMAP")


def walked(size, steps, pairs, count):
    images = {space: torch.zeros(steps, pairs, 1, size, size) for space in COLOR}
    values = {space: torch.rand(steps, 7, generator=generator(0, space)) for space in COLOR}
    curves = [Curve(LONG, values, torch.linspace(0, 1, 101))] * (count - 1)
    return walks_figure(images, [*curves, Curve("steps", {space: v[1:] for space, v in values.items()}, None)])


def swapped(columns, size):
    targets, sources = torch.zeros(3, 3, size, size), torch.zeros(columns, 3, size, size)
    return swap_figure(targets, sources, dict.fromkeys(FACTORS[:4], sources.expand(3, -1, -1, -1, -1)))


TITLES = ["$\\tilde{z} \\sim N(0, 1)$, through $T^{-1}$ (Eq. 13)", "a long title " * 5, "c", "d"]
FIGURES = {
    "response of 40 classes": lambda: response(3, 40),
    "response of 6 factors": lambda: response(6, 5, changed=True),
    "directions": lambda: direction([-2.0, -1.0, 0.0, 1.0, 2.0]),
    "long directions": lambda: direction([*range(-4, 5)], size=128, channels=1),
    "edit": lambda: edit([0, 1, 2]),
    "no edit": lambda: edit([0.0]),
    "small matrices": lambda: matrix(2, 3),
    "large matrices": lambda: matrix(10, 10),
    "map": lambda: embedded(["airplane", "automobile", "bird", "cat"], "residual", "digit", "Mouth_Slightly_Open"),
    "pairs": lambda: pair("digit"),
    "walks": lambda: walked(28, 11, 4, 4),
    "one walk": lambda: walked(128, 11, 1, 1),
    "square": lambda: square_figure(torch.zeros(3, 3, 3, 4, 4), "Four samples $\\tilde{z}$ (framed) and the rest"),
    "swaps": lambda: swapped(6, 28),
    "panels": lambda: panels_figure(dict.fromkeys(TITLES, torch.zeros(10, 1, 28, 28)), 5, "a note of some length " * 6),
    "rows": lambda: rows_figure({"black": torch.zeros(2, 3, 8, 8), "white": torch.ones(2, 3, 8, 8)}, "title", "note"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_a_page_and_their_letters_can_be_read(name):
    figure = FIGURES[name]()
    assert figure.get_figwidth() <= style.PAGE + 0.2
    texts, pictures = drawn(figure)
    assert min(text.get_fontsize() for text, _ in texts) >= SMALLEST_LETTERS
    assert_apart(texts)
    for text, box in texts:
        if text.axes is None or not text.axes.images or text is text.axes.title:
            assert not any(box.padded(-1).overlaps(picture) for picture in pictures), text.get_text()


@pytest.mark.parametrize(("name", "suffix"), [("swaps", "png"), ("map", "png"), ("rows", "pdf")])
def test_the_same_numbers_give_the_same_bytes(name, suffix, tmp_path):
    first, second = (style.save(FIGURES[name](), tmp_path / f"{n}.{suffix}").read_bytes() for n in range(2))
    assert first == second


# What users call things is drawn as they call it: a $ begins no formula.

NAMES = ["$_$", "$5 or $10", "cheap ($)"]
IMAGES = torch.zeros(2, 3, 8, 8)
POINTS = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
COLORING = Coloring("$_$", torch.arange(9) % 3, NAMES)
QUANTITY = Coloring("$_$", torch.linspace(0, 1, 9))
FLAT = torch.zeros(4, 3).log_softmax(1)
PART = FactorResponse(2, FLAT, FLAT, torch.ones(4), {"share": (0.5, 0.4, 0.6)})

NAMED = {
    "response": lambda: response_figure(dict.fromkeys(NAMES, PART), NAMES, "$_$", 9, "N(0, 1)"),
    "probabilities": lambda: probabilities_figure(dict.fromkeys(NAMES, torch.full((3,), 0.3)), NAMES),
    "dimensions": lambda: dimension_figure({name: [dict.fromkeys(NAMES, 3)] for name in NAMES}),
    "swap": lambda: swap_figure(IMAGES, IMAGES, dict.fromkeys(NAMES, IMAGES.expand(2, -1, -1, -1, -1))),
    "directions": lambda: direction_figure([{name: IMAGES[None]} for name in NAMES], [0.0]),
    "edit": lambda: edit_figure(IMAGES, IMAGES.expand(2, -1, -1, -1, -1), [0.0, 1.0], ", ".join(NAMES)),
    "matrix": lambda: matrix_figure({"agreement": torch.eye(3)}, NAMES, NAMES, "cosine"),
    "walk map": lambda: walk_map_figure(POINTS, COLORING, {name: Walk(POINTS) for name in NAMES}, "PCA"),
    "map of a quantity": lambda: map_figure(POINTS, QUANTITY, ", ".join(NAMES), "PCA"),
    "pairs": lambda: pair_figure([Pair(*NAMES[:2], POINTS, "$_$", 0.1)], dict.fromkeys(NAMES[:2], COLORING), "PCA"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_dollar_begins_no_formula(name, tmp_path):
    with mpl.rc_context({"svg.fonttype": "none"}):  # letters stay letters
        svg = style.save(NAMED[name](), tmp_path / "figure.svg").read_text()
    written = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)))
    for called in NAMES:
        assert called in written or called.replace("_", " ") in written, written
    assert "\\$" not in written
