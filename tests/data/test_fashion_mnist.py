import gzip
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data import fakes

from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.fashion_mnist import FashionMNIST
from iin_lightning.data.mnist import MNIST
from iin_lightning.errors import DataNotFoundError


@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "raw", "."])
def test_it_is_found_in_each_usual_layout(tmp_path, folder):
    written = fakes.write_fashion_mnist(tmp_path / "a") / "FashionMNIST" / "raw"
    shutil.copytree(written, tmp_path / "b" / folder)
    source = FashionMNIST(tmp_path / "b", download=False, val_fraction=0.2).source("train")
    assert source.images.shape == (48, 1, 32, 32)
    assert source.concepts == ("garment",)


def test_the_authors_enlarge_what_we_pad(tmp_path):
    root = fakes.write_fashion_mnist(tmp_path)
    padded, enlarged = (
        FashionMNIST(root, download=False, preset=preset, val_fraction=0.2).source("train").images[:, 0]
        for preset in ("default", "authors")
    )
    for image, found in zip(padded[:5, 2:-2, 2:-2], enlarged):
        wanted = Image.fromarray(image.numpy()).resize((32, 32), Image.Resampling.BILINEAR)
        assert (torch.from_numpy(np.asarray(wanted, dtype=int)) - found).abs().max() <= 1


def test_it_is_not_taken_for_mnist(tmp_path):
    root = fakes.write_fashion_mnist(tmp_path)
    with pytest.raises(DataNotFoundError, match="MNIST was not found"):
        MNIST(root, download=False).prepare_data()
    (root / "FashionMNIST").rename(root / "MNIST")
    with pytest.raises(DataNotFoundError, match=r"FashionMNIST was not found in .*FashionMNIST.raw.*download=false"):
        FashionMNIST(root, download=False).prepare_data()


def test_there_is_a_name_for_each_class():
    assert len(FashionMNIST.classes["garment"]) == 10


# As the official files begin.
LABELS = {MNIST: (5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5), FashionMNIST: (9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9)}


def write_flat(folder, labels, suffix):
    shutil.move(fakes.write_fashion_mnist(folder / "made") / "FashionMNIST" / "raw", folder / "raw")
    written = folder / "raw" / "train-labels-idx1-ubyte"
    content = written.read_bytes()
    content = content[:8] + bytes(labels) + content[8 + len(labels) :]
    written.unlink()
    written.with_name(written.name + suffix).write_bytes(gzip.compress(content) if suffix else content)
    return folder / "raw"


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["root", "root/raw"])
def test_flat_files_that_begin_like_another_data_set_are_not_taken(tmp_path, place, suffix):
    for own, other in ((MNIST, FashionMNIST), (FashionMNIST, MNIST)):
        raw = write_flat(tmp_path / own.__name__, LABELS[own], suffix)
        root = raw if place == "root" else raw.parent
        options = {"val_fraction": 0.2, "download": False}
        assert own(root, **options).source("train").labels[:12, 0].tolist() == list(LABELS[own])
        with pytest.raises(DataNotFoundError, match=f"{other.dataset} was not found .*raw holds {own.dataset}'s files"):
            other(root, **options).prepare_data()


def test_colours_are_not_given_to_clothes(tmp_path):
    root = write_flat(tmp_path, LABELS[FashionMNIST], "")
    with pytest.raises(DataNotFoundError, match="holds FashionMNIST's files"):
        ColorMNIST(root, download=False).prepare_data()


def test_a_folder_of_the_right_name_is_taken_after_flat_files_of_another(tmp_path, monkeypatch):
    root = write_flat(tmp_path, LABELS[MNIST], "").parent
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", lambda root, download: fakes.write_fashion_mnist(root))
    FashionMNIST(root, download=True).prepare_data()
    assert FashionMNIST(root, download=False, val_fraction=0.2).source("train").labels[:3, 0].tolist() == [0, 1, 2]
    assert MNIST(root, download=False, val_fraction=0.2).source("train").labels[:3, 0].tolist() == [5, 0, 4]


def test_damaged_labels_are_said_to_be_damaged(tmp_path):
    raw = write_flat(tmp_path, LABELS[MNIST], ".gz")
    fakes.damage(raw / "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataNotFoundError, match=r"labels-idx1-ubyte\.gz cannot be decompressed"):
        FashionMNIST(raw, download=False).source("train")
