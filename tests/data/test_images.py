import pytest
import torch
from torchvision.transforms.functional import affine

from iin_lightning.data.images import dequantize, ink, pad_to, slant, to_range
from iin_lightning.errors import ShapeError
from iin_lightning.seeding import Noise

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_the_range_has_its_ends_and_every_grey_level():
    x = to_range(LEVELS)
    assert x.dtype == torch.float32
    assert (x[0].item(), x[-1].item()) == (-1, 1)
    torch.testing.assert_close(((x + 1) * 127.5).round().byte(), LEVELS)


def test_dequantisation_moves_a_pixel_by_half_a_grey_level_at_most_and_stays_in_range():
    pixels = LEVELS.repeat(400, 1)
    x = dequantize(pixels, Noise(0))
    error = (x - to_range(pixels)) * 127.5
    assert error.abs().max() <= 0.5 + 1e-4
    assert x.abs().max() <= 1
    assert torch.equal((x[:, 1:-1] * 127.5 + 127.5).round().byte(), pixels[:, 1:-1])


def test_dequantisation_noise_is_uniform_with_mean_zero_and_independent_for_each_pixel():
    pixels = torch.full((300, 300), 100, dtype=torch.uint8)
    error = (dequantize(pixels, Noise(0)) - to_range(pixels)).double() * 127.5
    assert abs(error.mean().item()) < 5 * (1 / 12 / error.numel()) ** 0.5
    assert error.var().item() == pytest.approx(1 / 12, rel=0.02)
    neighbours = torch.corrcoef(torch.stack([error[:, 1:].flatten(), error[:, :-1].flatten()]))[0, 1]
    assert abs(neighbours.item()) < 5 / error.numel() ** 0.5


def test_padding_keeps_the_image_in_the_middle_of_background():
    padded = pad_to(torch.full((2, 28, 28), 9, dtype=torch.uint8), 32)
    assert padded.shape == (2, 32, 32)
    assert padded.dtype == torch.uint8
    assert (padded[:, 2:30, 2:30] == 9).all()
    assert padded.sum() == 2 * 28 * 28 * 9


def test_an_image_too_large_to_pad_is_refused():
    with pytest.raises(ShapeError, match="33x28 do not fit into 32x32"):
        pad_to(torch.zeros(33, 28), 32)


def stroke(width=2):
    image = torch.full((1, 3, 32, 32), -1.0)
    image[:, :, 8:24, 16 - width // 2 : 16 + width // 2] = 1
    return image


@pytest.mark.parametrize("degrees", [-30, -10, 0, 15])
def test_a_sheared_stroke_leans_by_the_tangent(degrees):
    leaning = affine(stroke() + 1, angle=0, translate=[0, 0], scale=1, shear=[degrees, 0]) - 1
    expected = torch.tensor(float(degrees)).deg2rad().tan()
    assert slant(leaning).abs().item() == pytest.approx(expected.abs().item(), abs=0.06)
    assert slant(leaning.flip(3)).item() == pytest.approx(-slant(leaning).item(), abs=1e-4)


def test_a_wider_stroke_has_more_ink():
    assert ink(stroke(4)).item() == pytest.approx(2 * ink(stroke(2)).item())


@pytest.mark.parametrize("measure", [slant, ink])
def test_neither_depends_on_colour_or_place(measure):
    leaning = affine(stroke() + 1, angle=0, translate=[0, 0], scale=1, shear=[20, 0]) - 1
    red = torch.cat([(leaning[:, :1] + 1) * 0.6 - 1, torch.full((1, 2, 32, 32), -1.0)], 1)
    for other in (red, leaning.roll((3, -2), (2, 3))):
        torch.testing.assert_close(measure(other), measure(leaning), rtol=0, atol=1e-4)


@pytest.mark.parametrize("measure", [slant, ink])
def test_an_empty_image_has_a_finite_trait(measure):
    assert measure(torch.full((2, 1, 8, 8), -1.0)).isfinite().all()
