import io
import os
import pickle

import pytest
import torch
from tests.data import fakes

from iin_lightning.data.cifar10 import CIFAR10, CLASSES, read_batch
from iin_lightning.errors import ConfigError, DataNotFoundError


def cifar10(root, **options) -> CIFAR10:
    return CIFAR10(root, **{"download": False, "val_fraction": 0.2, **options})


def test_batches_and_their_archive_give_the_same(tmp_path):
    batches, archive = fakes.write_cifar10_batches(tmp_path / "a"), fakes.write_cifar10_archive(tmp_path / "b")
    for split in ("train", "val", "test"):
        one, other = (cifar10(root).source(split) for root in (batches, archive))
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_a_batch_is_planar_and_in_the_official_order_of_classes(tmp_path):
    source = cifar10(fakes.write_cifar10_batches(tmp_path)).source("test")
    expected = torch.stack([fakes.pixels(f"test_batch{i}", 32, 32).permute(2, 0, 1) for i in range(20)])
    assert torch.equal(source.images, expected)
    assert source.labels[:, 0].tolist() == [i % 10 for i in range(20)]
    assert CLASSES[3] == "cat"


@pytest.mark.parametrize(("write", "n"), [(fakes.write_cifar10_batches, 10), (fakes.write_cifar10_folders, 8)])
def test_validation_has_two_of_each_class_and_at_most_a_third(tmp_path, write, n):
    data = cifar10(write(tmp_path))
    train, val = (data.source(split).labels[:, 0].bincount(minlength=10) for split in ("train", "val"))
    assert (train + val).tolist() == [n] * 10
    assert 2 <= val.min() <= val.max() <= n // 3


def test_folders_are_read_by_name(tmp_path):
    root = fakes.write_cifar10_folders(tmp_path)
    source = cifar10(root).source("test")
    assert source.labels[:, 0].bincount().tolist() == [3] * 10
    cats = source.images[source.labels[:, 0] == CLASSES.index("cat")]
    expected = {fakes.pixels(f"test/cat/{i:04d}.png", 32, 32).permute(2, 0, 1).numpy().tobytes() for i in range(3)}
    assert {cat.numpy().tobytes() for cat in cats} == expected


def test_another_folder_is_named_with_the_classes(tmp_path):
    root = fakes.write_cifar10_folders(tmp_path)
    fakes.write_image(root / "cifar10" / "train" / "plane" / "0.png")
    with pytest.raises(ConfigError, match=r"train/plane is no class of CIFAR-10; allowed are: airplane.*airplane\?"):
        cifar10(root).source("train")


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"data": Attack()}), r"asks for \w+.system, which no batch"),
        (pickle.dumps({"data": torch.zeros(1, 3072).byte().numpy()}), "KeyError: 'labels'"),
        (pickle.dumps({"data": torch.zeros(1, 3072).byte().numpy(), "labels": [10]}), "labels from 10 to 10"),
        (pickle.dumps({"data": torch.zeros(1, 3072).byte().numpy(), "labels": [1, 2]}), "1 images and 2 labels"),
        (fakes.cifar10_batches(2)["test_batch"][:-1000], "damaged"),
        (b"", "damaged"),
    ],
)
def test_what_is_no_batch_is_refused_by_name(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataNotFoundError, match=rf"data_batch_1.*{reason}.*Fetch it again"):
        read_batch(io.BytesIO(content), "data_batch_1")
    assert not os.path.exists("attacked")


def test_a_damaged_archive_is_named(tmp_path):
    root = fakes.write_cifar10_archive(tmp_path)
    fakes.damage(root / "cifar-10-python.tar.gz")
    with pytest.raises(DataNotFoundError, match=r"cifar-10-python.tar.gz.*Fetch it again"):
        cifar10(root).source("train")


def test_what_is_missing_is_said_with_what_lies_there(tmp_path):
    (tmp_path / "celeba").mkdir()
    with pytest.raises(DataNotFoundError) as error:
        cifar10(tmp_path).prepare_data()
    for text in ("download=false", "data_batch_5, test_batch", "cifar-10-python.tar.gz", "paths.data", "has celeba/"):
        assert text in str(error.value)
