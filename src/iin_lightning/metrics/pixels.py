"""Pixels: the one way in which images of any origin become the bytes that feature extractors read.

Real, generated and reconstructed images all go through ``to_uint8``, and so does what is written to disk. A truncation
instead of a rounding, or another range on one side, moves a Frechet distance by more than what papers argue about.
"""

from hashlib import blake2b

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError
from iin_lightning.seeding import generator

LIMIT = 2.0
"""|x| beyond which images are not in [-1, 1] with a little overshoot, but in another range."""


def to_uint8(images: Tensor) -> Tensor:
    """Images x to bytes round((x + 1) 127.5), clamped to 0...255; grey is replicated to RGB.

    Args:
        images: floating point (B,C,H,W) in [-1,1], C = 1 or 3; what overshoots the range a little is clamped.

    Returns:
        uint8 (B,3,H,W).

    Raises:
        ConfigError: another type, or values far outside of [-1,1]. Images in [0,1] cannot be told from bright ones.
        NonFiniteError: NaN or infinity among them.
        ShapeError: another number of dimensions or channels.

    Example:
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.1]).reshape(1, 1, 1, 3))[0, :, 0].tolist()
        [[0, 128, 255], [0, 128, 255], [0, 128, 255]]
    """
    if not images.is_floating_point():
        raise ConfigError(
            f"to_uint8 expects floating-point images in [-1, 1], got {images.dtype}: map bytes v to v / 127.5 - 1."
        )
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"to_uint8 expects images (B, C, H, W) with C = 1 or 3, got {tuple(images.shape)}.")
    images = images.detach().float()
    if images.numel():
        low, high = images.aminmax()
        if not torch.isfinite(high - low):
            bad = int((~images.isfinite()).flatten(1).any(1).sum())
            raise NonFiniteError(f"{bad} of {len(images)} images have NaN or infinite pixels: the decoder is at fault.")
        if max(-low, high) > LIMIT:
            raise ConfigError(
                f"to_uint8 expects images in [-1, 1], got values from {low.item():.4g} to {high.item():.4g}: "
                "map bytes v to v / 127.5 - 1."
            )
    pixels = images.add(1).mul_(127.5).round_().clamp_(0, 255).byte()
    return pixels.expand(-1, 3, -1, -1).contiguous()


def stretch(images: Tensor) -> Tensor:
    """Each image stretched to the whole range: 2 (x - min x) / (max x - min x) - 1; a constant one is left alone.

    Dai & Wipf (2019, arXiv 1903.05789) do so with generated images, and not with real ones, before they take the FID.

    Args:
        images: (B,C,H,W).

    Example:
        >>> stretch(torch.tensor([0.0, 0.25, 0.5]).reshape(1, 1, 1, 3)).flatten().tolist()
        [-1.0, 0.0, 1.0]
    """
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, 2 * (images - low) / (high - low) - 1, images)


def dequantize_images(pixels: Tensor, seed: int) -> Tensor:
    """Bytes v to round(v + u), one u ~ U[0, 1) an image: what rounding leaves of the authors' dequantised real images.

    Their data add one number to all pixels of an image; so half of the real images are one grey level brighter.
    u is a function of the seed and of the image alone: neither order nor batches nor ranks change it.

    Args:
        pixels: uint8 (B,3,H,W).
        seed: of u.

    Example:
        >>> black = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
        >>> {dequantize_images(black, seed).unique().item() for seed in range(9)}
        {0, 1}
    """
    keys = [blake2b(image.numpy().tobytes(), digest_size=16).hexdigest() for image in pixels.cpu()]
    draws = [torch.rand((), generator=generator(seed, "dequantize", key)) for key in keys]
    brighter = torch.tensor([bool(u >= 0.5) for u in draws], device=pixels.device)
    return pixels + (brighter[:, None, None, None] & (pixels < 255)).byte()


def resize_clean(pixels: Tensor, size: int) -> Tensor:
    """Bytes resized as a signal should be: bicubic, averaged over all pixels when shrinking, rounded to bytes.

    Source: Parmar, Zhang, Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022, arXiv
    2104.11222; their code leaves out the rounding.

    Args:
        pixels: uint8 (B,3,H,W).
        size: height and width of the result.

    Example:
        >>> resize_clean(torch.full((1, 3, 8, 8), 7, dtype=torch.uint8), 5).unique().tolist()
        [7]
    """
    resized = interpolate(pixels.float(), (size, size), mode="bicubic", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).byte()
