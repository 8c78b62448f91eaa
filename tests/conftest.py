"""What all tests share: a fake MNIST of real names, commands run as a user runs them, and a browser."""

import gzip
import os
import shutil
import struct
from itertools import count
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


# The smallest networks that still do everything.
TINY = (
    "trainer=cpu",
    "data=color_mnist",
    "data.val_fraction=0.5",
    "encoder.width=4",
    "encoder.latent_dim=8",
    "flow.n_blocks=2",
    "flow.hidden=8",
    "model.steps=6",
    "model.val_every=6",
    "model.batch_size=16",
    "+first_stage.model.steps=4",
    "+judge.model.steps=4",
    "+judge.encoder.width=4",
)

# The smallest ones for ``trainer=smoke`` on any data.
SMALL = (
    "encoder.width=4",
    "encoder.latent_dim=12",
    "flow.n_blocks=1",
    "flow.hidden=8",
    "model.batch_size=8",
    "+judge.encoder.width=4",
)

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # continuous integration is root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@pytest.fixture(scope="session")
def small():
    """Arguments of the smallest networks, for any data set."""
    return SMALL


@pytest.fixture(scope="session")
def tiny():
    """Arguments of the smallest run; ``without`` leaves those out that begin so."""

    def arguments(*without):
        return [argument for argument in TINY if not argument.startswith(without)]

    return arguments


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, mnist_root):
    """A folder with fake MNIST where runs of the session share their model store."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "data").symlink_to(mnist_root)
    return folder


@pytest.fixture(scope="session")
def command(workplace, run_command):
    """Run ``python -m iin_lightning.train`` there, and give back the finished process."""

    numbers = count()

    def run(*arguments, ok=True, folder=workplace, **options):
        if not any(argument.startswith(("hydra.", "resume=", "-")) for argument in arguments):
            # A run's folder is named after the second, in which there may be another run here.
            arguments = (*arguments, f"hydra.run.dir=outputs/{next(numbers)}")
        process = run_command("iin_lightning.train", *arguments, cwd=folder, **options)
        if ok:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium: Debian's, driven by Selenium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    assert None not in paths.values(), "chromium and chromedriver are absent: apt install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths["chromedriver"]))
    driver.downloads = downloads
    yield driver
    driver.quit()
