"""What a user uploads: bytes from anywhere, to a picture as the model reads it."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from torch import Tensor

from iin_lightning.data.framing import BrokenImageError, open_image
from iin_lightning.disk import in_units
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import Picture

MOST_BYTES = 20_000_000
MOST_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Not all that PIL knows: some of its decoders call other programs."""

# One at a time, and always the same thread: what malloc keeps for a thread is as much as its largest image has needed.
_decoder = ThreadPoolExecutor(1, thread_name_prefix="decoder")


def uploaded(content: bytes, explored: Explored) -> Picture:
    """The picture of an image file, framed as those of the model's data set.

    Raises:
        ConfigError: it is no image, or so large that it may be an attack.
    """
    return Picture.of(decoded(content, lambda file: explored.subject.read_pixels(file, FORMATS)))


def decoded(content: bytes, read: Callable[[BinaryIO], Tensor]) -> Tensor:
    """What a function reads of an image file, one at a time: decoded it may have a thousand times its bytes.

    Raises:
        ConfigError: it is no image, or too large.
    """
    check(content)
    try:
        return _decoder.submit(read, io.BytesIO(content)).result()
    except BrokenImageError as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise ConfigError(f"This image cannot be read: {reason}.") from error


def check(content: bytes) -> None:
    """See that bytes are those of an image of a size that can be decoded; nothing of it is decoded yet.

    Raises:
        ConfigError: they are not.
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
            f"This image has {width}x{height} pixels; one may have {MOST_PIXELS // 10**6} million. Make it smaller "
            "first."
        )
