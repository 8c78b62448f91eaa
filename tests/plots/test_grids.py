"""Grids of images: every cell where it belongs, legible, on a page."""

import pytest
import torch
from tests.plots.drawn import DPI, drawn

from iin_lightning.plots.grids import (
    GAP,
    reconstruction_figure,
    rows_figure,
    sample_figure,
    swap_figure,
    walk_figure,
)

SIZE = 4


def flat(*colors):
    """Images of one colour each, (n, 3, 4, 4)."""
    return torch.tensor(colors)[:, :, None, None].expand(-1, -1, SIZE, SIZE)


def cell(axes, row, column):
    """The colour in the middle of a cell, in [-1, 1]."""
    y, x = (GAP + SIZE // 2 + place * (SIZE + GAP) for place in (row, column))
    return (2 * torch.from_numpy(axes.images[0].get_array()[y, x]) - 1).tolist()


def swap(n=3, columns=4, size=SIZE, names=("digit", "residual")):
    key = torch.Generator().manual_seed(0)
    targets, sources = (torch.rand(k, 3, size, size, generator=key) * 2 - 1 for k in (n, columns))
    grids = {name: torch.rand(n, columns, 3, size, size, generator=key) * 2 - 1 for name in names}
    return targets, sources, grids


def test_a_swap_has_targets_at_the_left_sources_at_the_top_and_each_cell_where_both_meet():
    targets, sources = flat([1.0, -1, -1], [-1.0, 1, -1]), flat([-1.0, -1, 1], [0.0, 0, 0], [1.0, 1, -1])
    grid = torch.linspace(-1, 1, 6).view(2, 3, 1, 1, 1).expand(2, 3, 3, SIZE, SIZE)
    axes = swap_figure(targets, sources, {"digit": grid}).axes[0]
    assert cell(axes, 0, 0) == [1, 1, 1], "the corner is empty"
    for row in range(2):
        assert cell(axes, row + 1, 0) == targets[row, :, 0, 0].tolist()
        for column in range(3):
            assert cell(axes, 0, column + 1) == sources[column, :, 0, 0].tolist()
            assert cell(axes, row + 1, column + 1) == pytest.approx(grid[row, column, :, 0, 0].tolist(), abs=1e-6)


def test_inputs_are_framed_and_nothing_else():
    axes = swap_figure(*swap(n=3, columns=4)).axes[0]
    frames = [(*f.get_xy(), f.get_x() + f.get_width(), f.get_y() + f.get_height()) for f in axes.patches]
    step = SIZE + GAP
    sources, targets = (step, 0, 5 * step, step), (0, step, step, 4 * step)
    for frame, around in zip(frames, (sources, targets), strict=True):
        assert frame == pytest.approx(around, abs=1)


def test_each_row_has_its_label_beside_it():
    states = {"black": flat([-1.0] * 3, [-1.0] * 3), "white": flat([1.0] * 3, [1.0] * 3)}
    figure = rows_figure(states, "title", "note")
    axes = figure.axes[0]
    labels = {label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks())}
    for row, (label, images) in enumerate(states.items()):
        assert cell(axes, row, 1) == images[1, :, 0, 0].tolist()
        assert labels[label] == pytest.approx(GAP + SIZE / 2 + row * (SIZE + GAP), abs=1)


@pytest.mark.parametrize("size", [28, 128])
def test_images_of_more_pixels_are_drawn_larger(size):
    images = torch.zeros(6, 3, size, size)
    for figure in (
        reconstruction_figure(images, images, 6),
        sample_figure(images, 6),
        walk_figure(images[:, None].expand(6, 2, 3, size, size)),
    ):
        _, (picture,) = drawn(figure)
        assert picture.width / 6 / DPI == pytest.approx(0.3 if size == 28 else 0.6, rel=0.1)
