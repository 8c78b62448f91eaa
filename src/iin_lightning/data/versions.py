"""What labels say of versions of images: which concepts a version changes, and what two items share.

Where a source has the column ``ORIGIN``, a concept whose label differs between the versions of some image is a
*change*; the others are labels of the images, which all versions have. Without that column all concepts are labels.

Two versions of one image share every factor whose labels are equal, and the residual: that is what a change means. Of
two images it is known whether their labels are equal, but not whether one looks as round as the other, and unknown
teaches as different does: neither change concepts nor the residual are shared.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain

import torch
from torch import Tensor

from iin_lightning.data.base import ORIGIN, Source
from iin_lightning.data.images import render, to_levels
from iin_lightning.seeding import Noise


def image_of(source: Source) -> Tensor:
    """The number (n,) of the image that each item is a version of; where there are no versions, the item's own.

    Example:
        >>> from iin_lightning.data.images import ImageTensor
        >>> gray_image = torch.tensor([[0, 7], [1, 7], [0, 9]])
        >>> image_of(ImageTensor(torch.zeros(3, 1, 1, 1).byte(), gray_image, ("gray", ORIGIN))).tolist()
        [7, 7, 9]
    """
    if ORIGIN not in source.concepts:
        return torch.arange(len(source), device=source.device)
    return source.labels[:, source.concepts.index(ORIGIN)]


def first_of_each(images: Tensor) -> Tensor:
    """The places (m,) at which each number of images (n,) stands for the first time.

    Example:
        >>> first_of_each(torch.tensor([7, 7, 9, 7, 8])).tolist()
        [0, 2, 4]
    """
    first: dict[int, int] = {}
    for place, number in enumerate(images.tolist()):
        first.setdefault(number, place)
    return torch.tensor(list(first.values()), dtype=torch.long)


def changing(source: Source) -> tuple[str, ...]:
    """The concepts of a source that are changes, in their order.

    Example:
        >>> from iin_lightning.data.images import ImageTensor
        >>> digit_gray_image = torch.tensor([[7, 0, 0], [7, 1, 0], [2, 0, 1], [2, 1, 1]])
        >>> changing(ImageTensor(torch.zeros(4, 1, 1, 1).byte(), digit_gray_image, ("digit", "gray", ORIGIN)))
        ('gray',)
    """
    if ORIGIN not in source.concepts:
        return ()
    image = source.labels[:, source.concepts.index(ORIGIN)].unique(return_inverse=True)[1]
    n = int(image.max()) + 1
    varies = []
    for name, label in zip(source.concepts, source.labels.T):
        of_one = label.new_zeros(n).scatter_(0, image, label)  # that of any version
        if bool((label != of_one[image]).any()):
            varies.append(name)
    return tuple(varies)


def pair_columns(source: Source, concepts: Sequence[str]) -> Tensor:
    """Columns long (n, K) for a ``PairIndex``: two items that are equal in column k may be a pair for concept k.

    For a label these are the items of equal label. For a change they are the versions of one image that are equal in
    all other changes, so that they differ in this one alone.
    """
    columns = source.labels[:, [source.concepts.index(name) for name in concepts]]
    changes = changing(source)
    for place, name in enumerate(concepts):
        if name in changes:
            others = [source.concepts.index(other) for other in (*changes, ORIGIN) if other != name]
            columns[:, place] = source.labels[:, others].unique(dim=0, return_inverse=True)[1]
    return columns


class FactorGroups:
    """Says of labels to which group an item belongs in each factor; items of one group share it.

    The columns of the labels are the source's concepts; a change that is not among the factors belongs to the residual.

    Example:
        >>> from iin_lightning.data.images import ImageTensor
        >>> digit_gray_image = torch.tensor([[7, 0, 0], [7, 1, 0], [7, 0, 1], [7, 1, 1]])
        >>> source = ImageTensor(torch.zeros(4, 1, 1, 1).byte(), digit_gray_image, ("digit", "gray", ORIGIN))
        >>> FactorGroups(source, ["digit", "gray"])(digit_gray_image).tolist()
        [[0, 7, 0], [0, 7, 1], [1, 7, 2], [1, 7, 3]]
        >>> FactorGroups(source, ["digit"])(digit_gray_image).tolist()
        [[0, 7], [1, 7], [2, 7], [3, 7]]
    """

    def __init__(self, source: Source, concepts: Sequence[str]) -> None:
        # Tensors, since a list would be copied to a GPU at every step.
        def columns(names: Sequence[str]) -> Tensor:
            return torch.tensor([source.concepts.index(name) for name in names], device=source.device, dtype=torch.long)

        changes = changing(source)
        self._columns = columns(concepts)
        self._change = torch.tensor([name in changes for name in concepts], device=source.device)
        self._in_residual = columns([name for name in changes if name not in concepts])
        self._image = columns([ORIGIN]) if ORIGIN in source.concepts else None
        self._sizes = source.labels.amax(0) + 1

    def __call__(self, labels: Tensor) -> Tensor:
        """The groups, long (B, K+1), the residual first, of labels (B, L) of all the source's concepts."""
        groups = labels[:, self._columns]
        if self._image is None:
            return torch.cat([groups.new_full((len(groups), 1), -1), groups], dim=1)
        image = labels[:, self._image]
        groups = torch.where(self._change, image * self._sizes[self._columns] + groups, groups)
        residual = image
        for column in self._in_residual.unbind():
            residual = residual * self._sizes[column[None]] + labels[:, column[None]]
        return torch.cat([residual, groups], dim=1)


def versions_of(source: Source, concept: str) -> Tensor:
    """Items (V, n) that differ in a change alone: row v has version v of the n images of which no version is absent.

    Example:
        >>> from iin_lightning.data.images import ImageTensor
        >>> gray_image = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
        >>> versions_of(ImageTensor(torch.zeros(5, 1, 1, 1).byte(), gray_image, ("gray", ORIGIN)), "gray").tolist()
        [[0, 1], [3, 4]]
    """
    columns = [source.concepts.index(other) for other in changing(source) if other != concept]
    items = (source.labels[:, columns] == 0).all(1).nonzero()[:, 0]
    image = source.labels[items, source.concepts.index(ORIGIN)].unique(return_inverse=True)[1]
    label = source.labels[items, source.concepts.index(concept)]
    table = items.new_full((int(label.max()) + 1, int(image.max()) + 1), -1)
    table[label, image] = items
    return table[:, (table >= 0).all(0)]


class VersionedImages(Source):
    """A source in which a version of an image is an item: item v·n + i is version v of image i, version 0 the image.

    Its concepts are those of the images that are kept, then the change concepts, and last ORIGIN, the number i. A
    version has the labels of its image; for a change concept an item has label 0 if that is unchanged in it, and else
    1, 2, ... in the order of the concept's versions.

    Of n images the concepts ``kept`` are kept; each version is a source of n images; ``key`` says what makes the
    versions.
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
