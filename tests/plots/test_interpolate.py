"""Walks and squares: every image square and in its place, every curve beside what it is held against."""

import pytest
import torch
from matplotlib.colors import to_rgba

from iin_lightning.plots.grids import GAP
from iin_lightning.plots.interpolate import COLOR, Curve, square_figure, walks_figure


def walks(steps=11, pairs=2, size=28):
    key = torch.Generator().manual_seed(0)
    return {space: torch.rand(steps, pairs, 1, size, size, generator=key) * 2 - 1 for space in COLOR}


def curves(steps=11, pairs=7, count=4):
    key = torch.Generator().manual_seed(1)
    values = [{space: torch.rand(steps, pairs, generator=key) for space in COLOR} for _ in range(count)]
    held_out = torch.linspace(0, 1, 101)
    points = [Curve("move", value, held_out) for value in values[1:]]
    return [*points, Curve("steps", {space: value[1:] for space, value in values[0].items()}, None)]


def test_in_each_pair_the_walk_in_factors_is_above_the_one_in_latents():
    images = walks(5, 2)
    picture = walks_figure(images, curves(5)).axes[0]
    shown = iter(picture.images)
    tops = [image.get_extent()[3] for image in picture.images]
    assert tops == sorted(tops)
    for pair in range(2):
        for space in ("z_tilde", "z"):
            first = next(shown).get_array()[GAP : GAP + 28, GAP : GAP + 28, 0]
            torch.testing.assert_close(torch.from_numpy(first), (images[space][0, pair, 0] + 1) / 2)


def test_a_curve_is_the_median_over_pairs_before_the_band_of_held_out_images():
    spaces = {"z_tilde": torch.tensor([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]]), "z": torch.tensor([[1.0], [3.0]])}
    band = torch.linspace(0, 100, 101)
    axes = walks_figure(walks(2), [Curve("a", spaces, band)]).axes[1]
    lines = {to_rgba(line.get_color()): line for line in axes.lines}
    assert lines[to_rgba(COLOR["z_tilde"])].get_xydata().tolist() == [[0, 1], [1, 2]]
    assert lines[to_rgba(COLOR["z"])].get_xydata().tolist() == [[0, 1], [1, 3]]
    (span,) = axes.patches
    assert (span.get_y(), span.get_height()) == pytest.approx((1, 98))


def test_steps_are_sorted_and_relative_to_their_mean():
    steps = {space: torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]]) for space in COLOR}
    axes = walks_figure(walks(4), [Curve("steps", steps, None)]).axes[1]
    line = next(line for line in axes.lines if to_rgba(line.get_color()) == to_rgba(COLOR["z"]))
    # The second walk stands still: it is even.
    assert line.get_ydata().tolist() == pytest.approx([1.25, 1.0, 0.75])


def test_the_corners_of_a_square_are_framed():
    images = torch.linspace(-1, 1, 9).view(3, 3, 1, 1, 1).expand(3, 3, 3, 4, 4)
    figure = square_figure(images, "Four samples $\\tilde{z} \\sim N(0, 1)$ (framed) and what lies between them")
    axes = figure.axes[0]
    picture, step = axes.images[0].get_array(), 4 + GAP
    for row in range(3):
        for column in range(3):
            shown = picture[GAP + 2 + row * step, GAP + 2 + column * step, 0]
            assert shown == pytest.approx((images[row, column, 0, 0, 0].item() + 1) / 2)
    middles = sorted((frame.get_x() + frame.get_width() / 2, frame.get_y() + step / 2) for frame in axes.patches)
    ends = [GAP + 1.5, GAP + 1.5 + 2 * step]
    assert [round(value) for middle in middles for value in middle] == [
        round(value) for x in ends for y in ends for value in (x, y)
    ]
