"""Runs that are ended at random moments, again and again: do they come to the end of one that nothing disturbs?

    python benchmarks/faults.py                      # 20 signals for each network and each way, half an hour
    python benchmarks/faults.py --signals 100 --seed 3
    python benchmarks/faults.py --short

A run of the quickest kind (the digits inside the package) is started, gets SIGKILL or SIGTERM after a random part of
the time that it takes as a whole, and the same command is given again, until it ends by itself; then the next run
begins, in a folder, a model store and a cache of its own. So the moments fall into all that a run does: training what
must be trained before, encoding, steps, validation, writing, tests, pictures. After each signal the checkpoint must be
readable, and at each end weights, moments of Adam, schedule, the model's file and all metrics must be those of the
undisturbed run, bit for bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

SMALL = (
    "trainer=cpu",
    "data.limit=400",
    "encoder.width=4",
    "encoder.latent_dim=8",
    "model.steps=240",
    "model.val_every=60",
    "model.batch_size=16",
)
GAME = (
    "model.adversarial={_target_: iin_lightning.losses.adversarial.Adversarial, _partial_: true, start: 30,"
    " discriminator: {_target_: iin_lightning.encoders.discriminator.PatchDiscriminator, _partial_: true, width: 4}}"
)
NETWORKS = {
    "autoencoder with discriminator": ("model=autoencoder", "callbacks=ema", GAME),
    "translator": (
        *("model=sup", "flow.n_blocks=2", "flow.hidden=8"),
        *("+first_stage.model.steps=40", "+judge.model.steps=40", "+judge.encoder.width=4"),
    ),
}
STOPPED = {"SIGKILL": (-9,), "SIGTERM": (75, -15)}  # before training there is nothing to save


def start(network: str, place: Path) -> subprocess.Popen[bytes]:
    """The command, in a folder of its own."""
    paths = [f"paths.models={place}/models", f"paths.cache={place}/cache", f"hydra.run.dir={place}/run"]
    command = [sys.executable, "-m", "iin_lightning.train", *SMALL, *NETWORKS[network], *paths]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)


def end(run: Path) -> tuple[object, ...]:
    """All that must be the same."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    moments = [list(o["state"].values()) for o in state["optimizer_states"]]
    numbers = [value for of in moments for one in of for value in one.values()] + list(state["state_dict"].values())
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    model = (run / "model" / "model.safetensors").read_bytes()
    return (
        torch.cat([n.flatten().double() for n in numbers]).tolist(),
        state["lr_schedulers"],
        model,
        results["metrics"],
    )


def disturbed(network: str, name: str, place: Path, length: float, moments: random.Random, console: Console) -> int:
    """A run that is ended until it ends by itself; how often it was."""
    count = 0
    while True:
        process = start(network, place)
        after = moments.uniform(0, length)
        try:
            code = process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(getattr(signal, name))
            code = process.wait()
        last = place / "run" / "checkpoints" / "last.ckpt"
        step = torch.load(last, weights_only=True)["global_step"] if last.exists() else "none"
        console.print(f"  {name} after {after:5.1f} s: exit code {code}, state of step {step}")
        if code == 0:
            return count
        if code not in STOPPED[name]:
            raise SystemExit(f"{network}: exit code {code} in {place}")
        count += 1


def main() -> None:
    """Count the signals, and what differs after them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signals", type=int, default=20, help="of each kind for each network")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--short", action="store_true", help="two of each")
    options = parser.parse_args()
    wanted = 2 if options.short else options.signals
    console, moments, differ = Console(), random.Random(options.seed), 0
    for network in NETWORKS:
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            if start(network, Path(folder, "whole")).wait():
                raise SystemExit(f"{network} does not run")
            length, whole = time.perf_counter() - began, end(Path(folder, "whole", "run"))
            for name in STOPPED:
                count = runs = 0
                while count < wanted:
                    place = Path(folder, f"{name}{runs}")
                    count += disturbed(network, name, place, length, moments, console)
                    runs += 1
                    same = end(place / "run") == whole
                    differ += not same
                    console.print(f"{network}: {'the same end' if same else 'ANOTHER END'}, {count} x {name} so far")
    console.print(f"{differ} runs came to another end.")
    sys.exit(differ > 0)


if __name__ == "__main__":
    main()
