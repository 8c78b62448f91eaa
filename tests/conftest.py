"""What all tests share: a fake MNIST of real names, and commands run as a user runs them."""

import gzip
import os
import struct
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from tests.commands import Commands

from iin_lightning.serialization import trust

# Networks of the tests are stored and read again. Commands are processes of their own, to which it must be said.
trust("tests")

# Tensors here are so small that threads wait for each other longer than they work.
torch.set_num_threads(1)
os.environ["NUMBA_NUM_THREADS"] = "1"  # of UMAP, whose threads would lock up what a later test forks

N_TRAIN, N_TEST = 60, 24


def write_idx(path: Path, values: torch.Tensor) -> None:
    content = struct.pack(f">HBB{values.dim()}I", 0, 8, values.dim(), *values.shape) + values.numpy().tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _write_mnist(folder: Path, suffix: str = "") -> None:
    """Digits are random grey blobs whose middle pixel is white; labels go round 0...9."""
    folder.mkdir(parents=True)
    for part, n in (("train", N_TRAIN), ("t10k", N_TEST)):
        images = torch.randint(1, 256, (n, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
        images[:, :8] = 0
        images[:, 14, 14] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", (torch.arange(n) % 10).byte())


def pytest_collection_modifyitems(config, items):
    """What starts real servers, launchers or a browser is asked for by its mark; else it says why it is skipped."""
    if "system" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("system"):
                item.add_marker(
                    pytest.mark.skip(reason="needs more than Python: make test-system, or pytest -m system")
                )


@pytest.fixture(scope="session")
def write_mnist():
    return _write_mnist


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    _write_mnist(root / "MNIST" / "raw")
    return root


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of all commands: sums in another number of threads differ in their last bits, and see above."""
    wandb = {"WANDB_MODE": "offline", "WANDB_DATA_DIR": str(tmp_path_factory.mktemp("wandb"))}
    return MappingProxyType({**os.environ, **wandb, "COLUMNS": "200", "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="session")
def run_command(environment):
    """``python -m module arguments`` in a folder: see ``Commands.run``."""
    commands = Commands(environment)
    yield commands.run
    commands.close()
