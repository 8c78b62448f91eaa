"""Images and versions of them as one source."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain

import torch
from torch import Tensor

from iin_lightning.data.base import ORIGIN, Source
from iin_lightning.data.images import render
from iin_lightning.data.transforms import to_levels
from iin_lightning.seeding import Noise


class VersionedImages(Source):
    """A source in which a version of an image is an item: item v·n + i is version v of image i, version 0 the image.

    Its concepts are those of the images that are kept, then the change concepts, and last ORIGIN, the number i. A
    version has the labels of its image; for a change concept an item has label 0 if that is unchanged in it, and else
    1, 2, ... in the order of the concept's versions.

    Args:
        images: a source of n images.
        kept: which of its concepts.
        versions: concept -> the versions of all n images, a source each.
        key: a hash of what makes the versions.
    """

    def __init__(self, images: Source, kept: Sequence[str], versions: Mapping[str, Sequence[Source]], key: str) -> None:
        self.concepts = (*kept, *versions, ORIGIN)
        self._sources = (images, *chain.from_iterable(versions.values()))
        self._kept = torch.tensor([images.concepts.index(name) for name in kept], dtype=torch.long)
        self._key = key
        n = len(images)
        labels = torch.zeros(len(self._sources), n, len(self.concepts), dtype=torch.long)
        labels[:, :, : len(kept)] = images.labels[:, self._kept]
        labels[:, :, -1] = torch.arange(n)
        version = 1
        for column, sources in enumerate(versions.values(), len(kept)):
            for label in range(1, len(sources) + 1):
                labels[version, :, column] = label
                version += 1
        self.labels = labels.flatten(0, 1)

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], dequantised by the noise if there is any."""
        n = len(self._sources[0])
        version, images = indices // n, indices % n
        places = [(version == number).nonzero()[:, 0] for number in range(len(self._sources))]
        parts = [source.draw(images[at], None) for source, at in zip(self._sources, places) if len(at)]
        x = torch.cat(parts).index_select(0, torch.cat(places).argsort())
        return x if noise is None else render(to_levels(x), noise)

    def drawn_labels(self, indices: Tensor) -> Tensor:
        """The labels (B, K+1), of a broken image those of the one that stands in for it."""
        labels, images = self.labels[indices], self._sources[0]
        labels[:, : len(self._kept)] = images.drawn_labels(indices % len(images))[:, self._kept]
        return labels

    def content(self) -> str:
        """A hash of the images, and of what makes the versions."""
        return sha256(f"{self._sources[0].content()} {self._key}".encode()).hexdigest()
