"""A run to explore, the server of its page, and models that were never trained."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.explored import make

from iin_lightning.explorer.models import Models

LEAST = (
    "hydra.run.dir=outputs/least",
    "trainer=cpu",
    "data.limit=600",
    "encoder.width=8",
    "encoder.latent_dim=12",
    "flow.n_blocks=2",
    "flow.hidden=16",
    "model.steps=60",
    "model.val_every=30",
    "model.batch_size=32",
    "+first_stage.model.steps=150",
    "+first_stage.model.val_every=75",
    "judge.recipe=null",
)
START = 90  # seconds that the page may take to appear, beside other tests


@pytest.fixture(scope="session")
def run_folder(run_command, tmp_path_factory):
    """A run to explore: the least that makes pictures which differ, or the one that IIN_LIGHTNING_EXPLORE names."""
    if (named := os.environ.get("IIN_LIGHTNING_EXPLORE")) is not None:
        return Path(named)
    place = tmp_path_factory.mktemp("explored")
    process = run_command("iin_lightning.train", *LEAST, cwd=place)
    assert process.returncode == 0, process.stdout + process.stderr
    return place / "outputs" / "least"


@pytest.fixture(scope="session")
def explorer(run_folder, environment, tmp_path_factory):
    """Start ``python -m iin_lightning.explore`` on the run, give back its address, and end it."""
    pytest.importorskip("gradio", reason="the page needs the extra explore: pip install 'iin-lightning[explore]'")
    place = run_folder
    while place.name and not (place / "models").is_dir():
        place = place.parent  # where the command was, with models, data and caches
    log = tmp_path_factory.mktemp("explorer") / "log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "iin_lightning.explore", f"run={run_folder}", f"port={port}", "gallery=24"]
    # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=place, env=dict(environment), stdout=file, stderr=subprocess.STDOUT)
    end = time.monotonic() + START
    while (address := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    yield address[0]
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="session")
def explored(tmp_path_factory):
    """An autoencoder of random weights on a few digits."""
    return make(tmp_path_factory.mktemp("autoencoder"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A classifier of random weights on the same digits."""
    return make(tmp_path_factory.mktemp("classifier"), "classifier", "classes")


@pytest.fixture(scope="session")
def models(explored, classifier):
    """Both, as a page has them."""
    return Models([explored, classifier], lambda folder, name: make(folder, name=name))
