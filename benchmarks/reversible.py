"""What flow.reversible costs and saves: a training step with shallow and deep translators, plain and reversible.

    python benchmarks/reversible.py                              # conf/flow/default.yaml: half a minute of one core
    python benchmarks/reversible.py --hidden 512 --repeats 5     # the paper's width

All take turns, so that what else the machine does troubles each alike; a time is the median of the repeats, of one core
on a processor, and a ratio the median of the ratios within a repeat. A step is forward, backward and Adam.

Kept is what autograd holds for the way back, at the most at a time, parameters left out; it is the same at each run.
Process is how far the peak of a process (on a GPU: of its tensors) rises with the batch, above that of a step with a
few latents, which has made gradients and Adam's moments. Gradients are let go before the way forward, so that where
they are large, some of what is kept lies in their place. Parameters, gradients and moments come on top of both.

Expected of reversible: with 48 blocks at most 1.2 x what 12 keep, and at most 1.4 x the time of plain.
"""

import multiprocessing
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import torch
from common import arguments, record
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from iin_lightning.flows.translator import Translator
from iin_lightning.losses.likelihood import MarginalLikelihood

DEPTHS = (12, 48)
FEW = 8  # latents of the step that makes gradients and moments
STATES = 4  # a parameter, its gradient, and two moments
MODES = {False: "plain", True: "reversible"}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Training:
    """A translator that learns what it cannot: noise."""

    def __init__(self, dim: int, hidden: int, n_blocks: int) -> None:
        torch.manual_seed(0)
        self.translator = Translator(dim, n_blocks, hidden).to(DEVICE)
        self.translator.initialize(torch.randn(1000, dim, device=DEVICE))
        # A larger rate needs a warm-up: 48 wide blocks would diverge at the first step.
        self.adam = torch.optim.Adam(self.translator.parameters(), lr=1e-5)
        self.loss = MarginalLikelihood()

    def step(self, reversible: bool, z: Tensor) -> None:
        self.gradients(reversible, z)
        self.adam.step()

    def gradients(self, reversible: bool, z: Tensor) -> None:
        self.translator.reversible = reversible
        self.adam.zero_grad()
        self.loss(self.translator, z).mean().backward()


class Box:
    """A tensor whose end can be waited for."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def kept_by_autograd(run: Callable[[], object], parameters: set[int]) -> float:
    """MB at the most at a time, of tensors that do not begin at one of the given addresses."""
    live = peak = 0

    def release(nbytes: int) -> None:
        nonlocal live
        live -= nbytes

    def pack(value: Tensor) -> Box:
        nonlocal live, peak
        box = Box(value)
        if value.data_ptr() not in parameters:
            live += value.nbytes
            peak = max(peak, live)
            weakref.finalize(box, release, value.nbytes)
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.value):
        run()
    return peak / 2**20


def process_peak() -> float:
    """MB at the highest so far."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(fields["VmHWM"].split()[0]) / 2**10


def growth(dim: int, hidden: int, n_blocks: int, reversible: bool, batch: int) -> float:
    """MB by which the peak of this process, which has done nothing else, rises with the size of the batch."""
    torch.set_num_threads(1)
    training = Training(dim, hidden, n_blocks)
    peaks = []
    for count in (FEW, batch):
        for _ in range(2):
            training.step(reversible, torch.randn(count, dim, device=DEVICE))
        peaks.append(process_peak())
    return peaks[1] - peaks[0]


def seconds(run: Callable[[], object]) -> float:
    """Of one core; on a GPU, by the clock on the wall."""
    if DEVICE.type == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(dim: int, hidden: int, batch: int, repeats: int) -> tuple[Table, dict[str, dict[str, float]]]:
    trainings = {n_blocks: Training(dim, hidden, n_blocks) for n_blocks in DEPTHS}
    z = torch.randn(batch, dim, device=DEVICE)
    cases = list(product(DEPTHS, MODES))
    spent: dict[tuple[int, bool], list[float]] = {case: [] for case in cases}
    for repeat in track(range(repeats + 1), "Measuring", transient=True):
        for n_blocks, reversible in cases if repeat % 2 else reversed(cases):
            used = seconds(partial(trainings[n_blocks].step, reversible, z))
            if repeat > 0:  # the first makes gradients and moments
                spent[n_blocks, reversible].append(used)
    kept, grown = {}, {}
    # Freed memory goes back to the system at once, instead of lying in pieces between the gradients.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**14))
    # A new process for each: a peak is never unmade.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for n_blocks, reversible in cases:
            training = trainings[n_blocks]
            addresses = {parameter.data_ptr() for parameter in training.translator.parameters()}
            kept[n_blocks, reversible] = kept_by_autograd(partial(training.gradients, reversible, z), addresses)
            grown[n_blocks, reversible] = pool.submit(growth, dim, hidden, n_blocks, reversible, batch).result()
    table = Table(title=f"{batch} latents of {dim} dimensions, hidden={hidden}, on {DEVICE.type}")
    for column in ("blocks", "", "ms a step", "/ plain", "kept, MB", f"/ {DEPTHS[0]}", "process, MB"):
        table.add_column(column, justify="right" if column else "left")
    found = {}
    for n_blocks, reversible in cases:
        times = spent[n_blocks, reversible]
        ratio = median(a / b for a, b in zip(times, spent[n_blocks, False]))
        memory = kept[n_blocks, reversible]
        found[f"{n_blocks} blocks, {MODES[reversible]}"] = {
            "ms a step": 1000 * median(times),
            "over plain": ratio,
            "kept, MB": memory,
            f"over {DEPTHS[0]} blocks": memory / kept[DEPTHS[0], reversible],
            "process, MB": grown[n_blocks, reversible],
        }
        table.add_row(
            f"{n_blocks}",
            MODES[reversible],
            f"{1000 * median(times):,.1f}",
            f"{ratio:.2f}",
            f"{memory:,.2f}",
            f"{memory / kept[DEPTHS[0], reversible]:.2f}",
            f"{grown[n_blocks, reversible]:+,.1f}",
        )
    table.caption = "\n".join(
        f"{n_blocks} blocks: {STATES * 4 * sum(p.numel() for p in training.translator.parameters()) / 2**20:,.0f} MB "
        f"of parameters, gradients and moments apart; reversible gradients differ by {disagreement(training, z):.0e}"
        for n_blocks, training in trainings.items()
    )
    return table, found


def disagreement(training: Training, z: Tensor) -> float:
    """Of the gradients of all parameters together, relative to those of plain autograd."""
    found = []
    for reversible in (False, True):
        training.gradients(reversible, z)
        found.append(torch.cat([parameter.grad.flatten() for parameter in training.translator.parameters()]))
    return float((found[1] - found[0]).norm() / found[0].norm())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dim", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=15, help="(default: %(default)s)")
    options = parser.parse_args()
    # On a busy machine two threads would wait for each other at every layer.
    torch.set_num_threads(1)
    repeats = 3 if options.short else options.repeats
    table, found = measure(options.dim, options.hidden, options.batch, repeats)
    Console().print(table)
    record(f"reversible, hidden={options.hidden}", found, options.short)


if __name__ == "__main__":
    main()
