"""How soon the explorer's page answers, and what eight users at once do to it.

    python benchmarks/explorer.py                                    # random weights of ColorMNIST's and CelebA's size
    python benchmarks/explorer.py outputs/<name>/<time>              # a run of yours

The page is started as a user starts it. A slider is moved 100 times, each move once the answer to the last is there, as
the page does it: what is timed is the way from the browser's request to the picture that it shows, without the drawing.
Then eight users each move theirs for a minute, and choose another picture now and then; memory is that of the server.
"""

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles

import httpx
import numpy as np
import torch
from common import arguments, machine, record
from PIL import Image
from rich.console import Console
from rich.table import Table

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter

WANTED = 0.150  # seconds
USERS = 8
FIRST_LOOK = 10  # seconds after which memory should grow no more
CLICK = 20  # one of so many moves is another picture


def made_up(folder: Path) -> dict[str, list[str]]:
    """Name -> arguments of models that were never trained."""
    photos = folder / "photos"
    (photos / "faces").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(300):
        small = Image.fromarray(draw.integers(0, 256, (12, 10, 3), dtype=np.uint8))
        small.resize((178, 218)).save(photos / "faces" / f"{i}.jpg")
    save(folder / "mnist", Autoencoder(32, 3, 64, width=32, norm="batch"), hidden=96)
    save(folder / "celeba", Autoencoder(64, 3, 128, width=64, norm="batch"), hidden=512)
    return {
        "ColorMNIST, 32x32, 64 dimensions": [f"run={folder / 'mnist'}", "data=color_mnist_mini"],
        "CelebA, 64x64, 128 dimensions": [
            f"run={folder / 'celeba'}",
            "data=image_folder",
            f"data.root={photos}",
            "data.cache=ram",
        ],
    }


def save(folder: Path, network: Autoencoder, hidden: int) -> None:
    """A model with half its dimensions for a concept."""
    half = network.latent_dim // 2
    translator = Translator(network.latent_dim, n_blocks=12, hidden=hidden)
    with torch.no_grad():
        translator(torch.randn(100, network.latent_dim))  # ActNorm looks at its first batch
    factors = Factors({"residual": half, "digit": half}, network.latent_dim)
    Interpreter(network.eval(), translator, factors).save_pretrained(folder)


class User:
    """A browser window without the browser."""

    def __init__(self, address: str, name: str) -> None:
        self.client, self.name = httpx.Client(base_url=address, timeout=60), name
        config = self.client.get("/config").json()
        self.names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        self.model = next(p["props"]["value"] for p in config["components"] if p["props"].get("elem_id") == "model")
        self.events = config["dependencies"]
        answer = self.queued(None, "load", [])
        self.factors = dict(zip(answer["names"], answer["data"]))["swap-factors"]["value"]

    def body(self, name: str | None, kind: str, data: list[object], **more: object) -> dict[str, object]:
        """The request of an event."""
        event = next(e for e in self.events if any((self.names.get(t[0]), t[1]) == (name, kind) for t in e["targets"]))
        return {"data": data, "fn_index": event["id"], "session_hash": self.name, "outputs": event["outputs"]} | more

    def queued(self, name: str | None, kind: str, data: list[object], **more: object) -> dict[str, list[object]]:
        """An event that is queued."""
        body = self.body(name, kind, data, **more)
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.name}") as stream:
            messages = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]
        output = next(message["output"] for message in messages if message["msg"] == "process_completed")
        return {"names": [self.names.get(part) for part in body["outputs"]], "data": output["data"]}

    def move(self, blend: float) -> str:
        """Move the slider of the first tab; the HTML of the result."""
        body = self.body("swap-blend", "input", [self.model, None, None, self.factors, blend])
        answer = self.client.post("/gradio_api/run/predict", json=body).raise_for_status()
        return str(answer.json()["data"][0])

    def choose(self, place: int) -> None:
        """Click a picture of the gallery."""
        data = [self.model, None, None, None, self.factors, 0.5, "target"]
        self.queued("swap-gallery", "click", data, event_data={"place": place})


def latencies(address: str, moves: int) -> list[float]:
    """Seconds of as many moves."""
    user, taken, shown = User(address, "first"), [], set()
    user.move(0.5)
    for i in range(moves):
        start = time.perf_counter()
        shown.add(user.move(i / moves))
        taken.append(time.perf_counter() - start)
    assert len(shown) > moves / 2, "the picture does not move"
    return taken


def crowd(address: str, pid: int, seconds: float) -> dict[str, float]:
    """What eight users at once find, and the server's memory."""
    users = [User(address, f"user{i}") for i in range(USERS)]
    end = time.monotonic() + seconds

    def use(user: User) -> tuple[int, int, list[float]]:
        key, done, errors, taken = random.Random(user.name), 0, 0, []
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                if key.randrange(CLICK):
                    user.move(round(key.random(), 2))
                    taken.append(time.perf_counter() - start)
                else:
                    user.choose(key.randrange(12))
                done += 1
            except (httpx.HTTPError, KeyError, StopIteration):
                errors += 1
        return done, errors, taken

    with ThreadPoolExecutor(USERS) as pool:
        found = pool.map(use, users)
        time.sleep(min(FIRST_LOOK, seconds / 2))
        early = memory(pid)
        results = list(found)
    taken = [one for *_, times in results for one in times]
    return {
        "requests": sum(done for done, *_ in results),
        "requests_a_second": sum(done for done, *_ in results) / seconds,
        "errors": sum(errors for _, errors, _ in results),
        "median_ms": 1e3 * median(taken),
        "p95_ms": 1e3 * quantiles(taken, n=20)[-1],
        "megabytes_early": early,
        "megabytes_at_the_end": memory(pid),
    }


def memory(pid: int) -> float:
    """Megabytes of a process in main memory; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) / 1024 if found else 0.0


def measure(said: list[str], folder: Path, moves: int, seconds: float) -> dict[str, float]:
    """Start the page, ask it, end it."""
    log = folder / "page.log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "iin_lightning.explore", *said, "port=0"]
        page = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        while (address := re.search(r"http://[\d.]+:\d+", log.read_text())) is None:
            if page.poll() is not None:
                sys.exit(log.read_text())
            time.sleep(0.2)
        taken = latencies(address[0], moves)
        alone = {"slider_median_ms": 1e3 * median(taken), "slider_p95_ms": 1e3 * quantiles(taken, n=20)[-1]}
        return alone | {f"{USERS}_users_{name}": value for name, value in crowd(address[0], page.pid, seconds).items()}
    finally:
        page.send_signal(signal.SIGINT)
        page.wait(30)


def main() -> None:
    """Measure, show, record."""
    parser = arguments(__doc__)
    parser.add_argument("run", nargs="?", help="a run folder, instead of models of random weights")
    chosen = parser.parse_args()
    moves, seconds = (30, 8.0) if chosen.short else (100, 60.0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {chosen.run: [f"run={chosen.run}"]} if chosen.run else made_up(folder)
        found = {name: measure(said, folder, moves, seconds) for name, said in models.items()}
    table = Table(title="The explorer", caption=", ".join(f"{key} {value}" for key, value in machine().items()))
    table.add_column()
    for name in found:
        table.add_column(name, justify="right")
    for name in next(iter(found.values())):
        table.add_row(name.replace("_", " "), *(f"{findings[name]:,.1f}" for findings in found.values()))
    Console().print(table, f"wanted: a slider's answer within {1e3 * WANTED:.0f} ms", sep="\n")
    record("explorer", found, chosen.short)


if __name__ == "__main__":
    main()
