"""What the rest of the room agrees on: a source draws batches of images or latents, and knows their concepts.

Symbols: n items, K concepts, B a batch. Images are float32 (B, C, H, W) in [-1, 1], latents float32 (B, N).
"""

from abc import ABC, abstractmethod
from hashlib import sha256
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from iin_lightning.seeding import Noise

Split = Literal["train", "val", "test"]

ORIGIN = "image"
"""The column of a source's labels that says of which image an item is a version, where there are versions of images."""


class LabelledBatch(NamedTuple):
    """Images (B, C, H, W) or latents (B, N), and labels long (B, K), a column each of ``Source.concepts``."""

    x: Tensor
    labels: Tensor


class Source(ABC):
    """Items that are drawn by index, a whole batch in one call.

    Attributes:
        concepts: the names of the K concepts.
        labels: long (n, K); two items share concept k where their columns k are equal.
    """

    concepts: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        """The number of items, n."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where items are drawn: that of the labels."""
        return self.labels.device

    @abstractmethod
    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """The items ``indices`` (B,); what is random in them comes from the noise, both of the source's device.

        Without noise nothing is random: that is how a source is evaluated.
        """

    def drawn_labels(self, indices: Tensor) -> Tensor:
        """The labels (B, K) of what ``draw`` gave last for ``indices``, where others may have stood in for some."""
        return self.labels[indices]

    @abstractmethod
    def content(self) -> str:
        """A hash of all that the items are made of: other files, other digits or another palette give another."""


def draw_labelled(source: Source, indices: Tensor, noise: Noise | None) -> LabelledBatch:
    """The items ``indices`` (B,), from any device, of a source with their labels."""
    indices = indices.to(source.device, non_blocking=True)
    x = source.draw(indices, noise)
    return LabelledBatch(x, source.drawn_labels(indices))


class Subset(Source):
    """A source restricted to ``items``, long (m,)."""

    def __init__(self, source: Source, items: Tensor) -> None:
        self.source = source
        self.items = items
        self.concepts = source.concepts
        self.labels = source.labels[items]

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """See ``Source``."""
        return self.source.draw(self.items[indices], noise)

    def drawn_labels(self, indices: Tensor) -> Tensor:
        """See ``Source``."""
        return self.source.drawn_labels(self.items[indices])

    def content(self) -> str:
        """See ``Source``."""
        return digest(self.items) + self.source.content()


def digest(*tensors: Tensor) -> str:
    """A hash of types, shapes and values.

    Example:
        >>> digest(torch.zeros(2, 3)) == digest(torch.zeros(3, 2))
        False
    """
    content = sha256()
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.numpy())
        content.update(repr((array.dtype, array.shape)).encode())
        content.update(array.data)
    return content.hexdigest()


class Posterior(Protocol):
    """q(z|x) = N(mean, diag(scale²)), both (B, N)."""

    @property
    def mean(self) -> Tensor: ...  # noqa: D102

    @property
    def scale(self) -> Tensor: ...  # noqa: D102


class Encoder(Protocol):
    """The part of an encoder that ``data`` needs; any ``torch.nn.Module`` with these members fits."""

    training: bool

    @property
    def latent_dim(self) -> int: ...  # noqa: D102

    def encode(self, x: Tensor) -> Posterior: ...  # noqa: D102

    def to(self, device: torch.device) -> Any: ...  # noqa: D102

    def train(self, mode: bool = True) -> Any: ...  # noqa: D102
