"""From grey levels 0...255 to the range [-1, 1] that every network here reads."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from iin_lightning.errors import ShapeError


def to_range(pixels: Tensor) -> Tensor:
    """Map grey levels v, uint8 of any shape, to float32 v / 127.5 - 1 in [-1, 1].

    Example:
        >>> to_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [-1.0, 1.0]
    """
    return pixels.float().div_(127.5).sub_(1)


def dequantize(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Spread each grey level over its interval: (v + u - 1/2) / 127.5 - 1 with u ~ U[0, 1), one u a pixel.

    A density model would otherwise put all its mass on 256 points (Uria et al., 2013). The noise has mean
    zero, so that training and evaluation images agree on average; black and white are clamped to [-1, 1].

    Args:
        pixels: uint8, any shape.
        generator: where u comes from. Evaluation uses ``to_range`` instead.

    Returns:
        float32 in [-1, 1] of the same shape, at most half a grey level (1/255) from ``to_range``.

    Example:
        >>> dequantize(torch.tensor([7], dtype=torch.uint8), torch.Generator().manual_seed(0)).shape
        torch.Size([1])
    """
    noise = torch.rand(pixels.shape, generator=generator, device=pixels.device)
    return noise.add_(pixels).sub_(0.5).div_(127.5).sub_(1).clamp_(-1, 1)


def pad_to(pixels: Tensor, size: int) -> Tensor:
    """Pad images (..., H, W) to (..., size, size) with background, the image in the middle.

    Padding keeps every grey level, which resizing would not.

    Raises:
        ShapeError: an image is larger than ``size``.

    Example:
        >>> pad_to(torch.ones(1, 28, 28, dtype=torch.uint8), 32).sum().item()
        784
    """
    height, width = pixels.shape[-2:]
    if max(height, width) > size:
        raise ShapeError(f"Images of {height}x{width} do not fit into {size}x{size}: ask for a larger size.")
    top, left = (size - height) // 2, (size - width) // 2
    return pad(pixels, (left, size - width - left, top, size - height - top))
