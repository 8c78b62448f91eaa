"""Laws that every data set keeps; a new one adds a row."""

import pytest
import torch
from torchvision.transforms.v2 import RandomInvert

from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.color_mnist import ColorMNIST, ColorMNISTMini
from iin_lightning.data.mnist import MNIST
from iin_lightning.seeding import Noise

NEGATIVES = {"film": {"negative": RandomInvert(p=1.0)}}
DATASETS = {
    "mnist": lambda root: MNIST(root, download=False),
    "mnist in RGB": lambda root: MNIST(root, channels=3, download=False),
    "color_mnist": lambda root: ColorMNIST(root, views=2, download=False),
    "color_mnist with complement": lambda root: ColorMNIST(root, background="complement", download=False),
    "color_mnist_mini": lambda root: ColorMNISTMini(views=1),
    "versions of mnist": lambda root: ChangedImages(MNIST(root, download=False), NEGATIVES),
}
every_dataset = pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS.keys())
every_split = pytest.mark.parametrize("split", ["train", "val", "test"])
HALF_LEVEL = 0.5 / 127.5 + 1e-6


@every_dataset
@every_split
def test_images_are_float32_in_range_and_of_the_stated_shape(make, split, mnist_root):
    data = make(mnist_root)
    source = data.source(split)
    for key in (None, Noise(0)):
        x = source.draw(torch.tensor([0, len(source) - 1, 0]), key)
        assert x.dtype == torch.float32
        assert x.shape == (3, *data.image_shape)
        assert x.abs().max() <= 1
        assert x.min() < -0.5
        assert x.max() > -0.1  # the darkest stroke has a channel of at least 1/2


@every_dataset
def test_an_item_is_the_same_again_and_training_adds_noise_of_half_a_level(make, mnist_root):
    source = make(mnist_root).source("train")
    items = torch.arange(10)
    exact = source.draw(items, None)
    assert torch.equal(exact, make(mnist_root).source("train").draw(items, None))
    noisy = source.draw(items, Noise(1))
    assert torch.equal(noisy, source.draw(items, Noise(1)))
    assert not torch.equal(noisy, source.draw(items, Noise(2)))
    assert 0 < (noisy - exact).abs().max() <= HALF_LEVEL
    assert torch.equal(exact.add(1).mul(127.5).round(), exact.add(1).mul(127.5).round().clamp(0, 255))


@every_dataset
def test_an_item_does_not_depend_on_its_batch(make, mnist_root):
    source = make(mnist_root).source("val")
    items = torch.arange(len(source))
    torch.testing.assert_close(source.draw(items, None)[-1:], source.draw(items[-1:], None), rtol=0, atol=0)


@every_dataset
def test_a_split_is_read_once(make, mnist_root):
    data = make(mnist_root)
    assert data.source("val") is data.source("val")


def test_a_limit_takes_some_items_of_each_split_by_seed(mnist_root):
    whole, part, again = (MNIST(mnist_root, val_fraction=0.5, limit=limit) for limit in (None, 10, 10))
    for split in ("train", "val", "test"):
        items = torch.arange(10)
        source = part.source(split)
        assert len(source) == 10
        assert torch.equal(source.draw(items, None), again.source(split).draw(items, None))
        assert torch.equal(source.draw(items, None), whole.source(split).draw(source.items, None))
        assert torch.equal(source.labels, whole.source(split).labels[source.items])
