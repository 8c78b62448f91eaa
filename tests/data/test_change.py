"""What makes a version of an image: known by what it does, seeded for each image, refused if it gives no such image."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from iin_lightning.data.change import ChangeError, changed, described
from iin_lightning.errors import ConfigError

IMAGES = torch.arange(4 * 3 * 8 * 8).remainder(251).byte().view(4, 3, 8, 8)
ITEMS = torch.arange(4)


class Named:
    """Says itself what it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, pixels):
        return pixels

    def fingerprint(self) -> str:
        return self.name


class Network(nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, pixels):
        return (pixels * self.weight).byte()


class Darker(nn.Module):
    """Its repr says nothing of its option, and not everything it holds can be said."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.functions = [lambda x: x]

    def forward(self, pixels):
        return (pixels * self.factor).byte()


def test_the_description_changes_with_all_that_the_result_depends_on():
    different = [
        v2.RandomRotation([30, 30]),
        v2.RandomRotation([30, 31]),
        v2.RandomRotation([30, 30], fill=1),
        v2.Compose([v2.RandomInvert(1.0), v2.GaussianBlur(3, [1.0, 1.0])]),
        v2.Compose([v2.GaussianBlur(3, [1.0, 1.0]), v2.RandomInvert(1.0)]),
        Named("a"),
        Named("b"),
        Network(1.0),
        Network(0.5),
        Darker(0.5),
        Darker(0.7),
        nn.Sequential(Darker(0.5)),
        nn.Sequential(Darker(0.7)),
    ]
    assert len(set(map(described, different))) == len(different)
    assert described(v2.RandomRotation([30, 30])) == described(v2.RandomRotation([30, 30]))
    assert described(Network(0.5)) == described(Network(0.5))
    assert described(Darker(0.5)) == described(Darker(0.5))


class Silent:
    def __call__(self, pixels):
        return pixels


def flip(pixels):
    return pixels.flip(-1)


@pytest.mark.parametrize(
    "change",
    [Silent(), flip, partial(flip), lambda x: x, v2.Lambda(flip), v2.Compose([v2.RandomInvert(1.0), v2.Lambda(flip)])],
    ids=["an object", "a function", "a partial", "a lambda", "a Lambda", "inside a Compose"],
)
def test_what_does_not_say_what_it_does_is_refused(change):
    with pytest.raises(ConfigError, match=r"fingerprint\(\) -> str"):
        described(change)


class Draws(Named):
    """A level from each of the global generators."""

    def __call__(self, pixels):
        levels = int(torch.randint(256, ())), int(np.random.randint(256)), random.randrange(256)
        return torch.tensor(levels, dtype=torch.uint8)[:, None, None].expand_as(pixels)


def test_what_is_random_depends_on_the_change_and_the_image_alone():
    all_of_them = changed(Draws("a"), IMAGES, ITEMS, "a")
    assert all(len(all_of_them[:, channel, 0, 0].unique()) == 4 for channel in range(3))
    torch.manual_seed(5)
    assert torch.equal(changed(Draws("a"), IMAGES[[2, 0]], torch.tensor([2, 0]), "a"), all_of_them[[2, 0]])
    assert not torch.equal(changed(Draws("a"), IMAGES, ITEMS, "b"), all_of_them)


def test_the_global_generators_are_left_as_they_were():
    def draw():
        return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()

    def seed():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)

    seed()
    expected = draw()
    seed()
    changed(Draws("a"), IMAGES, ITEMS, "a")
    assert draw() == expected


class Overwrites(Named):
    def __call__(self, pixels):
        return pixels.zero_()


def test_a_change_may_overwrite_what_it_is_given():
    images = IMAGES.clone()
    assert not changed(Overwrites("zero"), images, ITEMS, "zero").any()
    assert torch.equal(images, IMAGES)


WRONG = {
    "another shape": (v2.CenterCrop(4), IMAGES, r"gives torch\.uint8 \(3, 4, 4\) for an image, uint8 \(3, 8, 8\)"),
    "another type": (v2.ToDtype(torch.float32, scale=True), IMAGES, r"gives torch\.float32"),
    "more channels": (
        v2.Grayscale(3),
        IMAGES[:, :1],
        r"gives torch\.uint8 \(3, 8, 8\) for an image, uint8 \(1, 8, 8\)",
    ),
    "no tensor": (v2.ToPILImage(), IMAGES, "gives Image"),
    "a failure": (v2.RandomCrop(20), IMAGES, "fails on an image.*: ValueError: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_gives_no_image_of_the_same_kind_is_refused(case):
    change, images, text = WRONG[case]
    with pytest.raises(ChangeError, match=text):
        changed(change, images, ITEMS, "key")
