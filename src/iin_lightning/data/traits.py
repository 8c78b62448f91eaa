"""Traits of images that no label names, to see what a swap keeps of the rest: how a digit is written."""

from collections.abc import Callable

import torch
from torch import Tensor

Trait = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [-1, 1] -> values (B,)."""


def slant(images: Tensor) -> Tensor:
    """How far strokes on black lean: columns to the right for each row down, 0 upright, below 0 like a slash.

    It is the shear that a line through the ink has which the rows predict best: cov(column, row) / var(row), weighted
    by brightness.

    Example:
        >>> slash = torch.eye(5).flip(1)[None, None] * 2 - 1
        >>> slant(slash).tolist(), slant(slash.flip(3)).tolist()
        ([-1.0], [1.0])
    """
    grey = _ink(images)
    height, width = (torch.arange(n, device=images.device, dtype=images.dtype) for n in images.shape[2:])
    rows, columns = torch.meshgrid(height, width, indexing="ij")
    total = grey.sum((1, 2), keepdim=True).clamp(min=1e-6)
    row, column = (side - (grey * side).sum((1, 2), keepdim=True) / total for side in (rows, columns))
    return (grey * row * column).sum((1, 2)) / (grey * row.square()).sum((1, 2)).clamp(min=1e-6)


def ink(images: Tensor) -> Tensor:
    """How much of an image is stroke on black: the mean brightness over that of its brightest pixel, in [0, 1].

    Example:
        >>> half = torch.tensor([[[[-1.0, 0.0]]]])
        >>> ink(half).tolist()
        [0.5]
    """
    grey = _ink(images)
    return grey.mean((1, 2)) / grey.amax((1, 2)).clamp(min=1e-6)


def _ink(images: Tensor) -> Tensor:
    """Brightness (B, H, W) in [0, 1]."""
    return ((images.amax(1) + 1) / 2).clamp(0, 1)
