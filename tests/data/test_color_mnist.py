import pytest
import torch
from scipy.stats import chi2_contingency

from iin_lightning.data.color_mnist import (
    ColoredDigits,
    ColorMNIST,
    ColorMNISTMini,
    deform,
    draw_deformations,
    draw_palette,
)
from iin_lightning.errors import ConfigError
from iin_lightning.seeding import generator

SPLITS = ("train", "val", "test")


def pixel(x: torch.Tensor, row: int, column: int) -> torch.Tensor:
    return (x[:, :, row, column] + 1) / 2


@pytest.mark.parametrize("background", ["black", "complement"])
@pytest.mark.parametrize("split", SPLITS)
def test_stroke_and_background_have_the_colour_of_the_label(mnist_root, split, background):
    source = ColorMNIST(mnist_root, background=background, views=3).source(split)
    items = torch.arange(len(source))
    x, color = source.draw(items, None), source.colors(items)
    assert torch.equal(color, source.strokes[source.labels[:, 1]])
    level = 0.5 / 255 + 1e-6
    torch.testing.assert_close(pixel(x, 16, 16), color, rtol=0, atol=level)
    behind = torch.zeros_like(color) if background == "black" else 1 - color
    torch.testing.assert_close(pixel(x, 0, 0), behind, rtol=0, atol=level)


def test_the_complement_equals_multiplying_an_image_in_minus_one_to_one():
    key = generator(0)
    grey, color = torch.randint(256, (8, 4, 4), generator=key).byte(), draw_palette(8, 0.5, key)
    source = ColoredDigits(grey, torch.arange(8), color, background="complement", generator=key)
    item = torch.arange(8)
    expected = (grey / 127.5 - 1)[:, None] * color[source.labels[:, 1], :, None, None]
    torch.testing.assert_close(source.draw(item, None), expected, rtol=0, atol=0.5 / 127.5 + 1e-5)


def test_views_of_an_image_keep_its_digit_and_their_colour(mnist_root):
    data = ColorMNIST(mnist_root, views=3)
    source = data.source("train")
    n = len(source) // 3
    assert torch.equal(source.labels[:n, 0], source.labels[n : 2 * n, 0])
    again = ColorMNIST(mnist_root, views=3).source("train")
    assert torch.equal(source.labels, again.labels)
    assert torch.equal(source.draw(torch.arange(n), None), again.draw(torch.arange(n), None))
    other = ColorMNIST(mnist_root, views=3, seed=1).source("train")
    assert not torch.equal(source.strokes, other.strokes)


def test_views_are_for_training_only(mnist_root):
    data = ColorMNIST(mnist_root, views=3, val_fraction=0.1)
    assert [len(data.source(split)) for split in SPLITS] == [54 * 3, 6, 24]


def test_no_two_splits_share_a_colour():
    data = ColorMNISTMini()
    colors = torch.cat([data.source(split).strokes for split in SPLITS])
    assert len(colors) == 512 + 500 // 8 + 2000 // 8
    assert len(colors.mul(255).round().unique(dim=0)) == len(colors)


@pytest.mark.parametrize("views", [1, 4, 8])
@pytest.mark.parametrize("split", SPLITS)
def test_under_a_limit_an_item_has_a_partner_of_its_colour(split, views):
    source = ColorMNISTMini(limit=256, views=views).source(split)
    _, color, sizes = source.labels[:, 1].unique(return_inverse=True, return_counts=True)
    assert (sizes[color] > 1).float().mean() > 0.9
    assert len(source) == 256


@pytest.mark.parametrize(("limit", "n", "views"), [(1, 1, 1), (3, 1, 3), (4, 1, 4), (5, 1, 4), (18, 4, 4)])
def test_a_limit_takes_digits_with_all_their_views_and_the_same_ones_for_every_seed(mnist_root, limit, n, views):
    whole = ColorMNIST(mnist_root, views=4).source("train")
    one, other = (ColorMNIST(mnist_root, views=4, limit=limit, seed=seed).source("train") for seed in (0, 1))
    assert len(one) == n * views
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels[:, 0], one.labels[:n, 0].repeat(views))
    assert not torch.equal(one.strokes, other.strokes)
    known = {(image.numpy().tobytes(), digit) for image, digit in zip(whole.images, whole.labels[:, 0].tolist())}
    assert {(image.numpy().tobytes(), digit) for image, digit in zip(one.images, one.labels[:, 0].tolist())} <= known


def test_colours_are_shared_out_evenly_and_say_nothing_about_the_digit():
    labels = ColorMNISTMini(palette=16).source("train").labels
    counts = labels[:, 1].bincount()
    assert counts.max() - counts.min() <= 1
    table = torch.zeros(10, 16).index_put_((labels[:, 0], labels[:, 1]), torch.ones(len(labels)), accumulate=True)
    assert chi2_contingency(table.numpy()).pvalue > 1e-3


def test_a_palette_is_uniform_above_its_least_brightness():
    palette = draw_palette(20_000, 0.5, generator(0))
    brightest = palette.amax(1)
    assert brightest.min() >= 0.5
    assert palette.max() <= 1
    # P(max < 3/4 | max >= 1/2) of a uniform cube
    assert (brightest < 0.75).float().mean().item() == pytest.approx((0.75**3 - 0.125) / 0.875, abs=0.02)
    assert (palette.mean(0) - palette.mean()).abs().max() < 0.01


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"background": "complment"}, "did you mean complement"),
        ({"min_brightness": 1.0}, r"min_brightness=1.0 must be in \[0, 1\)"),
        ({"preset": "author"}, "did you mean authors"),
        ({"views": 0}, "views=0"),
        ({"palette": 0}, "palette=0"),
        ({"val_fraction": 0.0}, "val_fraction=0.0"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_any_file_is_read(options, text):
    with pytest.raises(ConfigError, match=text):
        ColorMNIST("nowhere", **options)


def test_the_embedded_digits_are_mnist():
    source = ColorMNISTMini(views=1).source("train")
    assert source.labels[:10, 0].tolist() == [9, 3, 5, 4, 7, 4, 9, 6, 8, 8]
    counts = source.labels[:, 0].bincount(minlength=10)
    assert counts.min() > 800
    # The mean and standard deviation of MNIST's grey levels are widely known: 0.1307 and 0.3081.
    grey = source.images[:, 2:30, 2:30].double() / 255
    assert grey.mean().item() == pytest.approx(0.1307, abs=2e-3)
    assert grey.std().item() == pytest.approx(0.3081, abs=2e-3)


def test_further_training_views_are_deformed_by_amounts_of_their_own_and_the_first_is_not(mnist_root):
    plain, deformed, again = (
        ColorMNIST(mnist_root, views=3, palette=1, deformation=d).source("train") for d in (0.0, 0.5, 0.5)
    )
    items = torch.arange(len(plain))
    first, second, third = deformed.draw(items, None).chunk(3)
    assert torch.equal(first, plain.draw(items, None).chunk(3)[0])
    assert torch.equal(deformed.labels, plain.labels)
    changes = [(view != first).float().mean() for view in (second, third)] + [(second != third).float().mean()]
    assert min(changes) > 0.1
    assert torch.equal(again.draw(items.flip(0), None), deformed.draw(items, None).flip(0))
    test = [ColorMNIST(mnist_root, deformation=d).source("test") for d in (0.0, 0.5)]
    assert torch.equal(*(source.draw(torch.arange(24), None) for source in test))


def test_a_deformation_stays_within_its_bounds():
    square = torch.zeros(500, 32, 32, dtype=torch.uint8)
    square[:, 12:20, 12:20] = 255
    deformed = deform(square, draw_deformations(500, 1.0, generator(0)))
    mass = deformed.float().sum((1, 2)) / square.float().sum((1, 2))
    # The area changes by the two scales and little by shear: e^±0.24 and 4 %.
    assert 0.7 < mass.min() < 0.85
    assert 1.15 < mass.max() < 1.45
    assert torch.equal(deform(square, draw_deformations(500, 0.0, generator(0))), square)
