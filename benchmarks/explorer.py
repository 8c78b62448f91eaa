"""How soon the explorer's page answers, what eight users at once do to it, and what pages do that are loaded again.

    python benchmarks/explorer.py                                    # random weights of ColorMNIST's and CelebA's size
    python benchmarks/explorer.py outputs/<name>/<time>              # a run of yours

The page is started as a user starts it. A slider of Swap and one of Walk are moved 100 times each, each move once the
answer to the last is there, as the page does it: what is timed is the way from the browser's request to the picture
that it shows, without the drawing. Then as many pages are loaded as the server remembers, after which its memory should
grow no more: eight users each move both sliders for a minute, and choose, upload or load the page again now and then,
and at the end as many pages are loaded once more. It ends with 1 where a target was missed.
"""

import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import numpy as np
import torch
from common import arguments, machine, record
from PIL import Image
from rich.console import Console
from rich.table import Table

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.explorer.door import SESSIONS
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter

WANTED = 150  # milliseconds that a slider's answer may take, alone
FLAT = 1.1  # memory at the end over that once as many pages were loaded as are remembered
USERS = 8
SELDOM = 20  # one of so many requests of a user in the crowd is no move of a slider
SLIDERS = {"swap": "swap-blend", "walk": "walk-direction-1"}


def made_up(folder: Path) -> dict[str, list[str]]:
    """Name -> arguments of models that were never trained."""
    photos = folder / "photos"
    (photos / "faces").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(300):
        small = Image.fromarray(draw.integers(0, 256, (12, 10, 3), dtype=np.uint8))
        small.resize((178, 218)).save(photos / "faces" / f"{i}.jpg")
    save(folder / "mnist", Autoencoder(32, 3, 64, width=32, norm="batch"), hidden=128)
    save(folder / "celeba", Autoencoder(64, 3, 128, width=64, norm="batch"), hidden=512)
    save(folder / "classifier", Classifier(10, 32, 3, 64, width=32, norm="batch"), hidden=128)
    return {
        "ColorMNIST, 32x32, 64 dimensions": [f"run={folder / 'mnist'}", "data=color_mnist_mini"],
        "CelebA, 64x64, 128 dimensions": [
            f"run={folder / 'celeba'}",
            "data=image_folder",
            f"data.root={photos}",
            "data.cache=ram",
        ],
        "classifier, 32x32, 64 dimensions": [f"run={folder / 'classifier'}", "data=color_mnist_mini"],
    }


def save(folder: Path, network: Autoencoder | Classifier, hidden: int) -> None:
    """A model with half its dimensions for a concept."""
    half = network.latent_dim // 2
    translator = Translator(network.latent_dim, hidden=hidden)
    with torch.no_grad():
        translator(torch.randn(100, network.latent_dim))  # ActNorm looks at its first batch
    factors = Factors({"residual": half, "digit": half}, network.latent_dim)
    Interpreter(network.eval(), translator, factors).save_pretrained(folder)


class User:
    """A browser window without the browser: it knows what stands in each component."""

    def __init__(self, address: str, name: str) -> None:
        self.client, self.name, self.loads = httpx.Client(base_url=address, timeout=60, trust_env=False), name, 0
        self.load()
        self.call("tab-walk", "select")

    def load(self) -> None:
        """Load the page, again."""
        self.loads += 1
        self.session = f"{self.name}, {self.loads}"
        config = self.client.get("/config").json()
        self.names = {part["id"]: part["props"].get("elem_id") or part["id"] for part in config["components"]}
        self.values = {self.names[part["id"]]: part["props"].get("value") for part in config["components"]}
        self.events = config["dependencies"]
        self.call(None, "load")

    def call(self, name: str | None, kind: str, **more: Any) -> dict[str, Any]:
        """What an event answers, by the names of its outputs."""
        event = next(e for e in self.events if any((self.names.get(t[0]), t[1]) == (name, kind) for t in e["targets"]))
        said = [self.values[self.names[part]] for part in event["inputs"]]
        body = {"data": said, "fn_index": event["id"], "session_hash": self.session, **more}
        if event["queue"]:
            self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
            with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as stream:
                messages = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
            answer = next(message["output"] for message in messages if message["msg"] == "process_completed")
        else:
            answer = self.client.post("/gradio_api/run/predict", json=body).raise_for_status().json()
        shown = dict(zip([self.names[part] for part in event["outputs"]], answer["data"]))
        for part, value in shown.items():
            updated = isinstance(value, dict) and "__type__" in value
            if not updated or "value" in value:
                self.values[part] = value["value"] if updated else value
        return shown

    def move(self, tab: str, place: float) -> str:
        """Move a slider; the HTML of the result."""
        self.values[SLIDERS[tab]] = place
        return str(self.call(SLIDERS[tab], "input")[f"{tab}-result"])

    def choose(self, place: int) -> None:
        """Click a picture of the gallery."""
        self.call("swap-gallery", "click", event_data={"place": place})

    def upload(self, photo: bytes) -> None:
        """Upload a target."""
        (path,) = self.client.post("/gradio_api/upload", files={"files": ("photo.jpg", photo)}).json()
        file = {"path": path, "orig_name": "photo.jpg", "meta": {"_type": "gradio.FileData"}}
        self.values["upload-target"] = file
        if "uploaded" not in self.call("upload-target", "upload")["swap-target"]:
            raise KeyError("the upload is not shown")


def photo() -> bytes:
    """A JPEG of 12 million pixels, as telephones make them."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((4000, 3000)).save(buffer, "JPEG")
    return buffer.getvalue()


def latencies(address: str, tab: str, moves: int) -> list[float]:
    """Milliseconds of as many moves of a tab's slider."""
    user, taken, shown = User(address, f"first at {tab}"), [], set()
    user.move(tab, 0.5)
    for i in range(moves):
        start = time.perf_counter()
        shown.add(user.move(tab, round(i / moves, 2)))
        taken.append(1e3 * (time.perf_counter() - start))
    assert len(shown) > moves / 2, "the picture does not move"
    return taken


def spread(name: str, taken: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {f"{name}_median_ms": median(taken), f"{name}_p95_ms": quantiles(taken, n=20)[-1]}


def crowd(address: str, seconds: float) -> dict[str, float]:
    """What eight users at once find."""
    users, mine = [User(address, f"user {i}") for i in range(USERS)], photo()
    end = time.monotonic() + seconds

    def use(user: User) -> tuple[int, int, dict[str, list[float]]]:
        key, done, errors, taken = random.Random(user.name), 0, 0, {tab: [] for tab in SLIDERS}
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                if key.randrange(SELDOM):
                    tab = key.choice(list(SLIDERS))
                    user.move(tab, round(key.random(), 2))
                    taken[tab].append(1e3 * (time.perf_counter() - start))
                else:
                    seldom = key.choice(["choose", "choose", "upload", "load"])
                    if seldom == "choose":
                        user.choose(key.randrange(12))
                    elif seldom == "upload":
                        user.upload(mine)
                    else:
                        user.load()
                        user.call("tab-walk", "select")
                done += 1
            except (httpx.HTTPError, KeyError, StopIteration):
                errors += 1
        return done, errors, taken

    with ThreadPoolExecutor(USERS) as pool:
        results = list(pool.map(use, users))
    found = {
        "requests": sum(done for done, *_ in results),
        "requests_a_second": sum(done for done, *_ in results) / seconds,
        "errors": sum(errors for _, errors, _ in results),
    }
    for tab in SLIDERS:
        found |= spread(tab, [one for *_, taken in results for one in taken[tab]])
    return found


def reload(address: str, count: int) -> None:
    """Load the page again and again."""
    user = User(address, "impatient")
    for _ in range(count):
        user.load()


def memory(pid: int) -> float:
    """Megabytes of a process in main memory; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text(encoding="utf-8")) if status.is_file() else None
    return int(found[1]) / 1024 if found else 0.0


def measure(said: list[str], folder: Path, moves: int, seconds: float, loads: int) -> dict[str, float]:
    """Start the page, ask it, end it."""
    log = folder / "page.log"
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "iin_lightning.explore", *said, "port=0"]
        page = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        while (address := re.search(r"http://[\d.]+:\d+", log.read_text(encoding="utf-8"))) is None:
            if page.poll() is not None:
                sys.exit(log.read_text(encoding="utf-8"))
            time.sleep(0.2)
        found: dict[str, float] = {}
        for tab in SLIDERS:
            found |= spread(tab, latencies(address[0], tab, moves))
        reload(address[0], loads)
        found["megabytes_early"] = memory(page.pid)
        found |= {f"{USERS}_users_{name}": value for name, value in crowd(address[0], seconds).items()}
        reload(address[0], loads)
        return found | {"megabytes_at_the_end": memory(page.pid)}
    finally:
        page.terminate()  # not SIGINT, which what a shell starts in the background ignores
        page.wait(30)


def missed(name: str, found: dict[str, float], *, filled: bool) -> list[str]:
    """The targets that a model has missed, in words.

    Args:
        name: of the model.
        found: see ``measure``.
        filled: whether as many pages were loaded as are remembered, so that memory can be judged.
    """
    sentences = [
        f"{name}: the slider of {tab} answers in {found[f'{tab}_{kind}_ms']:.0f} ms ({kind}), wanted are {WANTED}."
        for tab in SLIDERS
        for kind in ("median", "p95")
        if found[f"{tab}_{kind}_ms"] > WANTED
    ]
    if (errors := found[f"{USERS}_users_errors"]) > 0:
        sentences.append(f"{name}: {errors:.0f} requests of {USERS} users at once have failed, wanted is none.")
    early, late = found["megabytes_early"], found["megabytes_at_the_end"]
    if filled and late > FLAT * early:
        sentences.append(
            f"{name}: memory has grown from {early:.0f} to {late:.0f} MB, wanted is {FLAT:g} times at most."
        )
    return sentences


def main() -> None:
    """Measure, show, record, judge."""
    parser = arguments(__doc__)
    parser.add_argument("run", nargs="?", help="a run folder, instead of models of random weights")
    chosen = parser.parse_args()
    moves, seconds, loads = (30, 8.0, 10) if chosen.short else (100, 60.0, SESSIONS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {chosen.run: [f"run={chosen.run}"]} if chosen.run else made_up(folder)
        found = {name: measure(said, folder, moves, seconds, loads) for name, said in models.items()}
    table = Table(title="The explorer", caption=", ".join(f"{key} {value}" for key, value in machine().items()))
    table.add_column()
    for name in found:
        table.add_column(name, justify="right")
    for name in next(iter(found.values())):
        table.add_row(name.replace("_", " "), *(f"{findings[name]:,.1f}" for findings in found.values()))
    Console().print(table)
    record("explorer", found, chosen.short)
    if verdict := [text for name, each in found.items() for text in missed(name, each, filled=not chosen.short)]:
        sys.exit("\n".join(["Missed:", *verdict]))


if __name__ == "__main__":
    main()
