"""Pictures that come from users: held-out images by their numbers, uploaded files, sketches. Bytes come from anywhere.

An uploaded picture is kept as a PNG of the model's own size, so that it can be compared, remembered and saved; C is its
number of channels and S its side in pixels. A sketch is the name of one of the project's own, or base64 of a PNG.
"""

import base64
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iin_lightning.data.framing import BrokenImageError, Framing, open_image, read_image
from iin_lightning.data.sketches import BUILT_IN, SIZE, read_sketch
from iin_lightning.disk import in_units
from iin_lightning.errors import ConfigError

MODES = {1: "L", 3: "RGB"}
MOST_BYTES = 20_000_000  # of an upload: two uncompressed pictures of 1400x1400 pixels in a saved state
MOST_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Not all that PIL knows: some of its decoders call other programs."""
URI = "data:image/png;base64,"
INK = 250  # darker pixels of a sketch are strokes
LEAST = 40  # pixels of strokes; fewer are no sketch
LEVEL = 17  # between two of 16 greys

# One at a time, and always the same thread: what malloc keeps for a thread is as much as its largest image has needed.
_decoder = ThreadPoolExecutor(1, thread_name_prefix="decoder")


@dataclass(frozen=True)
class Picture:
    """A held-out image by its number, or the PNG of an uploaded one.

    Example:
        >>> Picture(item=7).to_json()
        {'item': 7}
    """

    item: int | None = None
    png: bytes | None = None

    @classmethod
    def of(cls, pixels: Tensor) -> "Picture":
        """Return the picture of pixels, uint8 (C, S, S).

        Example:
            >>> pixels = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
            >>> torch.equal(Picture.of(pixels).pixels((3, 4, 4)), pixels)
            True
        """
        return cls(png=to_png(pixels))

    def pixels(self, shape: Sequence[int]) -> Tensor:
        """Return the pixels of an uploaded picture, uint8 of the shape (C, S, S) that the model reads."""
        channels, height, width = shape
        try:
            with Image.open(io.BytesIO(self.png or b""), formats=["PNG"]) as image:
                # Before anything is decoded: a few bytes can hold a picture that fills the memory.
                if image.size != (width, height) or image.mode != MODES.get(channels):
                    raise ConfigError(
                        f"A picture of the state has {image.width}x{image.height} pixels of {image.mode}, and this "
                        f"model reads {width}x{height} of {MODES.get(channels)}: it was saved with another model."
                    )
                array = np.array(image)
        except ConfigError:
            raise
        except Exception as error:  # damaged bytes lead PIL to nearly every exception that there is
            raise ConfigError("A picture of the state is no PNG, or damaged.") from error
        return torch.from_numpy(array).reshape(height, width, channels).movedim(-1, 0).contiguous()

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``from_json`` reads."""
        return {"item": self.item} if self.png is None else {"png": base64.b64encode(self.png).decode()}

    @classmethod
    def from_json(cls, value: Any, count: int, shape: Sequence[int]) -> "Picture":
        """Read what ``to_json`` wrote, for a model of ``count`` held-out images (C, S, S); refuse anything else."""
        if isinstance(value, dict) and set(value) == {"item"}:
            item = value["item"]
            if type(item) is not int or not 0 <= item < count:
                raise ConfigError(f"The state names image {item!r:.40}; these data have images 0 to {count - 1}.")
            return cls(item=item)
        if isinstance(value, dict) and set(value) == {"png"}:
            try:
                picture = cls(png=base64.b64decode(value["png"], validate=True))
            except (ValueError, TypeError) as error:
                raise ConfigError("A picture of the state is not in base64.") from error
            # Written anew, so that nothing but pixels goes on.
            return cls.of(picture.pixels(shape))
        raise ConfigError('A picture of the state is {"item": <number>} or {"png": <base64>}, and nothing else.')


def to_pixels(image: Tensor) -> Tensor:
    """Return images (..., C, H, W) in [-1, 1] as uint8, on the processor; what lies outside is cut off."""
    return ((image.detach().float().cpu().nan_to_num() + 1) * 127.5).round().clamp(0, 255).byte()


def to_png(pixels: Tensor) -> bytes:
    """Return the PNG of pixels, uint8 (C, H, W): the same bytes for the same pixels."""
    buffer = io.BytesIO()
    array = pixels.movedim(0, -1).numpy()
    Image.fromarray(array[..., 0] if len(pixels) == 1 else array).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def data_uri(image: Tensor) -> str:
    """Return an image (C, H, W) in [-1, 1] as what the ``src`` of an ``<img>`` takes."""
    return png_uri(to_png(to_pixels(image)))


def png_uri(png: bytes) -> str:
    """Return a PNG as what the ``src`` of an ``<img>`` takes."""
    return URI + base64.b64encode(png).decode()


def decoded(content: bytes, read: Callable[[BinaryIO], Tensor]) -> Tensor:
    """Return what a function reads of an image file, one at a time: decoded it may have a thousand times its bytes.

    Of a file that is no image, or too large, nothing is decoded: a ConfigError says so.
    """
    if len(content) > MOST_BYTES:
        raise ConfigError(f"This file has {in_units(len(content))}; an image may have {in_units(MOST_BYTES)}.")
    try:
        with open_image(io.BytesIO(content), FORMATS) as image:
            width, height = image.size
    except Exception as error:  # damaged bytes lead PIL to nearly every exception that there is
        raise ConfigError(f"This file is no image; {', '.join(FORMATS)} can be read.") from error
    if width * height > MOST_PIXELS:
        raise ConfigError(
            f"This image has {width}x{height} pixels, more than {MOST_PIXELS // 10**6} million: make it smaller first."
        )
    try:
        return _decoder.submit(read, io.BytesIO(content)).result()
    except BrokenImageError as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise ConfigError(f"This image cannot be read: {reason}.") from error


def sketch_of_upload(content: bytes) -> str:
    """Return the sketch of an image file, filled up to a square with white."""
    return to_sketch(decoded(content, lambda file: read_image(file, Framing(SIZE, pad=True), FORMATS)))


def to_sketch(pixels: Tensor) -> str:
    """Return pixels as base64 of a PNG; without colours in one channel of 16 greys, so short that a link holds it.

    Example:
        >>> len(to_sketch(read_sketch("round"))) < 12_000
        True
    """
    array = pixels.movedim(0, -1).numpy()
    if (array == array[..., :1]).all():
        array = np.round(array[..., 0] / LEVEL).astype(np.uint8) * LEVEL
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def clean_sketch(text: str) -> str:
    """Return a sketch that came from anywhere: a name as it is, a PNG written anew so that only pixels go on.

    Example:
        >>> clean_sketch("round"), clean_sketch(to_sketch(read_sketch("round"))) == to_sketch(read_sketch("round"))
        ('round', True)
    """
    if text in BUILT_IN:
        return text
    try:
        content = base64.b64decode(text.removeprefix(URI), validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (SIZE, SIZE):  # before anything is decoded
                raise ConfigError(f"A sketch has {SIZE}x{SIZE} pixels, this one {image.width}x{image.height}.")
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image.convert("RGBA"))
            pixels = torch.from_numpy(np.array(white.convert("RGB"))).movedim(-1, 0).contiguous()
    except ConfigError:
        raise
    except Exception as error:  # of base64, and nearly every exception that there is from PIL
        raise ConfigError("A sketch is no PNG in base64, or damaged.") from error
    return to_sketch(pixels)


_built_in = cache(read_sketch)  # which draws it


def sketch_pixels(text: str) -> Tensor:
    """Return the pixels, uint8 (3, S, S), of a clean sketch."""
    if text in BUILT_IN:
        return _built_in(text)
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).contiguous()


def is_blank(text: str) -> bool:
    """Say whether nothing is drawn on a clean sketch."""
    return text not in BUILT_IN and int((sketch_pixels(text).amin(0) < INK).sum()) < LEAST


def write_sketch(text: str, folder: Path, name: str) -> str | Path:
    """Return what a command is told of a clean sketch: its name, or the path of a file that is written now."""
    if text in BUILT_IN:
        return text
    path = folder / f"{name}.png"
    path.write_bytes(base64.b64decode(text))
    return path
