"""Grids of images: every cell where it belongs, legible, on a page."""

from itertools import combinations

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from iin_lightning.plots.grids import (
    GAP,
    PAGE,
    panels_figure,
    reconstruction_figure,
    rows_figure,
    sample_figure,
    swap_figure,
    walk_figure,
)
from iin_lightning.plots.style import STYLE, save

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


def drawn(figure):
    """Texts and pictures, as they lie in the file."""
    figure.set_dpi(STYLE["savefig.dpi"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = figure.axes
    texts = [t for a in axes for t in (a.title, a.yaxis.label, *a.get_yticklabels(), *a.texts) if t.get_text()]
    texts += [t for t in figure.texts if t.get_text()]
    return [t.get_window_extent(renderer) for t in texts], [
        i.get_window_extent(renderer) for a in axes for i in a.images
    ]


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


@pytest.mark.parametrize(("columns", "size"), [(2, 28), (6, 28), (6, 64), (2, 128), (6, 128)])
def test_a_swap_of_many_factors_fits_a_page_and_its_images_are_legible(columns, size):
    targets, sources, grids = swap(3, columns, size, ("residual", "digit", "color", "background"))
    figure = swap_figure(targets, sources, grids)
    assert figure.get_figwidth() <= PAGE
    texts, pictures = drawn(figure)
    assert len(pictures) == 4
    for picture in pictures:
        shown = picture.width / (columns + 1) / STYLE["savefig.dpi"]  # inches an image
        assert shown > (0.25 if size < 64 else 0.35 if size < 128 else 0.5)
    for a, b in combinations([*texts, *pictures], 2):
        assert not a.overlaps(b)


def test_the_same_pictures_give_the_same_file(tmp_path):
    first, second = (save(swap_figure(*swap()), tmp_path / f"{n}.png").read_bytes() for n in range(2))
    assert first == second
    targets, sources, grids = swap()
    other = {name: grid.flip(0) for name, grid in grids.items()}
    assert save(swap_figure(targets, sources, other), tmp_path / "other.png").read_bytes() != first


def test_panels_of_a_long_title_lie_side_by_side_where_they_fit():
    images = torch.zeros(10, 1, 28, 28)
    titles = ["$\\tilde{z} \\sim N(0, 1)$, through $T^{-1}$ (Eq. 13)", "a long title " * 5, "c", "d"]
    figure = panels_figure(dict.fromkeys(titles, images), columns=5, note="a note of some length " * 6)
    texts, pictures = drawn(figure)
    assert figure.get_figwidth() <= PAGE
    assert len(pictures) == 4
    for a, b in combinations([*texts, *pictures], 2):
        assert not a.overlaps(b)
    wide = panels_figure(dict.fromkeys(titles, torch.zeros(10, 3, 128, 128)), columns=8)
    assert len({round(axes.get_position().x0, 2) for axes in wide.axes}) == 1, "one below the other"


def test_each_row_has_its_label_beside_it():
    states = {"black": flat([-1.0] * 3, [-1.0] * 3), "white": flat([1.0] * 3, [1.0] * 3)}
    figure = rows_figure(states, "title", "note")
    axes = figure.axes[0]
    labels = {label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks())}
    for row, (label, images) in enumerate(states.items()):
        assert cell(axes, row, 1) == images[1, :, 0, 0].tolist()
        assert labels[label] == pytest.approx(GAP + SIZE / 2 + row * (SIZE + GAP), abs=1)
    texts, pictures = drawn(figure)
    assert not any(text.overlaps(pictures[0]) for text in texts)


@pytest.mark.parametrize("size", [28, 128])
def test_images_of_more_pixels_are_drawn_larger(size):
    images = torch.zeros(6, 3, size, size)
    for figure in (
        reconstruction_figure(images, images, 6),
        sample_figure(images, 6),
        walk_figure(images[:, None].expand(6, 2, 3, size, size)),
    ):
        _, (picture,) = drawn(figure)
        assert picture.width / 6 / STYLE["savefig.dpi"] == pytest.approx(0.3 if size == 28 else 0.6, rel=0.1)
