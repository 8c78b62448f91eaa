import shutil

import pytest
from tests.data import fakes

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


def test_it_is_not_taken_for_mnist(tmp_path):
    root = fakes.write_fashion_mnist(tmp_path)
    with pytest.raises(DataNotFoundError, match="MNIST was not found"):
        MNIST(root, download=False).prepare_data()
    (root / "FashionMNIST").rename(root / "MNIST")
    with pytest.raises(DataNotFoundError, match=r"FashionMNIST was not found in .*FashionMNIST.raw.*download=false"):
        FashionMNIST(root, download=False).prepare_data()


def test_torchvision_downloads_it(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", lambda root, download: fakes.write_fashion_mnist(root))
    data = FashionMNIST(tmp_path)
    data.prepare_data()
    assert len(data.source("test")) == 20
    assert len(data.classes["garment"]) == 10
