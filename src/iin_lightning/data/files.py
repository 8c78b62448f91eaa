"""Labelled images that are decoded when they are drawn, and what becomes of those that cannot be."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iin_lightning.data.framing import BrokenImageError, Framing, read_image
from iin_lightning.data.images import render
from iin_lightning.errors import IINError

log = logging.getLogger(__name__)

NAMED_FILES = 3  # how many broken files an error names


class BrokenImagesError(IINError, OSError):
    """More images of a data set are broken than may be skipped in silence."""

    def __init__(self, text: str) -> None:
        # A loader raises what its worker raised with the worker's traceback for a text, whose last line is ours.
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].strip())


class Listing(NamedTuple):
    """The files of a split.

    Attributes:
        paths: n absolute paths.
        labels: long (n, K).
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def take(self, items: Tensor) -> "Listing":
        """Some of the files, in the order of ``items``."""
        return Listing(tuple(self.paths[item] for item in items.tolist()), self.labels[items])


class PackedPaths:
    """Paths in one block of memory.

    Loader processes share it for as long as they live. A tuple of objects they would copy page by page, since
    looking at an object counts a reference to it, so that memory would grow over an epoch.

    Args:
        paths: any number.

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


class BrokenImages:
    """The images of a split that cannot be read: each is reported once by name and counted once.

    The marks lie in shared memory, so that this holds over all loader processes together.

    Args:
        split: its name, for messages.
        paths: all n files of the split.
        max_share: how many of them may be broken, as a part of n in [0, 1).
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
        """Say that an image is broken, unless it was said before.

        Raises:
            BrokenImagesError: more are broken than max_share allows.
        """
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


class ImageFiles:
    """A source of images that are decoded at every draw.

    The place of a broken image is taken, each time, by the next readable one with the same labels, or by the next
    readable one if there is none with the same; next means in the order of the listing, which is taken for a ring.

    Args:
        listing: the files, and their labels (n, K).
        concepts: the K names of the columns of the labels.
        framing: what is kept of an image.
        broken: of these files; keeps account of those that cannot be read.
    """

    def __init__(self, listing: Listing, concepts: tuple[str, ...], framing: Framing, broken: BrokenImages) -> None:
        self.paths = broken.paths
        self.labels = listing.labels
        self.concepts = concepts
        self.framing = framing
        self.broken = broken
        self._stand_ins: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, indices: Tensor, generator: torch.Generator | None) -> Tensor:
        """Images (B, 3, size, size) in [-1, 1], dequantised by the generator if there is one.

        Raises:
            BrokenImagesError: more images are broken than may be.
        """
        return render(torch.stack([self._pixels(item) for item in indices.tolist()]), generator)

    def _pixels(self, item: int) -> Tensor:
        pixels = self._read(self._stand_ins.get(item, item))
        if pixels is None:
            # Ends before the candidates do: the report of the last broken one among all would be one too many.
            self._stand_ins[item], pixels = next(
                (other, found) for other in self._candidates(item) if (found := self._read(other)) is not None
            )
        return pixels

    def _candidates(self, item: int) -> Iterator[int]:
        others = (torch.arange(1, len(self)) + item) % len(self)
        alike = (self.labels[others] == self.labels[item]).all(dim=1)
        return iter(torch.cat([others[alike], others[~alike]]).tolist())

    def _read(self, item: int) -> Tensor | None:
        try:
            return read_image(self.paths[item], self.framing)
        except BrokenImageError as error:
            self.broken.report(item, str(error))
            return None
