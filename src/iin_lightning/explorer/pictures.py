"""Pictures on the page: a held-out image or one that a user has uploaded, and HTML that shows them.

An uploaded picture is kept as a PNG of the model's own size, so that it can be compared, remembered and saved; C is its
number of channels and S its side in pixels.
"""

import base64
import binascii
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.errors import ConfigError

MODES = {1: "L", 3: "RGB"}
THUMBNAIL = 96  # pixels: the most that a side of an image to choose has


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
        """A picture of pixels, uint8 (C, S, S).

        Example:
            >>> pixels = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
            >>> torch.equal(Picture.of(pixels).pixels((3, 4, 4)), pixels)
            True
        """
        return cls(png=to_png(pixels))

    def pixels(self, shape: Sequence[int]) -> Tensor:
        """Those of an uploaded picture, uint8 of the shape (C, S, S) that the model reads.

        Raises:
            ConfigError: it is no PNG of that shape.
        """
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
        """Plain values that ``from_json`` reads."""
        return {"item": self.item} if self.png is None else {"png": base64.b64encode(self.png).decode()}

    @classmethod
    def from_json(cls, value: Any, count: int, shape: Sequence[int]) -> "Picture":
        """Read what ``to_json`` wrote, wherever it has been since.

        Args:
            value: of the JSON.
            count: of the held-out images.
            shape: (C, S, S) that the model reads.

        Raises:
            ConfigError: it is anything else.
        """
        if isinstance(value, dict) and set(value) == {"item"}:
            item = value["item"]
            if type(item) is not int or not 0 <= item < count:
                raise ConfigError(f"The state names image {item!r:.40}; these data have images 0 to {count - 1}.")
            return cls(item=item)
        if isinstance(value, dict) and set(value) == {"png"}:
            text = value["png"]
            if not isinstance(text, str) or len(text) > (most := most_characters(shape)):
                raise ConfigError(f"A picture of the state must be a text of at most {most:,} characters.")
            try:
                picture = cls(png=base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError) as error:
                raise ConfigError("A picture of the state is not in base64.") from error
            # Written anew, so that nothing but pixels goes on.
            return cls.of(picture.pixels(shape))
        raise ConfigError('A picture of the state is {"item": <number>} or {"png": <base64>}, and nothing else.')


def most_characters(shape: Sequence[int]) -> int:
    """Of the base64 of a PNG of (C, H, W) pixels, as ``to_png`` writes it, even of noise.

    Example:
        >>> noise = to_png(torch.randint(256, (3, 64, 64), dtype=torch.uint8))
        >>> len(base64.b64encode(noise)) < most_characters((3, 64, 64)) < 20_000
        True
    """
    channels, height, width = shape
    raw = (channels * width + 1) * height  # a row begins with a byte that names its filter
    return (raw + raw // 100 + 1000) * 4 // 3  # deflate adds 5 bytes to 16 KB of noise, PNG 12 to a part of its own


def to_pixels(image: Tensor) -> Tensor:
    """Images (..., C, H, W) in [-1, 1] as uint8, on the processor; what lies outside is cut off."""
    return ((image.detach().float().cpu().nan_to_num() + 1) * 127.5).round().clamp(0, 255).byte()


def to_png(pixels: Tensor) -> bytes:
    """The PNG of pixels, uint8 (C, H, W): the same bytes for the same pixels."""
    buffer = io.BytesIO()
    array = pixels.movedim(0, -1).numpy()
    Image.fromarray(array[..., 0] if len(pixels) == 1 else array).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def data_uri(image: Tensor) -> str:
    """An image (C, H, W) in [-1, 1] as what the ``src`` of an ``<img>`` takes."""
    return png_uri(to_png(to_pixels(image)))


def png_uri(png: bytes) -> str:
    """A PNG as what the ``src`` of an ``<img>`` takes."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def tile(image: Tensor, caption: str = "", kind: str = "") -> str:
    """HTML of an image (C, H, W) in [-1, 1] with its caption.

    Args:
        image: is enlarged, its pixels stay sharp.
        caption: below it.
        kind: "large" or "small", class names of the style sheet.
    """
    said = escape(caption)
    text = f"<figcaption>{said}</figcaption>" if caption else ""
    return f'<figure class="iin-tile {kind}"><img src="{data_uri(image)}" alt="{said}">{text}</figure>'


def row(*tiles: str, kind: str = "") -> str:
    """HTML of tiles side by side, in more rows where there is no room."""
    return f'<div class="iin-row {kind}">{"".join(tiles)}</div>'


def buttons(images: Tensor, captions: Sequence[str]) -> str:
    """HTML of images (n, C, S, S) that are clicked, made small where they are large; see ``pick``.

    Args:
        images: in [-1, 1].
        captions: shown when pointed at, and read aloud.
    """
    if (longest := max(images.shape[-2:])) > THUMBNAIL:
        small = [max(1, round(side * THUMBNAIL / longest)) for side in images.shape[-2:]]
        images = interpolate(images, small, mode="bilinear", antialias=True)
    made = [
        f'<button type="button" data-place="{place}" title="{escape(caption)}" aria-label="{escape(caption)}">'
        f'<img src="{data_uri(image)}" alt=""></button>'
        for place, (image, caption) in enumerate(zip(images, captions))
    ]
    return f'<div class="iin-gallery">{"".join(made)}</div>'


def pick(*roles: str) -> str:
    """``js_on_load`` of a ``gr.HTML`` with ``buttons`` and a prop ``chosen``: the places of those that are marked.

    The data of its event ``click`` say which ``place`` was clicked.

    Args:
        *roles: what the chosen ones are called where there are several, in the order of ``chosen``. They stand in the
            script, since gradio forgets what was a prop of a tab that has not been opened yet.
    """
    return f"const roles = {json.dumps(roles)};" + _PICK


_PICK = """
const mark = () => element.querySelectorAll('[data-place]').forEach(button => {
  const places = props.chosen ?? [], place = Number(button.dataset.place);
  const mine = roles.filter((role, i) => places[i] === place);
  button.setAttribute('aria-pressed', places.includes(place));
  button.setAttribute('aria-description', mine.join(' and '));
  button.dataset.role = mine.length > 1 ? 'both' : mine.join();
});
element.addEventListener('click', event => {
  const button = event.target.closest('[data-place]');
  if (button) trigger('click', {place: Number(button.dataset.place)});
});
watch(['value', ...Object.keys({chosen: 0})], mark);  // a word in quotes gradio takes for the name of an event
mark();
"""


def bars(
    probabilities: Tensor, names: Sequence[str], before: Tensor | None = None, most: int = 12, note: str = ""
) -> str:
    """HTML of class probabilities (C,) as bars, those of the unedited image as a mark on each.

    Args:
        probabilities: in [0, 1].
        names: of the C classes.
        before: (C,), of the image before it was edited.
        most: classes that are shown: the likeliest before and after, in the order of the classes.
        note: below them.
    """
    rank = probabilities if before is None else torch.maximum(probabilities, before)
    shown = sorted(rank.topk(min(most, len(names))).indices.tolist())
    lines = []
    for k in shown:
        value = probabilities[k].item()
        mark = "" if before is None else f'<i style="left:{100 * before[k].item():.1f}%"></i>'
        first = ' class="first"' if k == int(probabilities.argmax()) else ""
        lines.append(
            f"<dt>{escape(names[k])}</dt><dd{first}><span><b style='width:{100 * value:.1f}%'></b>{mark}</span>"
            f"<em>{100 * value:.1f} %</em></dd>"
        )
    said = f'<p class="iin-note">{escape(note)}</p>' if note else ""
    return f'<dl class="iin-bars">{"".join(lines)}</dl>{said}'
