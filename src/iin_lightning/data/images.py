"""Images as grey levels 0...255, as a source, in the range [-1, 1] that every network reads, and by their traits."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from iin_lightning.data.base import Source, digest
from iin_lightning.errors import RangeError, ShapeError
from iin_lightning.seeding import Noise

SLACK = 0.5  # by which images may leave [-1, 1]: resizing overshoots, and so does a decoder without tanh
TELLING = 4  # images without a value below 0 are not chance, but in [0, 1]


def check_images(x: Tensor) -> None:
    """Raise a RangeError unless images are a floating-point tensor (B, C, H, W) in [-1, 1]; the host waits for them.

    Warns where they are probably in [0, 1], which nobody can know.

    Example:
        >>> check_images(torch.full((1, 3, 8, 8), 255.0))
        Traceback (most recent call last):
        iin_lightning.errors.RangeError: Images must lie in [-1, 1], not from 255 to 255: give x / 127.5 - 1 for ...
    """
    if not isinstance(x, Tensor):
        raise RangeError(
            f"Images must be a torch.Tensor (B, C, H, W) in [-1, 1], not {type(x).__module__}.{type(x).__name__}: "
            "torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1 makes one of an array (B, H, W, C) of 0...255."
        )
    if x.dim() != 4:
        raise RangeError(f"Images must be a batch (B, C, H, W), not {tuple(x.shape)}: x[None] makes one of an image.")
    if not x.is_floating_point():
        raise RangeError(f"Images must be floating-point numbers in [-1, 1], not {x.dtype}: give x / 127.5 - 1.")
    low, high = (bound.item() for bound in x.aminmax()) if x.numel() else (0.0, 0.0)
    if not -1 - SLACK <= low <= high <= 1 + SLACK:  # nor NaN
        raise RangeError(
            f"Images must lie in [-1, 1], not from {low:g} to {high:g}: give x / 127.5 - 1 for 0...255, 2 * x - 1 for "
            "[0, 1], and undo any other normalisation."
        )
    if low >= 0 and len(x) >= TELLING:
        warnings.warn(
            f"None of {len(x)} images has a value below 0, which is mid-grey: images lie in [-1, 1]. Give 2 * x - 1 if "
            "these lie in [0, 1].",
            stacklevel=3,
        )


def to_range(pixels: Tensor) -> Tensor:
    """Map grey levels v, uint8 of any shape, to float32 v / 127.5 - 1 in [-1, 1].

    Example:
        >>> to_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [-1.0, 1.0]
    """
    return pixels.float().div_(127.5).sub_(1)


def to_levels(x: Tensor) -> Tensor:
    """The grey levels, uint8, of images x in [-1, 1] that ``to_range`` made: round(127.5 (x + 1)).

    Example:
        >>> levels = torch.arange(256, dtype=torch.uint8)
        >>> torch.equal(to_levels(to_range(levels)), levels)
        True
    """
    return x.add(1).mul_(127.5).round_().byte()


def dequantize(pixels: Tensor, noise: Noise) -> Tensor:
    """Spread each grey level over its interval: (v + u - 1/2) / 127.5 - 1 with u ~ U(0, 1), one a pixel.

    A density model would otherwise put all its mass on 256 points (Uria et al., 2013). The noise has mean
    zero, so that training and evaluation images agree on average; black and white are clamped to [-1, 1].

    u is one of 1/256, 3/256, ..., 255/256. Evaluation uses ``to_range`` instead. Pixels are uint8 on the processor.

    Example:
        >>> dequantize(torch.tensor([7], dtype=torch.uint8), Noise(0)).shape
        torch.Size([1])
    """
    # In 16-bit integers: noise takes most of a cached batch's time.
    u = noise.bytes(pixels.shape)
    u |= 1  # odd, so that the mean is 1/2 and no level meets the next
    levels = np.empty(pixels.shape, np.uint16)
    np.left_shift(pixels.numpy(), 8, out=levels, dtype=np.uint16)
    levels |= u
    levels ^= 1 << 15  # read as signed, this is 256 (v + u - 128)
    return torch.from_numpy(levels.view(np.int16)).clamp_(-32640, 32640).float().div_(32640)


def pad_to(pixels: Tensor, size: int) -> Tensor:
    """Pad images (..., H, W) to (..., size, size) with background, the image in the middle.

    Padding keeps every grey level, which resizing would not.

    Example:
        >>> pad_to(torch.ones(1, 28, 28, dtype=torch.uint8), 32).sum().item()
        784
    """
    height, width = pixels.shape[-2:]
    if max(height, width) > size:
        raise ShapeError(f"Images of {height}x{width} do not fit into {size}x{size}: ask for a larger size.")
    top, left = (size - height) // 2, (size - width) // 2
    return pad(pixels, (left, size - width - left, top, size - height - top))


class ImageTensor(Source):
    """A source of images (n, C, H, W) that are kept as uint8, a quarter of their size as float32.

    Labels are long (n, K), whose columns ``concepts`` names. ``key`` is what ``content`` says, by default a hash of the
    pixels. Images of another type are a RangeError.

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
