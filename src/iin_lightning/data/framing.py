"""From an image file of any size and mode to the RGB pixels that a network reads, square or not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.errors import ConfigError

UPRIGHT = 1  # the EXIF orientation of an image whose rows are rows
WHITE = (255, 255, 255)
LONGEST = 6400  # side of the part that is kept, or filled up: a larger one is shrunk by a whole number first
DEEP = (0.0, 65535.0)  # black and white of grey levels of more than 8 bits
MOST_PIXELS = 400_000_000  # 1.2 GB as RGB

_opening = Lock()
T = TypeVar("T")


class BrokenImageError(OSError):
    """An image file cannot be decoded, or is not there."""


@dataclass(frozen=True)
class Framing:
    """Which part of an image is kept, and how it is resized; nothing is ever stretched.

    Args:
        size: side of the result in pixels, or its height and width.
        crop: shorter side of the centred part that is kept, in pixels; None, or more than the image has: the largest
            one of the result's shape.
        antialias: average over all pixels when shrinking. False interpolates between the nearest four and skips the
            rest, as the authors' OpenCV code does.
        pad: keep the whole image and fill it up with white to the result's shape, instead of cropping.
        window: the values that become black and white in grey images of more than 8 bits; None: 0 and 65535.

    Attributes:
        shape: height and width of the result.

    Example:
        >>> portrait = Image.new("L", (178, 218), 7)
        >>> pixels = Framing(size=64, crop=160)(portrait)
        >>> pixels.shape, pixels.unique().tolist()
        (torch.Size([3, 64, 64]), [7])
        >>> Framing(size=(32, 64))(portrait).shape
        torch.Size([3, 32, 64])
    """

    size: int | Sequence[int] = 64
    crop: int | None = None
    antialias: bool = True
    pad: bool = False
    window: Sequence[float] | None = None

    def __post_init__(self) -> None:
        sides = tuple(self.size) if isinstance(self.size, Sequence) else (self.size,)
        numbers = sides if self.crop is None else (*sides, self.crop)
        if len(sides) not in (1, 2) or any(type(number) is not int or number < 1 for number in numbers):
            raise ConfigError(
                f"size={self.size} and crop={self.crop} are whole numbers of pixels from 1 on; size is a side (64), or "
                "height and width ([64,128])."
            )
        if self.pad and self.crop is not None:
            raise ConfigError(f"crop={self.crop} and pad=true exclude each other: pad keeps the whole image. Drop one.")
        if self.window is not None and not (len(self.window) == 2 and self.window[0] < self.window[1]):
            raise ConfigError(f"window={list(self.window)} must be [black,white], two values of which white is larger.")
        object.__setattr__(self, "window", None if self.window is None else tuple(self.window))
        object.__setattr__(self, "size", sides[0] if len(set(sides)) == 1 else sides)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return height, width

    def __call__(self, image: Image.Image) -> Tensor:
        """The pixels, uint8 (3, H, W), of an image of any size and mode."""
        image = to_rgb(image, self.window)
        height, width = self.shape
        if self.pad:
            image = _pad_to_shape(image, height, width)
        scale = min(image.width / width, image.height / height)
        if self.crop is not None:
            scale = min(scale, self.crop / min(width, height))
        w, h = max(1, round(scale * width)), max(1, round(scale * height))
        left, top = (image.width - w) // 2, (image.height - h) // 2
        box = (left, top, left + w, top + h)
        many = -(-max(w, h) // LONGEST)
        part = np.array(image.crop(box) if many == 1 else image.reduce(many, box))
        pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
        if self.antialias:
            # PIL's own algorithm, but for a rare difference of one grey level, in half of PIL's time.
            resized = interpolate(pixels, (height, width), mode="bilinear", antialias=True)
        else:
            resized = interpolate(pixels.float(), (height, width), mode="bilinear").round_().byte()
        return resized[0].contiguous()


class Peek(NamedTuple):
    """An image file before it is framed: its shorter side, whether a grey level has more than 8 bits, its range."""

    side: int
    deep: bool
    low: float
    high: float


def is_deep(image: Image.Image) -> bool:
    """Whether an image has grey levels of more than 8 bits, whole or floating-point numbers."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")  # "I" is what PIL reads a PGM of 16 bits as


def to_rgb(image: Image.Image, window: Sequence[float] | None = None) -> Image.Image:
    """An image as RGB of 8 bits, turned as its EXIF orientation says and laid on white where it is transparent.

    Raises:
        ValueError: its values are floating-point numbers, for which no range is agreed upon, and there is no window.
    """
    if image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" and window is None:
        raise ValueError(
            "its values are floating-point numbers, of which black and white are not known: data.window=[black,white]"
        )
    if is_deep(image):
        black, white = window or DEEP
        levels = np.array(image, np.float32)  # all else in place: of a large image it takes four bytes a pixel
        levels -= black
        levels *= 255 / (white - black)
        if image.mode == "F":
            np.nan_to_num(levels, copy=False)
        np.rint(levels, out=levels)
        np.clip(levels, 0, 255, out=levels)
        image = Image.fromarray(levels.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def open_image(file: Path | str | BinaryIO, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open an image of any size; nothing of it is decoded yet.

    PIL warns of 90 megapixels and refuses 180, for the whole process; here the caller sees the size and decides.
    ``formats`` are PIL's names of those that are read, by default all, some by calling other programs. Damaged bytes
    lead PIL to nearly any exception.
    """
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def read_image(path: Path | str | BinaryIO, framing: Framing, formats: tuple[str, ...] | None = None) -> Tensor:
    """The pixels, uint8 (3, H, W), of an image file; BrokenImageError if it is absent, damaged or too large."""
    return _read(path, framing, formats)


def peek(path: Path | str) -> Peek:
    """What an image file holds; see ``read_image``."""

    def look(image: Image.Image) -> Peek:
        side = min(image.size)
        image.draft("RGB", (64, 64))  # a JPEG is decoded at an eighth of its size, which is much faster
        values = np.asarray(image if is_deep(image) else to_rgb(image))
        values = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
        return Peek(side, is_deep(image), float(values.min()), float(values.max()))

    return _read(path, look)


def _read(path: Path | str | BinaryIO, what: Callable[[Image.Image], T], formats: tuple[str, ...] | None = None) -> T:
    try:
        with open_image(path, formats) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"it is too large, {image.width}x{image.height}: of more than {MOST_PIXELS // 10**6} megapixels "
                    "make it smaller first"
                )
            return what(image)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes lead PIL's decoders to nearly every exception that there is
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error


def _pad_to_shape(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(image.width / width, image.height / height)
    if (many := -(-round(scale * max(width, height)) // LONGEST)) > 1:
        image, scale = image.reduce(many), scale / many
    w, h = max(image.width, round(scale * width)), max(image.height, round(scale * height))
    canvas = Image.new("RGB", (w, h), WHITE)
    canvas.paste(image, ((w - image.width) // 2, (h - image.height) // 2))
    return canvas
