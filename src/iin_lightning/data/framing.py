"""From an image file of any size and mode to the square of RGB pixels that a network reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.errors import ConfigError

UPRIGHT = 1  # the EXIF orientation of an image whose rows are rows
WHITE = (255, 255, 255)
LONGEST = 6400  # side of a square that is filled up: that of a strip of few pixels may have more than memory holds


class BrokenImageError(OSError):
    """An image file cannot be decoded, or is not there."""


@dataclass(frozen=True)
class Framing:
    """Which part of an image is kept, and how it is resized; nothing is ever stretched.

    Args:
        size: side of the result, in pixels.
        crop: side of the centred square that is kept, in pixels; None, or more than the image has: the largest one.
        antialias: average over all pixels when shrinking. False interpolates between the nearest four and skips the
            rest, as the authors' OpenCV code does.
        pad: keep the whole image and fill it up with white to a square, instead of cropping.

    Raises:
        ConfigError: size or crop is below 1, or both crop and pad are asked for.

    Example:
        >>> portrait = Image.new("L", (178, 218), 7)
        >>> pixels = Framing(size=64, crop=160)(portrait)
        >>> pixels.shape, pixels.unique().tolist()
        (torch.Size([3, 64, 64]), [7])
    """

    size: int = 64
    crop: int | None = None
    antialias: bool = True
    pad: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or (self.crop is not None and self.crop < 1):
            raise ConfigError(f"size={self.size} and crop={self.crop} are pixels: both must be at least 1.")
        if self.pad and self.crop is not None:
            raise ConfigError(f"crop={self.crop} and pad=true exclude each other: pad keeps the whole image. Drop one.")

    def __call__(self, image: Image.Image) -> Tensor:
        """The pixels, uint8 (3, size, size), of an image of any size and mode."""
        image = to_rgb(image)
        if self.pad:
            image = _pad_to_square(image)
        side = min(image.size if self.crop is None else (*image.size, self.crop))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = np.array(image.crop((left, top, left + side, top + side)))
        pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
        if self.antialias:
            # PIL's own algorithm, but for a rare difference of one grey level, in half of PIL's time.
            resized = interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        else:
            resized = interpolate(pixels.float(), (self.size, self.size), mode="bilinear").round_().byte()
        return resized[0].contiguous()


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB of 8 bits, turned as its EXIF orientation says and laid on white where it is transparent.

    Grey levels of 16 bits are divided by 257 and rounded, so that white stays white.

    Raises:
        ValueError: its values are floating-point numbers, for which no range is agreed upon.
    """
    if image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its values are floating-point numbers, of which black and white are not known")
    if image.mode == "I" or image.mode.startswith("I;16"):  # "I", too, is what PIL reads a PGM of 16 bits as
        half = 128  # of 257, so that no level of 16 bits grows out of them
        levels = np.asarray(image).clip(0, 65535 - half).astype(np.uint16, copy=False)
        levels += half
        levels //= 257
        image = Image.fromarray(levels.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def read_image(path: Path | str | BinaryIO, framing: Framing, formats: tuple[str, ...] | None = None) -> Tensor:
    """The pixels, uint8 (3, size, size), of an image file.

    Args:
        path: of the file, or its content.
        framing: which part is kept, and how large.
        formats: PIL's names of those that are read; None: all that it knows, some by calling other programs.

    Raises:
        BrokenImageError: the file is absent, not an image, truncated, or so large that it may be an attack.
    """
    try:
        with Image.open(path, formats=formats) as image:
            return framing(image)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes lead PIL's decoders to nearly every exception that there is
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error


def _pad_to_square(image: Image.Image) -> Image.Image:
    if (many := -(-max(image.size) // LONGEST)) > 1:
        image = image.reduce(many)
    side = max(image.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
