"""Bytes: every level survives, every other range is refused, and each protocol does to them what it says."""

import numpy as np
import pytest
import torch
from PIL import Image

from iin_lightning.data.images import dequantize, to_range
from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError
from iin_lightning.metrics.pixels import dequantize_images, resize_clean, stretch, to_uint8
from iin_lightning.seeding import Noise, generator


def every_level():
    return torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, -1, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_grey_level_comes_back(dtype):
    assert torch.equal(to_uint8(to_range(every_level()).to(dtype)), every_level())


def test_the_training_noise_of_a_pixel_is_rounded_away():
    noisy = dequantize(every_level(), Noise(0))
    assert not torch.equal(noisy, to_range(every_level()))
    assert torch.equal(to_uint8(noisy), every_level())


def test_levels_are_rounded_not_truncated_and_overshoot_is_clamped():
    x = torch.tensor([-1.3, -1 + 0.9 / 127.5, 1 - 0.4 / 127.5, 1.9]).reshape(1, 1, 2, 2)
    assert to_uint8(x)[0, 0].flatten().tolist() == [0, 1, 255, 255]


def test_grey_is_replicated_and_colour_kept():
    grey = torch.rand(4, 1, 5, 6) * 2 - 1
    assert torch.equal(to_uint8(grey), to_uint8(grey.repeat(1, 3, 1, 1)))
    assert to_uint8(grey).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_other_types_are_refused(dtype):
    with pytest.raises(ConfigError, match="expects floating-point images"):
        to_uint8(torch.zeros(2, 3, 4, 4).to(dtype))


@pytest.mark.parametrize("wrong", [255.0, -3.0, 2.1])
def test_other_ranges_are_refused(wrong):
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 3, 3] = wrong
    with pytest.raises(ConfigError, match=r"in \[-1, 1\], got values from"):
        to_uint8(images)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_images_that_are_no_numbers_are_counted(wrong):
    images = torch.zeros(3, 3, 4, 4)
    images[1, 0, 0, 0] = wrong
    with pytest.raises(NonFiniteError, match="1 of 3 images"):
        to_uint8(images)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 4, 4, 4), (2, 2, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="C = 1 or 3"):
        to_uint8(torch.zeros(shape))


def test_no_images_give_no_bytes():
    assert to_uint8(torch.zeros(0, 1, 4, 4)).shape == (0, 3, 4, 4)


def test_stretching_reaches_both_ends_of_each_image_alone():
    images = torch.rand(5, 3, 8, 8) * 0.5 - 0.7
    pixels = to_uint8(stretch(images))
    assert pixels.amin((1, 2, 3)).tolist() == [0] * 5
    assert pixels.amax((1, 2, 3)).tolist() == [255] * 5
    assert torch.equal(stretch(torch.full((1, 1, 4, 4), 0.3)), torch.full((1, 1, 4, 4), 0.3))


def test_half_of_the_dequantised_images_are_one_level_brighter_whatever_the_order():
    pixels = torch.randint(256, (400, 3, 4, 4), dtype=torch.uint8, generator=generator(0))
    noisy = dequantize_images(pixels, 0)
    added = noisy.int() - pixels.int()
    brighter = added.amax((1, 2, 3))
    assert torch.equal(added, brighter[:, None, None, None] * (pixels < 255))
    assert 150 < brighter.sum() < 250
    order = torch.randperm(400)
    assert torch.equal(dequantize_images(pixels[order], 0), noisy[order])
    assert not torch.equal(dequantize_images(pixels, 1), noisy)


@pytest.mark.parametrize("size", [13, 48])
def test_the_clean_resize_is_that_of_pil_in_floating_point(size):
    pixels = torch.randint(256, (2, 3, 24, 24), dtype=torch.uint8, generator=generator(1))
    for channel, resized in zip(pixels.flatten(0, 1), resize_clean(pixels, size).flatten(0, 1)):
        image = Image.fromarray(channel.float().numpy()).resize((size, size), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(image)).clamp(0, 255)
        assert (resized - expected).abs().max() < 0.51, "only the rounding is ours"
