"""Commands run as a user runs them, in a folder of their own, and a browser to look at what they make."""

import shutil
from itertools import count

import pytest

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
