"""Pictures that travel inside a page: PNG or SVG as data URIs, made smaller where the page has to be."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from iin_lightning.data.framing import BrokenImageError
from iin_lightning.plots.style import STYLE, style

WIDEST = 1400  # pixels: a page of a paper at the resolution of our figures
COLORS = 256
INCH = 135  # pixels of a screen, so that the letters of a figure are as large as those of a page


@dataclass(frozen=True)
class Picture:
    """A picture with what a reader must know of it.

    Attributes:
        title: above.
        text: what is to be seen, below, and for those who cannot see it.
        data: of the file.
        mime: image/png or image/svg+xml.
        size: pixels of a screen across and down, see ``INCH``.
    """

    title: str
    text: str
    data: bytes
    mime: str
    size: tuple[int, int]

    @property
    def uri(self) -> str:
        """The whole picture as an address."""
        return f"data:{self.mime};base64,{b64encode(self.data).decode()}"


def raster(figure: Figure, title: str, text: str) -> Picture:
    """A figure with images in it, as PNG."""
    with io.BytesIO() as file, style():
        figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.04)
        return read(file, title, text)


def vector(figure: Figure, title: str, text: str) -> Picture:
    """A figure of lines and letters, as SVG; it holds no script and is shown as an image, which would run none."""
    with io.BytesIO() as file, style():
        figure.savefig(file, format="svg", metadata={"Date": None})
        width, height = figure.get_size_inches() * INCH
        return Picture(title, text, file.getvalue(), "image/svg+xml", (round(width), round(height)))


def read(file: Path | io.BytesIO, title: str, text: str) -> Picture:
    """A picture of a PNG, written anew, so that nothing but its pixels goes on.

    Raises:
        BrokenImageError: it is none, damaged, or so large that it may be an attack.
    """
    try:
        with Image.open(file, formats=["PNG"]) as image:  # of another format PIL might call other programs
            flat = image.convert("RGBA")
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes lead PIL's decoders to nearly every exception that there is
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error
    shown = Image.new("RGB", flat.size, "white")
    shown.paste(flat, mask=flat)
    return _written(_narrow(shown, WIDEST), title, text)


def smaller(picture: Picture, part: float) -> Picture:
    """The same in fewer colours, and so much narrower; a picture of lines as it is."""
    if picture.mime != "image/png":
        return picture
    with Image.open(io.BytesIO(picture.data)) as image:
        shown = image.convert("RGB")
    few = _narrow(shown, max(1, round(part * shown.width))).quantize(COLORS, dither=Image.Dither.NONE)
    made = _written(few, picture.title, picture.text)
    return made if len(made.data) < len(picture.data) else picture


def _narrow(image: Image.Image, width: int) -> Image.Image:
    if image.width <= width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _written(image: Image.Image, title: str, text: str) -> Picture:
    with io.BytesIO() as file:
        image.save(file, format="png", optimize=True)
        width, height = (max(1, round(side * INCH / STYLE["savefig.dpi"])) for side in image.size)
        return Picture(title, text, file.getvalue(), "image/png", (width, height))
