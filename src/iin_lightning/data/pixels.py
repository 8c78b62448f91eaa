"""Images that take long to make, from files or by a change: made once by several processes, then kept as pixels.

A JPEG takes a hundred times as long to decode as its pixels take to copy, and a change a tenth of a second.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.cache import Cache as DiskCache
from iin_lightning.cache import Entry, Part
from iin_lightning.data.images import ImageTensor
from iin_lightning.distributed import usable_cores
from iin_lightning.errors import ConfigError, choices
from iin_lightning.progress import Bar
from iin_lightning.seeding import Noise

Cache = Literal["none", "ram", "disk"]
CACHES: tuple[Cache, ...] = ("none", "ram", "disk")
MOST_WORKERS = 8  # more make images faster than any of our networks trains
CHUNK, CHUNK_BYTES = 100, 1 << 20  # most images, and pixels, at a time: a container has little shared memory
FEW = 10  # images that are not shared among processes

Made = tuple[Tensor, dict[int, str]]
Make = Callable[[range], Made]
"""Items -> their pixels uint8 (m, C, H, W), without those that cannot be made; and item -> what is wrong with it."""


def cache_folder(cache: Cache, cache_dir: str | Path | None, below: str, what: str) -> Path | None:
    """The folder of cache="disk", below the user's; None for "ram" and "none".

    Raises:
        ConfigError: there is no such cache, or "disk" has no folder.
    """
    if cache not in CACHES:
        raise ConfigError(f"There is no cache {cache!r}; {choices(cache, CACHES)}.")
    if cache != "disk":
        return None
    if cache_dir is None:
        raise ConfigError(
            f"cache=disk keeps {what} in a folder, but cache_dir is not set: set data.cache_dir, or data.cache to ram "
            "or none."
        )
    return Path(cache_dir) / below


def processes(cache: Cache, num_workers: int | None) -> tuple[int, int]:
    """How many processes make images and how many load batches; by default one a core, up to 8, where images are made.

    Example:
        >>> processes("disk", None)[1], processes("disk", 3)
        (0, (3, 3))
    """
    makers = min(MOST_WORKERS, usable_cores()) if num_workers is None else num_workers
    return makers, makers if cache == "none" or num_workers is not None else 0


class KeptImages(ImageTensor):
    """Images in a file of raw pixels, which the operating system reads as they are drawn and shares over processes."""

    def __init__(self, entry: Entry, labels: Tensor, concepts: tuple[str, ...], key: str) -> None:
        super().__init__(entry.tensors["pixels"], labels, concepts, key)
        self.entry = entry

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """See ``ImageTensor``."""
        self.entry.check()
        return super().draw(indices, noise)

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptImages, (self.entry, self.labels, self.concepts, self.key)


def kept_images(
    make: Make,
    labels: Tensor,
    concepts: tuple[str, ...],
    shape: tuple[int, ...],
    key: str,
    folder: Path | None,
    *,
    what: str,
    title: str,
    report: Callable[[int, str], None] = lambda item, reason: None,
    workers: int = 0,
    quiet: bool = False,
    mend: bool = False,
) -> ImageTensor:
    """Make all images of a split into memory or a folder, or find them there; what cannot be made is left out.

    ``make`` gives some of the n images of ``shape`` (C, H, W), whose labels are (n, K); ``report`` is told of each item
    that cannot be made, and why. ``key`` says all that the pixels depend on, ``what`` names them in the plural.

    ``mend`` tries what could not be made once more, as after a failure of a network drive. Processes of one training
    must not, since one may succeed where another fails, and they would train on different sets.

    Raises:
        ConfigError: there is not enough space.
    """
    parts = partial(_parts, make, len(labels), shape, title, report, workers, quiet)
    if folder is None:
        images = torch.empty(len(labels), *shape, dtype=torch.uint8)
        n, failed = 0, set[int]()
        for part in parts(0):
            pixels = part.tensors["pixels"]
            images[n : n + len(pixels)] = pixels
            n += len(pixels)
            failed |= set(map(int, part.notes))
        return ImageTensor(images[:n], _without(labels, failed), concepts, key)
    cure = "let data.cache_dir point to another disk, or set data.cache=none"

    def outdated(failures: Mapping[str, str]) -> bool:
        return mend and any(len(make(range(item, item + 1))[0]) for item in map(int, failures))

    entry = DiskCache(folder, what, cure).get(key, parts, len(labels) * prod(shape), outdated)
    for item, reason in entry.notes.items():
        report(int(item), reason)
    return KeptImages(entry, _without(labels, set(map(int, entry.notes))), concepts, key)


class _Chunks(Dataset[Made]):
    """Images from one item on, in chunks."""

    def __init__(self, make: Make, items: range, length: int) -> None:
        self.make, self.items, self.length = make, items, length

    def __len__(self) -> int:
        return ceil(len(self.items) / self.length)

    def __getitem__(self, chunk: int) -> Made:
        return self.make(self.items[chunk * self.length : (chunk + 1) * self.length])


def _parts(
    make: Make,
    n: int,
    shape: tuple[int, ...],
    title: str,
    report: Callable[[int, str], None],
    workers: int,
    quiet: bool,
    done: int,
) -> Iterator[Part]:
    """The images from item ``done`` on, one chunk after the other."""
    # Of few images, chunks so small that every process gets some, and that they tell how far they are.
    share = max(FEW, ceil((n - done) / (8 * max(workers, 1))))
    chunks = _Chunks(make, range(done, n), max(1, min(CHUNK, share, CHUNK_BYTES // prod(shape))))
    workers = max(0, min(workers, len(chunks) - 1))  # one chunk is quicker made than a process is started
    # A generator of its own: a loader would draw from the global one, and a run would depend on what is cached.
    loader = DataLoader(chunks, batch_size=None, num_workers=workers, generator=torch.Generator())
    # Workers start before the bar does, whose thread might hold a lock while they are forked.
    made = iter(loader)
    with Bar(quiet=quiet) as bar:
        task = bar.add_task(title, total=n, completed=done)
        for pixels, failures in made:
            for item, reason in failures.items():
                report(item, reason)
            done += len(pixels) + len(failures)
            bar.update(task, completed=done)
            yield Part({"pixels": pixels}, done, {str(item): reason for item, reason in failures.items()})


def _without(labels: Tensor, items: set[int]) -> Tensor:
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[sorted(items)] = False
    return labels[kept]
