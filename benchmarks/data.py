"""How fast images come: plain PIL, the limit, against the data module without and with a cache of decoded pixels.

    python benchmarks/data.py                                   # JPEGs of CelebA's size, made up
    python benchmarks/data.py data/celeba/img_align_celeba      # your own

All are measured in turn, again and again, so that what else the machine does troubles each alike; a figure is the
median of the repeats, and a ratio the median of the ratios within a repeat. Workers are started, and caches filled,
before the clock is. A cache is read by one process, so that its ratio to several says less than that of a core.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import arguments, ratio, record
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader

from iin_lightning.data.base import Split
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.files import Listing

SIZE, CROP = 64, 160  # as for CelebA
BATCH_SIZE = 128
CACHED_EPOCHS = 8  # one is over too soon to be timed
SETTLED = 5  # batches after which every worker has begun, and before the end of which it has nothing more to do
LEAST_IMAGES = 4 * SETTLED * BATCH_SIZE


class Folder(FileModule):
    """All JPEGs of a folder, without labels."""

    title, license, terms = "A folder", "any", "none"
    concepts, kinds, classes = (), {}, {}

    def __init__(self, files: list[Path], **options: object) -> None:
        super().__init__(size=SIZE, crop=CROP, batch_size=BATCH_SIZE, **options)
        self.files = files

    def listing(self, split: Split) -> Listing:
        return Listing(tuple(self.files), torch.zeros(len(self.files), 0, dtype=torch.long))


def write_jpegs(folder: Path, n: int) -> None:
    """Colour gradients under a little noise, which take about as many bytes as CelebA's faces."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1:218j, 0:1:178j]
    for i in range(n):
        waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-9, 9, (3, 3))]
        levels = 128 + 80 * np.stack(waves, axis=-1) + rng.normal(0, 6, (218, 178, 3))
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:06d}.jpg", quality=80)


def decode(path: Path) -> int:
    """What anybody would write, and nothing else; the pixels stay where they are."""
    with Image.open(path) as image:
        left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
        square = image.convert("RGB").crop((left, top, left + CROP, top + CROP))
        return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).size


def plain(pool: "multiprocessing.pool.Pool", files: list[Path]) -> int:
    return sum(1 for _ in pool.imap_unordered(decode, files, chunksize=32))


def epochs(loader: DataLoader, n: int = 1) -> int:
    return sum(len(batch.x) for _ in range(n) for batch in loader)


def processor_seconds() -> float:
    """What this process and the children that it has now have used so far, on all cores together."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # in user and in kernel mode
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def rates(images: Callable[[], int]) -> tuple[float, float]:
    """Images in a second, and in a second of one core's work: the latter does not depend on what else runs."""
    start, used = time.perf_counter(), processor_seconds()
    n = images()
    return n / (time.perf_counter() - start), n / (processor_seconds() - used)


def memory() -> float:
    """MB that this process and its workers hold together: their own and shared memory, not pages of mapped files."""
    total = 0
    for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in ("Pss_Anon", "Pss_Shmem"):
                total += int(value.split()[0])
    return total / 1024


def growth(loader: DataLoader) -> float:
    """MB that are held more near the end of the first epoch than near its start, with as many batches on their way."""
    held = [memory() for _ in loader][SETTLED:-SETTLED]
    return median(held[-SETTLED:]) - median(held[:SETTLED])


def measure(
    files: list[Path], cache_dir: Path, workers: int, repeats: int
) -> tuple[Table, dict[str, dict[str, float]]]:
    modules = {
        f"cache=none, {workers} workers": Folder(files, cache="none", num_workers=workers),
        "cache=disk": Folder(files, cache="disk", cache_dir=cache_dir),
        "cache=ram": Folder(files, cache="ram"),
    }
    limit = f"plain PIL, {workers} processes"
    # The pool is forked first: it must not hold what the modules hold.
    with multiprocessing.Pool(workers) as pool:
        loaders = {name: module.train_dataloader() for name, module in modules.items()}
        grown = {name: growth(loader) for name, loader in loaders.items()}
        runs: dict[str, Callable[[], int]] = {limit: partial(plain, pool, files)}
        for name, loader in loaders.items():
            runs[name] = partial(epochs, loader, 1 if "none" in name else CACHED_EPOCHS)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in track(range(repeats), "Measuring", transient=True):
            for name, run in runs.items():
                measured[name].append(rates(run))
    table = Table(title=f"{len(files)} images, {CROP} to {SIZE} pixels, batches of {BATCH_SIZE}")
    for column in ("", "images/s", "/ plain", "images/s of a core", "/ plain", "memory, MB"):
        table.add_column(column, justify="left" if not column else "right")
    found = {}
    for name, values in measured.items():
        found[name] = {}
        for clock, unit in enumerate(("second", "second of a core")):
            own, of = [[value[clock] for value in each] for each in (values, measured[limit])]
            found[name] |= {f"images a {unit}": median(own), f"over plain, by the {unit}": ratio(own, of)}
        cells = [f"{value:.2f}" if i % 2 else f"{value:,.0f}" for i, value in enumerate(found[name].values())]
        table.add_row(name, *cells, f"{grown[name]:+.1f}" if name in grown else "")
    return table, found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="of JPEGs, at any depth; default: made up")
    parser.add_argument("--images", type=int, default=4096, help="at most so many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    options = parser.parse_args()
    if options.short:
        options.images, options.repeats = LEAST_IMAGES, 1
    # One thread a process, as loader processes have: on a busy machine, two would wait for each other at every step.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder
        if folder is None:
            folder = Path(scratch) / "images"
            folder.mkdir()
            write_jpegs(folder, options.images)
        files = sorted(folder.resolve().rglob("*.jpg"))[: options.images]
        if len(files) < LEAST_IMAGES:
            parser.error(
                f"{folder} has {len(files)} .jpg files for --images={options.images}; {LEAST_IMAGES} are needed"
            )
        table, found = measure(files, Path(scratch), options.workers, options.repeats)
    Console().print(table)
    record("data", found, options.short)


if __name__ == "__main__":
    main()
