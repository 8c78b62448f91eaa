import tarfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import pytest
from filelock import FileLock
from tests.data import fakes

from iin_lightning.data.cifar10 import CIFAR10
from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.mnist import MNIST, FashionMNIST
from iin_lightning.errors import DataNotFoundError


def write_mnist(root):
    (fakes.write_fashion_mnist(root) / "FashionMNIST").rename(root / "MNIST")


# Data set: its class in torchvision, and what that writes.
DOWNLOADED = {
    MNIST: ("MNIST", write_mnist),
    ColorMNIST: ("MNIST", write_mnist),
    FashionMNIST: ("FashionMNIST", fakes.write_fashion_mnist),
    CIFAR10: ("CIFAR10", fakes.write_cifar10_archive),
}
every_data_set = pytest.mark.parametrize("data", DOWNLOADED, ids=lambda data: data.__name__)


def instead_of_torchvision(monkeypatch, data, download):
    if data is CIFAR10:  # an archive, which is fetched and not unpacked
        monkeypatch.setattr(
            "torchvision.datasets.utils.download_url", lambda url, root, *_: download(Path(root), download=True)
        )
    else:
        monkeypatch.setattr(f"torchvision.datasets.{DOWNLOADED[data][0]}", download)


def assert_free(root, data):
    with FileLock(root / f"{DOWNLOADED[data][0]}.lock", timeout=0):
        pass


@every_data_set
def test_jobs_that_start_together_download_once(data, tmp_path, monkeypatch):
    write = DOWNLOADED[data][1]
    downloads = []

    def slow(root, download):
        downloads.append(root)
        time.sleep(0.2)
        write(root)

    instead_of_torchvision(monkeypatch, data, slow)
    with ThreadPoolExecutor(3) as jobs:
        for job in [jobs.submit(data(tmp_path / "new", download=True).prepare_data) for _ in range(3)]:
            job.result()
    assert len(downloads) == 1
    assert len(data(tmp_path / "new", download=False).source("test")) == 20
    assert_free(tmp_path / "new", data)


@every_data_set
def test_no_job_finds_half_of_a_download(data, tmp_path, monkeypatch):
    def interrupted(root, download):
        DOWNLOADED[data][1](root)
        with pytest.raises(DataNotFoundError):  # all files are there, but any could be half of one
            data(tmp_path, download=False).prepare_data()
        raise URLError("timed out")

    instead_of_torchvision(monkeypatch, data, interrupted)
    with pytest.raises(DataNotFoundError, match="timed out"):
        data(tmp_path, download=True).prepare_data()
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "error",
    [
        URLError("no network"),
        IncompleteRead(b"", 100),
        RuntimeError("File not found or corrupted"),
        EOFError("Compressed file ended"),
        zlib.error("invalid stored block lengths"),
        tarfile.ReadError("unexpected end of data"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_download_says_why_and_lets_the_next_job_try(error, tmp_path, monkeypatch):
    data = MNIST

    def failing(root, download):
        raise error

    instead_of_torchvision(monkeypatch, data, failing)
    with pytest.raises(DataNotFoundError, match=r"Downloading failed \(.*\)\. Put .* point paths\.data") as caught:
        data(tmp_path, download=True).prepare_data()
    assert str(error) in str(caught.value)
    assert caught.value.__cause__ is error
    assert_free(tmp_path, data)
    instead_of_torchvision(monkeypatch, data, lambda root, download: DOWNLOADED[data][1](root))
    data(tmp_path, download=True).prepare_data()


def _archive(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, link in members:
            member = tarfile.TarInfo(name)
            if link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, link
            else:
                member.size = 4
            archive.addfile(member, BytesIO(b"evil"))


@pytest.mark.parametrize(
    "members",
    [
        [("../../evil", None)],
        [("{outside}/evil", None)],
        [("cifar-10-batches-py/out", "{outside}"), ("cifar-10-batches-py/out/evil", None)],
        [("cifar-10-batches-py/test_batch", "{outside}/secret")],
    ],
    ids=["up", "absolute", "link", "link in place of a file"],
)
def test_an_archive_is_read_and_never_unpacked(members, tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    members = [(name.format(outside=outside), link and link.format(outside=outside)) for name, link in members]

    instead_of_torchvision(
        monkeypatch, CIFAR10, lambda root, download: _archive(root / "cifar-10-python.tar.gz", *members)
    )
    data = CIFAR10(tmp_path / "data", download=True)
    data.prepare_data()
    with pytest.raises(DataNotFoundError, match=r"cifar-10-python.tar.gz has no test_batch"):
        data.source("test")
    assert not list(tmp_path.rglob("*evil*"))
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"CIFAR10.lock", "cifar-10-python.tar.gz"}


def test_files_of_another_layout_are_not_taken_for_a_download(tmp_path, monkeypatch):
    instead_of_torchvision(monkeypatch, MNIST, lambda root, download: (root / "mnist.npz").write_text(""))
    with pytest.raises(DataNotFoundError, match="It was downloaded, but"):
        MNIST(tmp_path, download=True).prepare_data()
