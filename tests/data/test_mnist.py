"""The files of MNIST and Fashion-MNIST: what is read, what is refused, and what is said of it."""

import gzip
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data import fakes

from iin_lightning.data.mnist import MNIST, FashionMNIST, read_idx
from iin_lightning.errors import ConfigError, DataNotFoundError


def idx(sizes: tuple[int, ...], values: bytes) -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4) for size in sizes) + values


DAMAGED = {
    "too short": ("values", idx((2, 3), bytes(5)), "holds 5 values, its header states 2x3 = 6"),
    "too long": ("values", idx((2, 3), bytes(7)), "holds 7 values, its header states 2x3 = 6"),
    "half a header": ("values", idx((2, 3), b"")[:9], "ends within its header, after 9 of 12 bytes"),
    "a web page": ("values", b"<html>", "starts with 0x3c68746d, an IDX file of bytes with 0x000008"),
    "floating-point numbers": ("values", b"\0\0\x0d\1" + bytes(4), "starts with 0x00000d01"),
    "nothing": ("values", b"", "starts with 0x,"),
    "no gzip": ("values.gz", b"no gzip at all", "values.gz cannot be decompressed"),
    "half a gzip": ("values.gz", gzip.compress(idx((9,), bytes(9)))[:-12], "values.gz cannot be decompressed"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_says_what_is_wrong_and_what_to_do(tmp_path, case):
    name, content, text = DAMAGED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataNotFoundError, match=rf"{re.escape(str(tmp_path))}.*{re.escape(text)[7:]}.*fetch it again"):
        read_idx(tmp_path / name)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_plain_or_compressed(tmp_path, mnist_root, write_mnist, suffix):
    content = idx((2, 3), bytes(range(250, 256)))
    (tmp_path / f"values{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    assert torch.equal(read_idx(tmp_path / f"values{suffix}"), torch.arange(250, 256).byte().reshape(2, 3))
    write_mnist(tmp_path / "MNIST" / "raw", suffix)
    assert torch.equal(MNIST(tmp_path).source("train").images, MNIST(mnist_root).source("train").images)


def test_validation_digits_are_the_end_of_the_training_file_and_never_trained_on(mnist_root):
    data = MNIST(mnist_root, val_fraction=0.2)
    train, val, test = (data.source(split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (48, 12, 24)
    everything = torch.cat([train.images, val.images, test.images]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)
    assert torch.equal(val.labels[:, 0], torch.arange(48, 60) % 10)


def test_the_authors_enlarge_what_we_pad(tmp_path):
    root = fakes.write_fashion_mnist(tmp_path)
    padded, enlarged = (
        FashionMNIST(root, preset=preset, val_fraction=0.2).source("train").images[:, 0]
        for preset in ("default", "authors")
    )
    for image, found in zip(padded[:5, 2:-2, 2:-2], enlarged):
        wanted = Image.fromarray(image.numpy()).resize((32, 32), Image.Resampling.BILINEAR)
        assert (torch.from_numpy(np.asarray(wanted, dtype=int)) - found).abs().max() <= 1


def test_fashion_mnist_is_not_taken_for_mnist(tmp_path):
    root = fakes.write_fashion_mnist(tmp_path)
    assert FashionMNIST(root, val_fraction=0.2).source("train").images.shape == (48, 1, 32, 32)
    with pytest.raises(DataNotFoundError) as error:
        MNIST(root).prepare_data()
    for text in (
        str(tmp_path / "MNIST" / "raw"),
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "download=false",
        "paths.data",
        "data=color_mnist_mini needs no files",
    ):
        assert text in str(error.value)


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path, write_mnist):
    write_mnist(folder := tmp_path / "MNIST" / "raw")
    (folder / "train-labels-idx1-ubyte").write_bytes((folder / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataNotFoundError, match=r"sizes \(60, 28, 28\) and the labels \(24,\)"):
        MNIST(tmp_path).source("train")


@pytest.mark.parametrize("options", [{"channels": 2}, {"preset": "author"}, {"limit": 0}])
def test_an_option_out_of_its_range_is_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        MNIST("nowhere", **options)
