"""Traits of digits are what they are called, and depend on neither colour nor place."""

import pytest
import torch
from torchvision.transforms.functional import affine

from iin_lightning.data.traits import ink, slant


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
