"""The server: how it ends, what it leaves, and whom it remembers."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytest.importorskip("gradio", reason="the page needs the extra explore")

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from tests.explored import make
from tests.explorer.test_concept import SMALLEST, STYLIZER
from tests.explorer.test_page import Visitor, images

from iin_lightning.explorer.door import Door
from iin_lightning.explorer.page import Page
from iin_lightning.explorer.pictures import Picture, data_uri
from iin_lightning.explorer.serve import SESSIONS, directly, exit_on_signals, settings

START = 90  # seconds that a process may take until it speaks, beside other tests
TRAINER = """
import sys, time
from pathlib import Path
from iin_lightning.cli.compose import compose_train
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.serve import exit_on_signals
from iin_lightning.explorer.states import ConceptState
from iin_lightning.explorer.training import Workshop
from iin_lightning.questions.subject import load_model
from iin_lightning.runs.locate import RunSubject
from iin_lightning.data.color_mnist import ColorMNISTMini

folder, recipe = Path("run"), compose_train("data.views=1", "data.val_fraction=0.5")
subject = RunSubject(folder, load_model(folder), ColorMNISTMini(views=1, limit=200), cache=Path("cache"), recipe=recipe)
model = Explored("mine", subject, 4, 0)
exit_on_signals()
workshop = Workshop(Models([model], None), sys.argv[1:])
workshop.start(model, ConceptState(images=20, steps=2000))
while not workshop.status.losses:
    assert workshop.status.outcome == "running", workshop.status.reason
    time.sleep(0.1)
print("trains", workshop._process.pid, flush=True)
time.sleep(600)
"""
"""A server without a page."""


def _start(arguments, folder, environment, pattern):
    """A process that has said something, what it was, and the file where it says more."""
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    end = time.monotonic() + START
    while (found := re.search(pattern, log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    return process, found, log


@pytest.mark.system
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_uploads_go_with_the_server_however_it_is_ended(tmp_path, environment, name):
    make(tmp_path / "run")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "iin_lightning.explore", "run=run", "data=color_mnist_mini", "gallery=4", "port=0"]
    environment = {**environment, "TMPDIR": str(temporary)}
    process, address, log = _start(command, tmp_path, environment, r"http://127\.0\.0\.1:\d+")
    try:
        httpx.post(f"{address[0]}/gradio_api/upload", files={"files": ("mine.png", b"mine")}, timeout=30)
        assert [path.read_bytes() for path in temporary.glob("iin-lightning-*/**/mine.png")] == [b"mine"]
        process.send_signal(getattr(signal, name))
        assert process.wait(30) == 128 + getattr(signal, name)
    finally:
        process.kill()
    assert list(temporary.glob("iin-lightning-*")) == []
    assert "Traceback" not in log.read_text()


@pytest.mark.system
def test_a_training_ends_with_the_server_and_leaves_nothing(tmp_path, environment):
    make(tmp_path / "run")
    (tmp_path / "own_stylizer.py").write_text(STYLIZER)
    command = [sys.executable, "-c", TRAINER, *SMALLEST]
    process, trains, log = _start(command, tmp_path, {**environment, "PYTHONPATH": str(tmp_path)}, r"trains (\d+)")
    try:
        process.send_signal(signal.SIGHUP)
        process.wait(30)
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        os.killpg(int(trains[1]), 0)
    assert list((tmp_path / "outputs" / "explore").iterdir()) == []
    assert "Traceback" not in log.read_text()


def test_nohup_is_heeded():
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        exit_on_signals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        with pytest.raises(SystemExit) as left:
            signal.raise_signal(signal.SIGTERM)
        assert left.value.code == 128 + signal.SIGTERM
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def page(models, tmp_path_factory):
    """A page that remembers three visitors."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("gradio")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        page = Page(models)
        page.blocks.launch(**settings("", folder) | {"state_session_capacity": 3}, server_name="127.0.0.1")
        yield page
        page.blocks.close()


@pytest.fixture(scope="module")
def client(page):
    with httpx.Client(base_url=page.blocks.local_url, timeout=60) as client:
        yield client


def test_visitors_who_come_at_once_have_their_own_pictures(client, explored):
    visitors, begun = [Visitor(client, f"at once {i}") for i in range(3)], threading.Barrier(3)

    def visit(place):
        visitor, shown = visitors[place], []
        begun.wait()
        visitor.open()
        visitor.call("swap-gallery", "click", place=place + 4)
        for blend in range(11):
            begun.wait()
            shown += images(visitor.call("swap-blend", "input", swap_blend=blend / 10)["swap-result"])
        return shown

    with ThreadPoolExecutor(3) as many:
        found = list(many.map(visit, range(3)))
    source = Picture(item=explored.gallery[1])
    for place, shown in enumerate(found):
        target = Picture(item=explored.gallery[place + 4])
        assert shown == [data_uri(explored.swap(target, source, ("digit",), blend / 10)) for blend in range(11)]


def test_pages_that_are_loaded_over_and_over_are_forgotten_but_not_those_in_use(client, page, explored):
    assert SESSIONS <= 100
    idle, busy = (Visitor(client, name) for name in ("idle", "busy"))
    idle.open()
    busy.open()
    for i in range(5):
        Visitor(client, f"load {i}").open()
        assert images(busy.call("swap-blend", "input", swap_blend=i / 5)["swap-result"])
    assert len(page.blocks.state_holder.session_data) <= 3
    answer = idle.call("swap-blend", "input", swap_blend=0.5)
    assert "reload it" in str(answer), answer
    assert images(idle.open()["swap-result"])


FOREIGN = {
    "a name that points here": {"Host": "evil.example:80"},
    "a name that looks like ours": {"Host": "127.0.0.1.evil.example"},
    "a page elsewhere": {"Origin": "http://evil.example"},
    "a page of another port": {"Origin": "http://127.0.0.1:1"},
    "a page without an address": {"Origin": "null"},
    "a frame": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
    "a script of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "script"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/config"), ("POST", "/gradio_api/run/predict"), ("OPTIONS", "/")]
)
def test_what_another_page_asks_is_not_answered(client, method, path, headers):
    preflight = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
    answer = client.request(method, path, headers={**headers, **preflight})
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_answers_itself_and_whoever_follows_a_link_and_is_never_framed(client):
    own = str(client.base_url).rstrip("/")
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    tunnel = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    for headers in ({}, linked, tunnel, {"Origin": own, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}):
        answer = client.get("/", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert answer.headers["x-frame-options"] == "DENY"
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.fixture
def door(tmp_path):
    """A door in front of a server that has one page; it needs a token, and takes few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iin_lightning.explorer.door.MOST_AT_ONCE", 60)
        patch.setattr("iin_lightning.explorer.door.MOST_TOGETHER", 100)
        app = Door(PlainTextResponse("welcome"), "0123456789abcdef", tmp_path)
        yield TestClient(app, base_url="http://machine:7860", follow_redirects=False)


def test_where_others_can_reach_it_the_address_has_a_token(door):
    for said in ("/", "/?token=", "/?token=0123", "/config?state=a"):
        refused = door.get(said)
        assert refused.status_code == 401
        assert "?token=" in refused.text
    assert door.get("/", headers={"Cookie": "iin_01234567=0123456789abcdee"}).status_code == 401
    moved = door.get("/?state=a%26b&token=0123456789abcdef")
    assert (moved.status_code, moved.headers["location"]) == (303, "/?state=a%26b")
    assert "HttpOnly; Path=/; SameSite=lax" in moved.headers["set-cookie"]
    assert door.get("/").text == "welcome", "a browser keeps it"
    assert door.post("/run", headers={"Origin": "http://evil.example"}).status_code == 403


def test_uploads_have_a_limit_each_and_together(door, tmp_path):
    door.get("/?token=0123456789abcdef")
    assert door.post("/gradio_api/upload", content=b"x" * 61).status_code == 413
    assert door.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411
    both = {"Content-Length": "10", "Transfer-Encoding": "chunked"}  # of which a server reads the second
    assert door.post("/gradio_api/upload", content=b"x" * 10, headers=both).status_code == 411
    assert door.get("/gradio_api/upload").status_code == 200
    assert door.post("/gradio_api/upload", content=b"x" * 50).text == "welcome"
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(51))
    refused = door.post("/gradio_api/upload", content=b"x" * 50)
    assert refused.status_code == 413
    assert "All uploads together may have 100 bytes" in refused.text
    assert door.post("/run", content=b"x" * 50).text == "welcome"


def test_a_proxy_is_not_asked_for_the_page_and_is_there_afterwards(models, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "mine")
    with pytest.raises(ImportError, match="SOCKS"):
        httpx.get("http://127.0.0.1:9")
    with directly():
        page = Page(models)
        page.blocks.launch(**settings("0123456789abcdef", tmp_path), server_name="127.0.0.1")
    page.blocks.close()
    assert (os.environ["no_proxy"], os.environ["ALL_PROXY"]) == ("mine", "socks5://127.0.0.1:9")
    assert "NO_PROXY" not in os.environ
