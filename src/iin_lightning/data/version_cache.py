"""Versions of images, each made by one change: at every draw, once into memory, or once into a file.

A change can take a tenth of a second an image, and a file hours; so a file that was stopped goes on where it was.
"""

import json
import logging
import os
from collections.abc import Iterator
from hashlib import sha256
from math import ceil, prod
from pathlib import Path
from time import monotonic
from zlib import crc32

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.data.base import Source, digest
from iin_lightning.data.change import Change, changed, described
from iin_lightning.data.disk import check_space, locked, write_whole
from iin_lightning.data.images import ImageTensor, render
from iin_lightning.data.pixel_cache import CHUNK_BYTES, MappedImages
from iin_lightning.data.transforms import to_levels
from iin_lightning.progress import Bar
from iin_lightning.seeding import Noise

log = logging.getLogger(__name__)

FORMAT = 1  # raises with every change of what a file of versions means
CHUNK = 100  # images that a worker hands over at a time, or fewer of large ones
FEW = 10  # images that are not shared among processes
PROBES = 64  # images of a source that are looked at to know it again
SECONDS = 10.0  # of work that an interruption costs at most


class ChangedSource(Source):
    """The version of each item of a source, made at every draw.

    Args:
        source: of n images of one shape.
        change: what makes the version.
    """

    def __init__(self, source: Source, change: Change) -> None:
        self.source = source
        self.change = change
        self.concepts = source.concepts
        self.labels = source.labels
        self.description = described(change)

    def pixels(self, indices: Tensor) -> Tensor:
        """The versions of items (B,), uint8 (B, C, H, W)."""
        return changed(self.change, to_levels(self.source.draw(indices, None)), indices, self.description)

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], dequantised by the noise if there is any."""
        return render(self.pixels(indices), noise)

    def drawn_labels(self, indices: Tensor) -> Tensor:
        """See ``Source``."""
        return self.source.drawn_labels(indices)

    def content(self) -> str:
        """A hash of the source's images, and of the change; the labels are no part of it."""
        items = torch.linspace(0, len(self) - 1, min(PROBES, len(self))).long()
        # Probes, since a source may have lost one broken image and found another under the same name.
        parts = (FORMAT, len(self), self.source.content(), digest(self.source.draw(items, None)), self.description)
        return sha256(repr(parts).encode()).hexdigest()[:32]


def into_memory(versions: ChangedSource, title: str, *, workers: int = 0, quiet: bool = False) -> ImageTensor:
    """Make all versions into memory.

    Args:
        versions: of all images of a split.
        title: of the progress bar.
        workers: processes that make them; 0 makes them in this one.
        quiet: show no progress bar.

    Raises:
        ChangeError: the change fails, or gives images of another shape or type.
    """
    parts = list(_make(versions, 0, title, workers, quiet))
    return ImageTensor(torch.cat(parts), versions.labels, versions.concepts)


def onto_disk(
    versions: ChangedSource, folder: Path, title: str, *, workers: int = 0, quiet: bool = False
) -> MappedImages:
    """Make all versions into a file, or find the file that holds them.

    The file is named after a hash of the images and of the change. While it grows, a journal beside it says how many
    images surely lie in it, with their checksum, so that a later call goes on from there. A record in JSON is written
    last; every byte of the file is compared with it before the file is used, and if they differ it is made again.
    Parallel jobs wait for the one that makes it.

    Args:
        versions: of all images of a split.
        folder: where the file is kept; made if it is absent.
        title: of the progress bar.
        workers: processes that make them; 0 makes them in this one.
        quiet: show no progress bar.

    Raises:
        ChangeError: the change fails, or gives images of another shape or type.
        ConfigError: there is not enough space.
    """
    path = folder / f"{versions.content()}.pixels"
    shape = _shape(versions)
    with locked(path):
        if not _is_whole(path, shape):
            _write(path, shape, versions, title, workers, quiet)
    return MappedImages(path, shape, versions.labels, versions.concepts)


class _Chunks(Dataset[Tensor]):
    """The versions of a source, from one item on, in chunks."""

    def __init__(self, versions: ChangedSource, first: int, length: int) -> None:
        self.versions = versions
        self.first = first
        self.length = length

    def __len__(self) -> int:
        return ceil((len(self.versions) - self.first) / self.length)

    def __getitem__(self, chunk: int) -> Tensor:
        start = self.first + chunk * self.length
        return self.versions.pixels(torch.arange(start, min(start + self.length, len(self.versions))))


def _make(versions: ChangedSource, first: int, title: str, workers: int, quiet: bool) -> Iterator[Tensor]:
    """The versions from item ``first`` on, uint8 (m, C, H, W), one chunk after the other."""
    # Of few images, chunks so small that every process gets some, and that they tell how far they are.
    share = max(FEW, ceil((len(versions) - first) / (8 * max(workers, 1))))
    length = max(1, min(CHUNK, share, CHUNK_BYTES // prod(_shape(versions)[1:])))
    chunks = _Chunks(versions, first, length)
    workers = min(workers, len(chunks) - 1)  # one chunk is quicker made than a process is started
    # A generator of its own: a loader would draw from the global one, and a run would depend on what is cached.
    loader = DataLoader(chunks, batch_size=None, num_workers=max(0, workers), generator=torch.Generator())
    # Workers start before the bar does, whose thread might hold a lock while they are forked.
    made = iter(loader)
    with Bar(quiet=quiet) as bar:
        task = bar.add_task(title, total=len(versions), completed=first)
        for pixels in made:
            bar.advance(task, len(pixels))
            yield pixels


def _shape(versions: ChangedSource) -> tuple[int, ...]:
    return len(versions), *versions.source.draw(torch.zeros(1, dtype=torch.long), None).shape[1:]


def _write(path: Path, shape: tuple[int, ...], versions: ChangedSource, title: str, workers: int, quiet: bool) -> None:
    """Make the rest of a file, and leave its record beside it; nobody else writes it at the same time."""
    part, journal, record = (path.with_suffix(suffix) for suffix in (".part", ".journal", ".json"))
    record.unlink(missing_ok=True)
    n, checksum = _resumable(part, journal, prod(shape[1:]))
    cure = "let data.cache_dir point to another disk, or set data.cache=none"
    check_space(path.parent, prod(shape) - n * prod(shape[1:]), f"The versions of {shape[0]} images", cure)
    with part.open("r+b" if n else "wb") as file:
        file.truncate(n * prod(shape[1:]))
        file.seek(0, os.SEEK_END)

        def keep() -> None:
            file.flush()
            os.fsync(file.fileno())
            write_whole(journal, json.dumps({"images": n, "checksum": checksum}).encode())

        kept = monotonic()
        try:
            for pixels in _make(versions, n, title, workers, quiet):
                file.write(content := pixels.numpy().data)
                n, checksum = n + len(pixels), crc32(content, checksum)
                if monotonic() - kept > SECONDS:
                    keep()
                    kept = monotonic()
        finally:
            keep()  # also where it is stopped
    os.replace(part, path)
    journal.unlink()
    said = {"format": FORMAT, "change": versions.description, "shape": shape, "checksum": checksum}
    write_whole(record, json.dumps(said, indent=1).encode())


def _resumable(part: Path, journal: Path, image_bytes: int) -> tuple[int, int]:
    """How many images of a half-written file are whole, and their checksum."""
    try:
        kept = json.loads(journal.read_text(encoding="utf-8"))
        n, checksum = int(kept["images"]), int(kept["checksum"])
        if _checksum(part, n * image_bytes) != checksum:
            raise ValueError("its bytes are not those that were written")
    except FileNotFoundError:
        return 0, 0
    except (OSError, ValueError, TypeError, LookupError) as error:
        log.warning("%s is damaged (%s): its images are made from the first on.", part, error)
        return 0, 0
    return n, checksum


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether the file need not be made, for the first time or again."""
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if path.stat().st_size != prod(shape):
            raise ValueError(f"it has {path.stat().st_size} bytes instead of {prod(shape)}")
        if _checksum(path, prod(shape)) != record["checksum"]:
            raise ValueError("its bytes are not those that were written")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, LookupError) as error:
        log.warning("%s is damaged (%s): its images are made again.", path, error)
        return False
    return True


def _checksum(path: Path, n_bytes: int) -> int:
    code = 0
    with path.open("rb") as file:
        while n_bytes > 0:
            block = file.read(min(CHUNK_BYTES, n_bytes))
            if not block:
                raise ValueError("it is too short")
            code, n_bytes = crc32(block, code), n_bytes - len(block)
    return code
