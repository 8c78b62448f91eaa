"""What a translator of 2048 dimensions costs, those of a ResNet-50's pooled features: time, memory, exactness.

    python benchmarks/large_latents.py                      # three widths, batches of 256 cached latents, some minutes
    python benchmarks/large_latents.py --dim 1280           # EfficientNet's
    python benchmarks/large_latents.py --short

A step is drawing from the cache, forward, backward, clipping and Adam, as `tasks.interpret` does them, with the
blocks of the paper (12) and the width that stands in the row; 512 is the authors'. Each width has a process of its
own. Memory is how far the peak of the process lies above what it holds before the translator is built: weights,
gradients, two moments of Adam and what a step keeps. The inverse error is max |T^-1(T(z)) - z| on held-out latents
after the steps, which move the weights away from where they start; float32.
"""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import torch
from common import arguments, machine, record, seconds
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn.utils import clip_grad_norm_

from iin_lightning.cli.compose import compose_train
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.stream import Singles
from iin_lightning.losses.likelihood import MarginalLikelihood

LATENTS = 5_000
HELD_OUT = 500
WIDTHS = (96, 512, 1024)
WIDTHS_SHORT = (96,)
WANTED = 1e-3  # of the inverse error, at most


@dataclass(frozen=True)
class Found:
    """What a translator of one width costs."""

    hidden: int
    parameters: int
    step_ms: float
    latents_per_second: float
    memory_mb: float
    first_loss: float
    last_loss: float
    inverse_error: float


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held_mb() -> float:
    """Of now: an earlier peak, that of making the latents, would hide a part of what comes."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 2**20


def measure(hidden: int, dim: int, batch_size: int, steps: int) -> Found:
    torch.manual_seed(0)
    # Features of a network: correlated, none below zero.
    mixing = torch.randn(dim // 8, dim) / (dim // 8) ** 0.5
    z = (torch.randn(LATENTS + HELD_OUT, dim // 8) @ mixing + 0.1 * torch.randn(LATENTS + HELD_OUT, dim)).relu()
    train, held_out = z.split([LATENTS, HELD_OUT])
    cache = LatentCache(train, torch.zeros_like(train), torch.zeros(LATENTS, 0, dtype=torch.long), ())
    batches = Singles(cache, batch_size, seed=0)
    before = held_mb()
    config = compose_train("model=unsup", "flow=paper", f"flow.hidden={hidden}", "model.lr=1e-3")
    translator = instantiate(config.flow, dim=dim)
    optimizer = instantiate(config.optimizer)(translator.parameters())
    loss_of, number, losses = MarginalLikelihood(), count(), []

    def step() -> None:
        loss = loss_of(translator, batches[next(number)].x).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(translator.parameters(), config.model.gradient_clip)
        optimizer.step()
        losses.append(loss.item() / dim)

    step()  # in which ActNorm starts from the data, and Adam gets its moments
    taken = [seconds(step) for _ in range(steps)]
    memory = peak_mb() - before
    translator.eval()
    with torch.no_grad():
        error = (translator.inverse(translator(held_out)[0])[0] - held_out).abs().max().item()
    return Found(
        hidden,
        sum(parameter.numel() for parameter in translator.parameters()),
        1e3 * median(taken),
        batch_size / median(taken),
        memory,
        losses[0],
        losses[-1],
        error,
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dim", type=int, default=2048, help="N (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="latents of a step (default: %(default)s)")
    options = parser.parse_args()
    steps = 3 if options.short else 30
    found = []
    for hidden in track(WIDTHS_SHORT if options.short else WIDTHS, "Training", transient=True):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found.append(alone.submit(partial(measure, hidden, options.dim, options.batch_size, steps)).result())
    table = Table(
        title=f"A translator of {options.dim} dimensions, batches of {options.batch_size}",
        caption=", ".join(f"{key} {value}" for key, value in machine().items()),
    )
    columns = ("hidden", "parameters", "step, ms", "latents/s", "memory, MB", "nats/dim", "inverse error")
    for column in columns:
        table.add_column(column, justify="right")
    for each in found:
        table.add_row(
            f"{each.hidden}",
            f"{each.parameters / 1e6:.1f} M",
            f"{each.step_ms:,.0f}",
            f"{each.latents_per_second:,.0f}",
            f"{each.memory_mb:,.0f}",
            f"{each.first_loss:.2f} to {each.last_loss:.2f}",
            f"{each.inverse_error:.1e}",
        )
    Console().print(table)
    Console().print(f"inverse error wanted: < {WANTED:g}")
    record(
        f"latents of {options.dim} dimensions", {f"hidden {each.hidden}": asdict(each) for each in found}, options.short
    )


if __name__ == "__main__":
    main()
