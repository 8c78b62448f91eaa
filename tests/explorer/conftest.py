"""A run to explore, the server of its page, visitors of a page, and models that were never trained."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
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
START = 90  # seconds that a process may take until it speaks, beside other tests


@pytest.fixture(scope="session")
def speaking():
    """Start a process and wait until its log, which is a file in its folder, matches a pattern."""

    def start(arguments, folder, environment, pattern, log):
        with log.open("w") as file:
            process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        end = time.monotonic() + START
        while (found := re.search(pattern, log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        return process, found

    return start


@pytest.fixture(scope="session")
def run_folder(run_command, tmp_path_factory):
    """A run to explore: the least that makes pictures which differ, or the run that IIN_LIGHTNING_EXPLORE names."""
    if (named := os.environ.get("IIN_LIGHTNING_EXPLORE")) is not None:
        return Path(named)
    place = tmp_path_factory.mktemp("explored")
    process = run_command("iin_lightning.train", *LEAST, cwd=place)
    assert process.returncode == 0, process.stdout + process.stderr
    return place / "outputs" / "least"


@pytest.fixture(scope="session")
def explorer(run_folder, environment, tmp_path_factory, speaking):
    """Start ``python -m iin_lightning.explore`` on the run, give back its address, and end it."""
    place = run_folder
    while place.name and not (place / "models").is_dir():
        place = place.parent  # where the command was, with models, data and caches
    log = tmp_path_factory.mktemp("explorer") / "log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "iin_lightning.explore", f"run={run_folder}", f"port={port}", "gallery=24"]
    # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process, address = speaking(command, place, dict(environment), r"http://127\.0\.0\.1:\d+", log)
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


@pytest.fixture(scope="session")
def page(models, tmp_path_factory):
    """A page that remembers some visitors, on a server, with UMAP wherever it is installed."""
    pytest.importorskip("gradio", reason="the page needs the extra explore: pip install 'iin-lightning[explore]'")
    from iin_lightning.explorer.door import settings
    from iin_lightning.explorer.page import Page

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("gradio")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr("iin_lightning.explorer.map.has_umap", lambda: True)
        page = Page(models)
        page.blocks.launch(**settings("", folder) | {"state_session_capacity": 8}, server_name="127.0.0.1")
        yield page
        page.blocks.close()


@pytest.fixture(scope="session")
def client(page):
    with httpx.Client(base_url=page.blocks.local_url, timeout=60) as client:
        yield client


@pytest.fixture
def visitor(client, request):
    return Visitor(client, request.node.name)


@pytest.fixture
def visit(client):
    """A visitor by the name of a session."""
    return lambda name: Visitor(client, name)


class Visitor:
    """A browser window without the browser: it knows what stands in each component."""

    def __init__(self, client, session):
        self.client, self.session, self.warnings = client, f"session{abs(hash(session))}", []
        config = client.get("/config").json()
        self.names = {part["id"]: part["props"].get("elem_id") or part["id"] for part in config["components"]}
        self.values = {self.names[part["id"]]: part["props"].get("value") for part in config["components"]}
        self.events = config["dependencies"]

    def event(self, name, kind):
        return next(e for e in self.events for part, on in e["targets"] if (self.names.get(part), on) == (name, kind))

    def upload(self, name, content):
        """Send a file, as an upload button does; what the button's event is told of it."""
        (path,) = self.client.post("/gradio_api/upload", files={"files": (name, content)}).json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def call(self, name, kind, query="", place=None, item=None, **values):
        """What an event answers, by the names of its outputs; or the error that it says."""
        event = self.event(name, kind)
        self.values |= {key.replace("_", "-"): value for key, value in values.items()}
        inputs = [self.values[self.names[part]] for part in event["inputs"]]
        told = {"place": place, "item": item}
        body = {"data": inputs, "fn_index": event["id"], "session_hash": self.session, "event_data": told}
        if not event["queue"]:
            answer = self.client.post("/gradio_api/run/predict", json=body).json()
        else:
            assert self.client.post(f"/gradio_api/queue/join{query}", json=body).status_code == 200
            with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as stream:
                messages = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
            self.warnings = [message["log"] for message in messages if message["msg"] == "log"]
            answer = next(message["output"] for message in messages if message["msg"] == "process_completed")
        if "data" not in answer:
            return answer
        shown = dict(zip([self.names[part] for part in event["outputs"]], answer["data"]))
        for part, value in shown.items():
            if not isinstance(value, dict) or "__type__" not in value:
                self.values[part] = value
            elif "value" in value:
                self.values[part] = value["value"]
        return shown

    def open(self, query=""):
        return self.call(None, "load", query)
