"""Labelled images that are decoded when they are drawn, and what becomes of those that cannot be."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import file_digest, sha256
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iin_lightning.data.base import Source
from iin_lightning.data.framing import BrokenImageError, Framing, read_image
from iin_lightning.data.images import render
from iin_lightning.data.pixels import Made
from iin_lightning.disk import write_whole
from iin_lightning.errors import IINError
from iin_lightning.progress import track
from iin_lightning.seeding import Noise

log = logging.getLogger(__name__)

FORMAT = 2  # raises with every change of what a framing means
READERS = 8  # files that are read at a time, which hides how long a disk takes to find each
NAMED_FILES = 3  # how many broken files an error names


class BrokenImagesError(IINError, OSError):
    """More images of a data set are broken than may be skipped in silence."""

    def __init__(self, text: str) -> None:
        # A loader raises what its worker raised with the worker's traceback for a text, whose last line is ours.
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].strip())


class Listing(NamedTuple):
    """The n files of a split, by absolute path, and their labels long (n, K)."""

    paths: tuple[Path, ...]
    labels: Tensor

    def take(self, items: Tensor) -> "Listing":
        """Some of the files, in the order of ``items``."""
        return Listing(tuple(self.paths[item] for item in items.tolist()), self.labels[items])


class PackedPaths:
    """Paths in one block of memory.

    Loader processes share it for as long as they live. A tuple of objects they would copy page by page, since
    looking at an object counts a reference to it, so that memory would grow over an epoch.

    Example:
        >>> PackedPaths([Path("a/1.jpg"), Path("a/22.jpg")])[1]
        'a/22.jpg'
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, item: int) -> str:
        return os.fsdecode(self._paths[item])


def content_key(paths: PackedPaths, framing: Framing, memory: Path | None = None, *, quiet: bool = False) -> str:
    """A hash of the bytes of files, in this order, and of how they are framed; names and places are no part of it.

    The folder ``memory`` remembers what files of these places, sizes and times of change hold, so that not every
    command reads them all.
    """
    seen = sha256()
    for item in range(len(paths)):
        with suppress(OSError):  # such a file is a broken image
            status = os.stat(paths[item])
            # A copy may keep the time at which its content changed, but not the one at which it came here.
            seen.update(repr((item, paths[item], status.st_size, status.st_mtime_ns, status.st_ctime_ns)).encode())
    note = None if memory is None else memory / seen.hexdigest()[:32]
    content = _read_note(note)
    if content is None:
        content = _hash_of_bytes(paths, quiet)
        if note is not None:
            with suppress(OSError):  # a folder that cannot be written remembers nothing
                note.parent.mkdir(parents=True, exist_ok=True)
                write_whole(note, content.encode())
    return sha256(repr((FORMAT, asdict(framing), content)).encode()).hexdigest()[:32]


def _read_note(note: Path | None) -> str | None:
    with suppress(OSError, ValueError):
        if note is not None and len(bytes.fromhex(content := note.read_text(encoding="utf-8"))) == sha256().digest_size:
            return content
    return None


def _hash_of_bytes(paths: PackedPaths, quiet: bool) -> str:
    total = sha256()
    with ThreadPool(READERS) as pool:
        hashes = pool.imap(_hash_of_file, (paths[item] for item in range(len(paths))), chunksize=16)
        for each in track(hashes, "Reading images, to know them again", len(paths), quiet=quiet):
            total.update(each)
    return total.hexdigest()


def _hash_of_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file_digest(file, "sha256").digest()
    except OSError:
        return bytes(sha256().digest_size)


def decode(paths: PackedPaths, framing: Framing, items: range) -> Made:
    """The pixels of some files, and what is wrong with those that cannot be read, for ``kept_images``."""
    pixels, failures = [torch.empty(0, 3, *framing.shape, dtype=torch.uint8)], {}
    for item in items:
        try:
            pixels.append(read_image(paths[item], framing)[None])
        except BrokenImageError as error:
            failures[item] = str(error)
    return torch.cat(pixels), failures


class BrokenImages:
    """The images of a split that cannot be read: each is reported once by name and counted once.

    The marks lie in shared memory, so that this holds over all loader processes together. Of the n files of the split
    a part of at most ``max_share`` in [0, 1) may be broken.
    """

    def __init__(self, split: str, paths: PackedPaths, max_share: float) -> None:
        self.split = split
        self.paths = paths
        self.max_share = max_share
        self._marks = torch.zeros(len(paths), dtype=torch.bool).share_memory_()

    @property
    def count(self) -> int:
        """How many are known so far."""
        return int(self._marks.sum())

    def report(self, item: int, reason: str) -> None:
        """Say once that an image is broken; raise a BrokenImagesError if more are than max_share allows."""
        if not self._marks[item]:
            self._marks[item] = True
            log.warning("%s cannot be read and is skipped (%s).", self.paths[item], reason)
        if self.count > self.max_share * len(self.paths):
            first = [self.paths[broken] for broken in self._marks.nonzero()[:NAMED_FILES, 0].tolist()]
            raise BrokenImagesError(
                f"At least {self.count} of {len(self.paths)} {self.split} images cannot be read, which is more than "
                f"data.max_broken={self.max_share} allows. The first of them are {', '.join(first)}; the last error "
                f"was {reason}. Fetch them again, delete them, or raise data.max_broken."
            )


class ImageFiles(Source):
    """A source of images that are decoded at every draw.

    The place of a broken image is taken, each time, by the next readable one in the order of the listing, which is
    taken for a ring, and comes with that one's labels. ``broken`` keeps account of those that cannot be read.
    """

    def __init__(
        self,
        listing: Listing,
        concepts: tuple[str, ...],
        framing: Framing,
        broken: BrokenImages,
        memory: Path | None = None,
    ) -> None:
        self.paths = broken.paths
        self.labels = listing.labels
        self.concepts = concepts
        self.framing = framing
        self.broken = broken
        self.memory = memory
        self._stand_ins: dict[int, int] = {}

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], dequantised by the noise if there is any."""
        return render(torch.stack([self._pixels(item) for item in indices.tolist()]), noise)

    def drawn_labels(self, indices: Tensor) -> Tensor:
        """The labels (B, K), of a broken image those of the one that stands in for it."""
        return self.labels[[self._stand_ins.get(item, item) for item in indices.tolist()]]

    def content(self) -> str:
        """A hash of the files' bytes, and of the framing."""
        return content_key(self.paths, self.framing, self.memory)

    def _pixels(self, item: int) -> Tensor:
        pixels = self._read(self._stand_ins.get(item, item))
        if pixels is None:
            # Ends before the candidates do: the report of the last broken one among all would be one too many.
            self._stand_ins[item], pixels = next(
                (other, found)
                for step in range(1, len(self))
                if (found := self._read(other := (item + step) % len(self))) is not None
            )
        return pixels

    def _read(self, item: int) -> Tensor | None:
        try:
            return read_image(self.paths[item], self.framing)
        except BrokenImageError as error:
            self.broken.report(item, str(error))
            return None
