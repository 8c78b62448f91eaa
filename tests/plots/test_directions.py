"""Figures of directions: the right picture in the right column, the right number in the right cell."""

import numpy as np
import pytest
import torch

from iin_lightning.plots.directions import direction_figure, edit_figure, matrix_figure
from iin_lightning.plots.grids import GAP

ALPHAS = [-2.0, -1.0, 0.0, 1.0, 2.0]
NAMES = ["Smiling", "Male", "Wearing_Lipstick"]


def walks(alphas, rows=3, size=16, channels=3):
    """The brighter the larger alpha."""
    return torch.stack([torch.full((rows, channels, size, size), alpha / 4) for alpha in alphas])


def test_columns_follow_alpha_and_the_reconstruction_is_framed():
    kept = {"Smiling": walks(ALPHAS), "Smiling, keeping Male": walks(ALPHAS)}
    figure = direction_figure([kept, {"Male": walks(ALPHAS)}], ALPHAS)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().replace("\n", " ") for axes in shown] == ["Smiling", "Smiling, keeping Male", "Male"]
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
