"""Labelled images that fit into memory."""

import torch
from torch import Tensor

from iin_lightning.data.base import Source, digest
from iin_lightning.data.transforms import dequantize, to_range
from iin_lightning.errors import RangeError
from iin_lightning.seeding import Noise


class ImageTensor(Source):
    """A source of images that are kept as uint8, a quarter of their size as float32.

    Args:
        images: uint8 (n, C, H, W).
        labels: long (n, K).
        concepts: the K names of the columns of ``labels``.
        key: what ``content`` says; None: a hash of the pixels.

    Raises:
        RangeError: images are of another type.

    Example:
        >>> black = torch.zeros(5, 1, 4, 4, dtype=torch.uint8)
        >>> source = ImageTensor(black, torch.zeros(5, 1).long(), ("digit",))
        >>> source.draw(torch.tensor([0, 3]), None).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, images: Tensor, labels: Tensor, concepts: tuple[str, ...], key: str | None = None) -> None:
        if images.dtype != torch.uint8:
            raise RangeError(f"ImageTensor keeps images as uint8, 0...255, not {images.dtype}: convert them.")
        self.images = images
        self.labels = labels
        self.concepts = concepts
        self.key = key

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], dequantised by the noise if there is any."""
        return render(self.images.index_select(0, indices), noise)  # many times faster than images[indices]

    def content(self) -> str:
        """A hash of the pixels, or of the files that they come from."""
        return digest(self.images) if self.key is None else self.key


def render(pixels: Tensor, noise: Noise | None) -> Tensor:
    """uint8 to [-1, 1]: dequantised in training, exact in evaluation (no noise)."""
    return to_range(pixels) if noise is None else dequantize(pixels, noise)
