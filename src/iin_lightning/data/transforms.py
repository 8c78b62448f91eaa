"""Images as grey levels 0...255, and from there to the range [-1, 1] that every network here reads."""

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from iin_lightning.errors import RangeError, ShapeError
from iin_lightning.seeding import Noise

SLACK = 0.5  # by which images may leave [-1, 1]: resizing overshoots, and so does a decoder without tanh
TELLING = 4  # images without a value below 0 are not chance, but in [0, 1]


def check_images(x: Tensor) -> None:
    """See that images are what every network here reads; the host waits for their device.

    Warns where they are probably in [0, 1], which nobody can know.

    Raises:
        RangeError: they are no tensor (B, C, H, W), not floating-point, or not in [-1, 1].

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

    Args:
        pixels: uint8 on the processor, (B, ...).
        noise: of u, which is one of 1/256, 3/256, ..., 255/256. Evaluation uses ``to_range`` instead.

    Returns:
        float32 in [-1, 1] of the same shape, at most half a grey level (1/255) from ``to_range``.

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


def draw_deformations(n: int, strength: float, generator: torch.Generator) -> Tensor:
    """Amounts (n, 6) by which ``deform`` turns, scales, shears and shifts n images, each by its own.

    At strength 1 an amount is uniform within these bounds, which grow in proportion to the strength: rotation ±0.2
    rad, log-scale of either axis ±0.12, shear ±0.2, shift of either axis ±1/16 of the image. At strength 0 nothing
    moves.
    """
    bounds = torch.tensor(
        [0.2, 0.12, 0.12, 0.2, 1 / 8, 1 / 8]
    )  # the grid spans [-1, 1]: 1/8 of it is 1/16 of the image
    return (torch.rand(n, 6, generator=generator) * 2 - 1) * bounds * strength


def deform(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Turn, scale, shear and shift each image a little (Simard, Steinkraus & Platt, 2003).

    Args:
        pixels: uint8 (n, H, W) on a black background, which is what comes in from beyond the border.
        amounts: (n, 6) from ``draw_deformations``.

    Returns:
        uint8 (n, H, W), interpolated bilinearly.

    Example:
        >>> square = torch.zeros(2, 8, 8, dtype=torch.uint8)
        >>> square[:, 2:6, 2:6] = 255
        >>> a, b = deform(square, draw_deformations(2, 1.0, torch.Generator().manual_seed(0)))
        >>> bool((a != b).any())
        True
    """
    angle, log_x, log_y, shear, shift_x, shift_y = amounts.unbind(1)
    scale_x, scale_y = log_x.exp(), log_y.exp()
    row_x = torch.stack([angle.cos() * scale_x, shear - angle.sin() * scale_y, shift_x], dim=1)
    row_y = torch.stack([angle.sin() * scale_x, angle.cos() * scale_y, shift_y], dim=1)
    grid = affine_grid(torch.stack([row_x, row_y], dim=1), [len(pixels), 1, *pixels.shape[1:]], align_corners=False)
    return grid_sample(pixels[:, None].float(), grid, align_corners=False)[:, 0].round_().byte()
