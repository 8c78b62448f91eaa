"""Sketches of a user, and what images look like in their strokes.

A sketch is one of the project's own, by its name, or pixels, uint8 (3, S, S), that a user has drawn or uploaded.
"""

import base64
import binascii
import io
import threading
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iin_lightning.data.framing import Framing, read_image
from iin_lightning.data.images import to_range
from iin_lightning.data.sketches import BUILT_IN, SIZE, read_sketch
from iin_lightning.data.stylize import Stylize, Stylizer
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.alone import alone
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import Picture, png_uri, to_png
from iin_lightning.explorer.uploads import FORMATS, decoded

URI = "data:image/png;base64,"
INK = 250  # darker pixels are strokes
LEAST = 40  # pixels of strokes; fewer are no sketch
LEVEL = 17  # between two of 16 greys
KEPT = 256  # stylised images


def from_upload(content: bytes) -> str:
    """The sketch of an image file, filled up to a square with white; see ``to_text``.

    Raises:
        ConfigError: it is no image, or too large.
    """
    return to_text(decoded(content, lambda file: read_image(file, Framing(SIZE, pad=True), FORMATS)))


def to_text(pixels: Tensor) -> str:
    """Pixels as base64 of a PNG; of a sketch without colours in one channel of 16 greys, so short that a link holds it.

    Example:
        >>> len(to_text(read_sketch("round"))) < 12_000
        True
    """
    array = pixels.movedim(0, -1).numpy()
    if (array == array[..., :1]).all():
        array = np.round(array[..., 0] / LEVEL).astype(np.uint8) * LEVEL
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def clean(text: str) -> str:
    """A sketch that came from anywhere: a name as it is, or base64 of a PNG, written anew so that only pixels go on.

    Raises:
        ConfigError: it is neither, or has another size.

    Example:
        >>> clean("round"), clean(to_text(read_sketch("round"))) == to_text(read_sketch("round"))
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
    except (binascii.Error, ValueError) as error:
        raise ConfigError("A sketch is not in base64.") from error
    except Exception as error:  # damaged bytes lead PIL to nearly every exception that there is
        raise ConfigError("A sketch is no PNG, or damaged.") from error
    return to_text(pixels)


def pixels_of(text: str) -> Tensor:
    """The pixels, uint8 (3, S, S), of a clean sketch."""
    if text in BUILT_IN:
        return read_sketch(text)
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).contiguous()


def uri_of(text: str) -> str:
    """A clean sketch as what the ``src`` of an ``<img>`` takes."""
    return png_uri(to_png(pixels_of(text)))


def is_blank(text: str) -> bool:
    """Whether there is nothing on a clean sketch."""
    return text not in BUILT_IN and int((pixels_of(text).amin(0) < INK).sum()) < LEAST


def write(text: str, folder: Path, name: str) -> str:
    """What a command is told of a clean sketch: its name, or the path of a file that is written now."""
    if text in BUILT_IN:
        return text
    path = folder / f"{name}.png"
    path.write_bytes(base64.b64decode(text))
    return str(path)


class Examples:
    """Images in the strokes of sketches; the latest are remembered.

    Args:
        stylizer: what paints.
    """

    def __init__(self, stylizer: Stylizer) -> None:
        self.stylizer = stylizer
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, int], Tensor] = OrderedDict()

    def painted(self, explored: Explored, item: int, sketch: str) -> Tensor:
        """A held-out image (3, S, S) in [-1, 1] in the strokes of a clean sketch.

        Raises:
            ChangeError: the model's images have no three channels.
        """
        key = (explored.fingerprint, sha256(sketch.encode()).hexdigest(), item)
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        made = self._paint(explored, item, sketch)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    @alone
    def _paint(self, explored: Explored, item: int, sketch: str) -> Tensor:
        change = Stylize(self.stylizer, "round")
        change.style = to_range(pixels_of(sketch))[None]
        pixels = ((explored.image(Picture(item=item)) + 1) * 127.5).round().clamp(0, 255).byte()
        return to_range(change(pixels))
