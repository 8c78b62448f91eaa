"""The base of all data sets that are image files on disk: a subclass lists the files, and this does the rest."""

import math
from abc import ABC
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from iin_lightning.data.base import Source, Split
from iin_lightning.data.files import BrokenImages, ImageFiles, Listing, PackedPaths, content_key, decode
from iin_lightning.data.framing import DEEP, BrokenImageError, Framing, Peek, peek
from iin_lightning.data.module import DataModule
from iin_lightning.data.pixels import Cache, cache_folder, kept_images, processes
from iin_lightning.data.splits import Records, check_fraction, choose
from iin_lightning.errors import ConfigError, DataNotFoundError
from iin_lightning.seeding import FIXED

PEEKS = 8  # training images that are looked at before all are decoded
NEARLY_BLACK = 1 / 8  # of white


class FileModule(DataModule, ABC):
    """A data set of image files.

    A subclass says the attributes that ``DataModule`` asks for, and ``listing``, or ``_records`` of all splits.

    Args:
        size: side of the images that a network reads in pixels, or their height and width.
        crop: shorter side of the centred part of the original that is kept; None: the largest one.
        antialias: average over all pixels when shrinking; see ``Framing``.
        pad: fill images up with white instead of cropping them.
        window: black and white of grey images of more than 8 bits, [0, 4095] for 12 bits in 16; None: [0, 65535].
        cache: where decoded images are kept: "ram", "disk" (a file that runs share), or "none" to decode at every draw.
        cache_dir: folder of cache="disk", below which they lie in ``pixels/``. In its ``contents/`` is remembered what
            the files hold, see ``content_key``; None: they are read whenever somebody asks.
        max_broken: how many images of a split may be broken, as a part of it in [0, 1); they are reported and skipped.
        num_workers: processes that load, and that fill a cache; None: one a core, up to 8, where images are decoded
            and none where they come from a cache.
        split_seed: of splits that are drawn; see ``split_within``. It is not ``seed``, so that a translator with a
            seed of its own tests on no image that its network was trained on.
        **loading: see ``DataModule``. A limit leaves images out before they are decoded; val_fraction is at most 1/3.
    """

    def __init__(
        self,
        *,
        size: int | Sequence[int] = 64,
        crop: int | None = None,
        antialias: bool = True,
        pad: bool = False,
        window: Sequence[float] | None = None,
        cache: Cache = "none",
        cache_dir: str | Path | None = None,
        max_broken: float = 0.01,
        num_workers: int | None = None,
        split_seed: int = 0,
        **loading: Any,
    ) -> None:
        self.folder = cache_folder(cache, cache_dir, "pixels", "decoded images")
        self.memory = None if cache_dir is None else Path(cache_dir) / "contents"
        if not 0 <= max_broken < 1:
            raise ConfigError(f"max_broken={max_broken} must lie in [0, 1): it is a part of a split's images.")
        self.decoders, loaders = processes(cache, num_workers)
        super().__init__(num_workers=loaders, **loading)
        check_fraction("val_fraction", self.val_fraction)
        self.framing = Framing(size, crop, antialias, pad, window)
        self.cache: Cache = cache
        self.max_broken = max_broken
        self.split_seed = split_seed
        self._broken: dict[Split, BrokenImages] = {}
        self._contents: dict[Split, tuple[str, Tensor]] = {}

    @property
    def _records(self) -> Records:
        raise NotImplementedError(f"{type(self).__name__} says neither listing nor _records.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 3, *self.framing.shape

    @property
    def broken(self) -> dict[str, int]:
        """Split -> how many of its images could not be read so far, of the splits that were loaded."""
        return {split: broken.count for split, broken in self._broken.items()}

    def listing(self, split: Split) -> Listing:
        """The files of a split, under absolute paths, and their labels."""
        return self._records.listing(split)

    def content(self, split: Split) -> tuple[str, Tensor]:
        """A hash of the bytes of a split's files and of their framing, and their labels; nothing is decoded."""
        if split not in self._contents:
            listing, quiet = self._limited(split), self.ranks["rank"] > 0
            key = content_key(PackedPaths(listing.paths), self.framing, self.memory, quiet=quiet)
            self._contents[split] = key, listing.labels
        return self._contents[split]

    def load(self, split: Split) -> Source:
        """List the files of a split, and decode them if they are cached."""
        listing = self._limited(split)
        broken = self._broken[split] = BrokenImages(split, PackedPaths(listing.paths), self.max_broken)
        if self.cache == "none":
            return ImageFiles(listing, self.concepts, self.framing, broken, self.memory)
        return kept_images(
            partial(decode, broken.paths, self.framing),
            listing.labels,
            self.concepts,
            self.image_shape,
            self.content(split)[0],
            self.folder,
            what=f"The pixels of {len(listing.paths)} {split} images",
            title=f"Decoding {split} images",
            report=broken.report,
            workers=self.decoders,
            quiet=self.ranks["rank"] > 0,
            mend=self.ranks["world_size"] == 1,
        )

    def labels(self, split: Split) -> Tensor:
        """The labels long (n, K) of a split; no image is decoded for them."""
        return super().labels(split) if split in self._sources else self._limited(split).labels

    @cached_property
    def peeks(self) -> list[Peek]:
        """What a few of the training files hold that can be read."""
        found = []
        for path in self._limited("train").paths[:PEEKS]:
            try:
                found.append(peek(path))
            except BrokenImageError:
                continue
        return found

    @property
    def detail(self) -> int:
        """The side, in pixels, of a size that shows all that the files hold: the middle one of a few; 0 if unknown."""
        side = int(median(peek.side for peek in self.peeks)) if self.peeks else 0
        return side if self.framing.crop is None else min(side, self.framing.crop)

    def warnings(self, concepts: Sequence[str] | None = None) -> list[str]:
        """See ``DataModule``; besides, whether grey levels are read in another range than they are written in."""
        return [*super().warnings(concepts), *self._range_warnings()]

    def _range_warnings(self) -> list[str]:
        said = []
        deep, other = ([peek for peek in self.peeks if peek.deep is kind] for kind in (True, False))
        if deep and self.framing.window is None:
            low, high = min(peek.low for peek in deep), max(peek.high for peek in deep)
            if low < 0 or not NEARLY_BLACK * 2 * DEEP[1] <= high <= DEEP[1]:
                window = [math.floor(min(low, 0)), 2 ** math.ceil(math.log2(max(high, 1) + 1)) - 1]
                said.append(
                    f"Grey levels of {len(deep)} training images that were looked at go from {low:g} to {high:g}, but "
                    f"0 is shown black and 65,535 white: say data.window=[{window[0]},{window[1]}]."
                )
        if other and (high := max(peek.high for peek in other)) < NEARLY_BLACK * 255:
            said.append(
                f"The {len(other)} training images that were looked at are nearly black, since no value is above "
                f"{high:g} of 255: are they masks, or bits of another depth? Convert them to 0...255."
            )
        return said

    def _limited(self, split: Split) -> Listing:
        listing = self.listing(split)
        if not listing.paths:
            raise DataNotFoundError(
                f"The {split} split of {type(self).__name__} has no images: the data name none for it, or none of "
                "those that they name is there. Complete the data, or change how they are split."
            )
        if self.limit is None or self.limit >= len(listing.paths):
            return listing
        return listing.take(choose(listing.labels, self.limit, FIXED, self.limit_by))
