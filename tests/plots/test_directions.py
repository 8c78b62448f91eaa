"""Figures of directions: the page's width, letters one can read, the right number in the right cell, the same bytes."""

from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from iin_lightning.plots.directions import WRITTEN, direction_figure, edit_figure, matrix_figure
from iin_lightning.plots.grids import GAP
from iin_lightning.plots.style import STYLE, save

PAGE = 7.1  # inches, the width of a paper's two columns
SMALLEST_LETTERS = 6.5  # points
ALPHAS = [-2.0, -1.0, 0.0, 1.0, 2.0]
NAMES = ["Smiling", "Male", "Wearing_Lipstick"]


def walks(alphas, rows=3, size=16, channels=3):
    """The brighter the larger alpha."""
    return torch.stack([torch.full((rows, channels, size, size), alpha / 4) for alpha in alphas])


def blocks(alphas=ALPHAS, **shape):
    return [
        {"Smiling": walks(alphas, **shape), "Smiling, keeping Male, Wearing Lipstick": walks(alphas, **shape)},
        {"Male": walks(alphas, **shape)},
    ]


def matrices(rows, columns):
    names = [f"Wearing_Something_{number}" for number in range(max(rows, columns))]
    values = torch.linspace(-1, 1, rows * columns).view(rows, columns)
    return {"plain": values, "others kept": values / 2}, names[:rows], names[:columns]


def drawn(figure):
    """The texts that are drawn and their boxes in pixels."""
    figure.set_dpi(STYLE["savefig.dpi"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = list(figure.texts) + ([figure._supxlabel] if figure._supxlabel is not None else [])
    for axes in figure.axes:
        if axes.get_visible():
            labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
            texts += [*axes.texts, axes.title, *labels]
    texts = [text for text in dict.fromkeys(texts) if text.get_text().strip() and text.get_visible()]
    return [(text, text.get_window_extent(canvas.get_renderer())) for text in texts]


FIGURES = {
    "directions": lambda: direction_figure(blocks(), ALPHAS),
    "one direction": lambda: direction_figure(blocks(channels=1, size=32)[1:], ALPHAS),
    "long walks": lambda: direction_figure(blocks([*range(-4, 5)], size=128), [*range(-4, 5)]),
    "edit": lambda: edit_figure(walks([0])[0], walks([0, 1, 2]), [0, 1, 2], "Smiling, keeping Male, Eyeglasses, Young"),
    "no edit": lambda: edit_figure(walks([0])[0], walks([0]), [0.0], "Smiling"),
    "small matrices": lambda: matrix_figure(*matrices(2, 3), "change", axes_labels=("read", "moved,\nα")),
    "one cell": lambda: matrix_figure({"plain": torch.ones(1, 1)}, ["Bald"], ["Bald"], "cosine"),
    "large matrices": lambda: matrix_figure(*matrices(10, 10), "change", axes_labels=("read", "moved")),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_a_page_and_their_letters_can_be_read(name):
    figure = FIGURES[name]()
    texts = drawn(figure)
    assert figure.get_size_inches()[0] <= PAGE
    assert len(texts) > 2
    assert min(text.get_fontsize() for text, _ in texts) >= SMALLEST_LETTERS
    for (first, a), (second, b) in combinations(texts, 2):
        assert not a.overlaps(b), f"{first.get_text()!r} lies on {second.get_text()!r}"


@pytest.mark.parametrize("name", ["directions", "edit", "small matrices"])
def test_the_same_figure_is_the_same_file(name, tmp_path):
    first, second = (save(FIGURES[name](), tmp_path / f"{number}.png").read_bytes() for number in range(2))
    assert first == second


def test_columns_follow_alpha_and_the_reconstruction_is_framed():
    figure = direction_figure(blocks(), ALPHAS)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().replace("\n", " ") for axes in shown] == [
        "Smiling",
        "Smiling, keeping Male, Wearing Lipstick",
        "Male",
    ]
    for axes in shown:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["−2", "−1", "0", "+1", "+2"]
        picture = np.asarray(axes.images[0].get_array())
        middle = picture.shape[0] // 2
        centres = [round(tick) for tick in axes.get_xticks()]
        assert picture[middle, centres, 0].tolist() == pytest.approx([(alpha / 4 + 1) / 2 for alpha in ALPHAS])
        (frame,) = axes.patches
        assert frame.get_x() < centres[2] < frame.get_x() + frame.get_width()
        assert frame.get_width() == 16 + GAP


def test_an_edit_shows_original_reconstruction_and_edited():
    figure = edit_figure(walks([-4])[0], walks([0, 1, 4]), [0.0, 1.0, 4.0], "Smiling")
    (axes,) = figure.axes
    assert [text.get_text().replace("\n", " ") for text in axes.get_xticklabels()] == [
        "original",
        "recon- struction α = 0",
        "+1",
        "edited α = +4",
    ]
    picture = np.asarray(axes.images[0].get_array())
    centres = [round(tick) for tick in axes.get_xticks()]
    assert picture[10, centres, 0].tolist() == pytest.approx([0.0, 0.5, 0.625, 1.0])


def test_cells_have_their_numbers_errors_and_names():
    means = torch.tensor([[0.5, -0.25, 0.001], [-0.001, 0.75, float("nan")]])
    errors = torch.full_like(means, 0.012)
    figure = matrix_figure({"plain": means}, NAMES[:2], NAMES, "change", errors={"plain": errors})
    axes = figure.axes[0]
    texts = {text.get_position(): text.get_text().split("\n") for text in axes.texts}
    assert texts[0, 0] == ["0.50", "±.012"]
    assert texts[1, 0] == ["−0.25", "±.012"]
    assert texts[0, 1][0] == texts[2, 0][0] == "0.00", "no −0.00"
    assert texts[2, 1][0] == ""
    assert [text.get_text() for text in axes.get_xticklabels()] == ["Smiling", "Male", "Wearing Lipstick"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Smiling", "Male"]
    # The cells of an attribute's own effect are framed.
    assert [frame.get_xy() for frame in axes.patches] == [(-0.5, -0.5), (0.5, 0.5)]
    assert figure.axes[-1].get_ylabel() == "change"


def test_matrices_stand_below_each_other_where_a_page_has_no_room_and_lose_their_numbers_where_a_cell_has_none():
    few, many = matrix_figure(*matrices(2, 2), "x"), matrix_figure(*matrices(WRITTEN + 1, WRITTEN + 15), "x")
    assert few.axes[0].get_position().y0 == pytest.approx(few.axes[1].get_position().y0, abs=0.01)
    assert many.axes[1].get_position().y1 < many.axes[0].get_position().y0
    assert few.axes[0].texts
    assert not many.axes[0].texts
    assert many.get_size_inches()[0] <= PAGE
