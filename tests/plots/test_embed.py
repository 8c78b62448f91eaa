"""Figures of embeddings: every point, step and name is where the numbers say, and the file is small."""

import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from iin_lightning.plots.embed import CLASS_COLORS, UNKNOWN, Coloring, Pair, Walk, pair_figure, walk_map_figure
from iin_lightning.plots.style import save

NAMES = [str(i) for i in range(10)]


@pytest.fixture
def points():
    return torch.randn(400, 2, generator=torch.Generator().manual_seed(0))


def labels(n=400, classes=10):
    return torch.arange(n) % classes


def paint(axes):
    (scatter,) = (part for part in axes.collections if isinstance(part, PathCollection))
    return scatter


def written(axes):
    return [text.get_text() for text in axes.texts]


def walks(**shares):
    return {name: Walk(torch.linspace(-1, 1, 22).view(11, 2), share) for name, share in shares.items()}


def test_a_panel_says_what_walks_and_whether_it_leaves(points):
    figure = walk_map_figure(
        points, Coloring("digit", labels(), NAMES), walks(residual=0.97, digit=0.23, color=0.8), "UMAP", 64, 0.1
    )
    found = {axes.get_title(): " ".join(written(axes)) for axes in figure.axes}
    assert "stays in its cluster:\n97 % of steps in the start's class" in found["walk in residual"]
    assert "leaves its cluster:\n23 % of steps" in found["walk in digit"]
    assert "mostly stays in its cluster:\n80 % of steps" in found["walk in color"]
    assert figure.get_suptitle() == "UMAP of 400 held-out latents z, coloured by digit"
    (legend,) = figure.legends
    assert "all steps of 64 walks a factor; 10 % if steps fell anywhere" in legend.get_title().get_text()


@pytest.mark.parametrize(("chance", "words"), [(0.1, "mostly stays in its cluster"), (0.5, "leaves its cluster")])
def test_of_two_classes_that_chance_hits_half_the_time_more_is_asked(points, chance, words):
    coloring = Coloring("Smiling", labels(classes=2), ["no", "yes"])
    (axes,) = walk_map_figure(points, coloring, walks(Smiling=0.6), "PCA", 9, chance).axes
    assert written(axes)[-1].startswith(f"{words}:\n60 %")


def test_crosses_are_the_steps_and_a_circle_the_start(points):
    path = torch.randn(7, 2)
    (axes,) = walk_map_figure(points, Coloring("digit", labels(), NAMES), {"digit": Walk(path)}, "PCA").axes
    marks = {line.get_marker(): torch.tensor(line.get_xydata()).float() for line in axes.lines}
    assert torch.allclose(marks["x"], path[1:])
    assert torch.allclose(marks["o"], path[:1])
    assert torch.allclose(marks["None"], path), "the line that joins them"
    assert axes.get_title() == "walk in digit"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("PCA 1", "PCA 2")


def test_points_have_the_colours_of_their_classes_and_unknown_ones_are_grey(points):
    values = labels()
    values[::7] = -1
    (axes,) = walk_map_figure(points, Coloring("digit", values, NAMES), walks(digit=0.5), "PCA").axes
    scatter = paint(axes)
    assert torch.allclose(torch.tensor(scatter.get_offsets().data).float(), points)
    for value, color in zip(values, scatter.get_facecolors()):
        assert tuple(color[:3]) == to_rgb(UNKNOWN if value < 0 else CLASS_COLORS[value])


def test_a_quantity_has_a_bar_with_its_unit_colours_are_true_and_no_values_are_grey(points):
    colors = torch.rand(400, 3)
    (axes,) = walk_map_figure(points, Coloring("color", colors), walks(digit=None), "PCA").axes
    assert torch.allclose(torch.tensor(paint(axes).get_facecolors()[:, :3]).float(), colors, atol=1e-6)
    quantity = Coloring("log-likelihood", torch.randn(400), unit="nats per dimension")
    _, bar = walk_map_figure(points, quantity, walks(residual=None), "PCA").axes
    assert bar.get_ylabel() == "log-likelihood [nats per dimension]"
    (axes,) = (grey := walk_map_figure(points, Coloring("", None), walks(residual=None), "PCA")).axes
    assert len(paint(axes).get_facecolors()) == 1
    assert "coloured" not in grey.get_suptitle()


def test_names_are_those_of_classes_that_occur_and_lie_at_their_clusters():
    values = torch.tensor([2] * 20 + [7] * 20)
    points = torch.where(values[:, None] == 2, -5.0, 5.0) + 0.1 * torch.randn(40, 2)
    (axes,) = walk_map_figure(points, Coloring("digit", values, NAMES), walks(digit=None), "PCA").axes
    places = {text.get_text(): text.xy for text in axes.texts if text.get_text()}
    assert set(places) == {"2", "7"}
    assert places["2"] == pytest.approx((-5, -5), abs=0.5)
    assert places["7"] == pytest.approx((5, 5), abs=0.5)


def test_a_hundred_classes_are_not_named_and_the_title_says_that_colours_repeat(points):
    many = Coloring("species", labels(classes=100), [f"species {i}" for i in range(100)])
    figure = walk_map_figure(points, many, walks(residual=0.5, a=0.5, b=0.5), "UMAP")
    assert "100 classes, colours repeat" in figure.get_suptitle()
    assert not any("species" in text for axes in figure.axes for text in written(axes))


def striped(n=400):
    """A factor in four clusters to the right, in the order 3, 1, 0, 2, and an independent one upwards."""
    values = labels(n, 4)
    x = torch.tensor([2.0, 1.0, 3.0, 0.0])[values] + 0.05 * torch.randn(n)
    return values, torch.stack([x, torch.rand(n)], 1)


def two_panels():
    values, points = striped()
    colorings = {"digit": Coloring("digit", values, NAMES), "color": Coloring("color", torch.rand(400, 3))}
    return pair_figure([Pair("digit", "color", points, by, 0.021) for by in colorings], colorings, "UMAP")


def test_classes_are_named_along_the_axis_of_their_factor():
    panels, heads = two_panels().axes[::3], two_panels().axes[1::3]
    for axes in panels:
        ticks = [label.get_text() for label in axes.get_xticklabels()]
        assert [name for _, name in sorted(zip(axes.get_xticks(), ticks))] == ["3", "1", "0", "2"]
        assert sorted(axes.get_xticks()) == pytest.approx([0, 1, 2, 3], abs=0.1)
        assert list(axes.get_yticks()) == []
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("digit factor, 1-D UMAP", "color factor, 1-D UMAP")
    assert [written(axes) for axes in heads] == [["mutual information 0.02 nats"]] * 2
    assert [axes.get_title() for axes in heads] == ["coloured by digit", "coloured by color"]


def test_in_a_pdf_points_are_one_image_and_letters_stay_letters(tmp_path):
    sizes = {}
    for n in (1000, 8000):
        coloring = Coloring("digit", labels(n), NAMES)
        figure = walk_map_figure(torch.randn(n, 2), coloring, {"digit": Walk(torch.randn(5, 2), 0.4)}, "UMAP", 9, 0.1)
        content = save(figure, tmp_path / f"{n}.pdf").read_bytes()
        assert b"/Subtype /Image" in content
        assert b"/Type /Font" in content
        sizes[n] = len(content)
    assert sizes[8000] < 2 * sizes[1000], "vectors would grow with the points"
