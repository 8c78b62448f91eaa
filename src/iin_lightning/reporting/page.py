"""A page of tables and pictures as one HTML file that needs nothing beside it."""

import io
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from iin_lightning.data.framing import BrokenImageError
from iin_lightning.metrics.measured import Measured
from iin_lightning.plots.style import STYLE, style
from iin_lightning.serialization import write_whole

TEMPLATE = "report.html.j2"
WIDEST = 1400  # pixels of a picture: a page of a paper at the resolution of our figures
INCH = 135  # pixels of a screen, so that the letters of a figure are as large as those of the page


@dataclass(frozen=True)
class Picture:
    """A picture inside a page: ``text`` says what is to be seen, ``size`` is in pixels of a screen."""

    title: str
    text: str
    uri: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Table:
    """Rows of plain values; the first cell names the row. An empty title or text is left out."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    text: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds only numbers, which then stand below one another."""
        return [all(map(_is_number, column)) for column in zip(*self.rows)]


@dataclass
class Section:
    """A part of the page with an entry in the contents; ``quote`` is the text of a file, folded away."""

    title: str
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    quote: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.pictures or self.tables or self.quote)


@dataclass(frozen=True)
class Page:
    """A report: ``tiles`` are the few numbers that matter, each with what it is; empty sections are left out."""

    title: str
    lead: str
    tiles: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    foot: str = ""


def write(page: Page, path: Path) -> int:
    """Write a page, in which all texts are escaped, and return its size in bytes."""
    environment = Environment(
        loader=PackageLoader("iin_lightning.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    shown = replace(page, sections=[section for section in page.sections if section])
    html = environment.get_template(TEMPLATE).render(page=shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, html)
    return len(html.encode())


def link(text: str, file: str) -> Markup:
    """Return a link to a file beside the page, or below its folder; quoted, as a name may hold a colon."""
    return Markup('<a href="{}">{}</a>').format(quote(file), cell(text))


def cell(value: Any) -> Markup:
    """Return a value for a reader; a rounded number carries all of its digits.

    Example:
        >>> print(cell(0.123456), cell("<b>"), cell(None), cell(True), cell([1, 0.25]))
        <data value="0.123456">0.1235</data> &lt;b&gt; not finite yes 1, 0.25
    """
    if value is None or isinstance(value, bool):
        return Markup({None: "not finite", True: "yes", False: "no"}[value])  # results.json writes null for NaN
    if isinstance(value, Markup):
        return value
    if isinstance(value, list | tuple):
        return Markup(", ").join(map(cell, value))
    if isinstance(value, Measured) and not isnan(value.error):
        parts = zip((value.value, value.error), f"{value}".split(" ± "))
        return Markup(" <wbr>± ").join(_exact(number, shown) for number, shown in parts)
    if isinstance(value, int | float | Measured):
        number = value.value if isinstance(value, Measured) else value
        short = f"{number}" if isinstance(number, int) else f"{number:.4g}"
        return escape(short) if float(short) == number else _exact(number, short)
    # A long name may break after each part, a hash anywhere; \0 occurs in no HTML.
    text = f"{value}".replace("\0", "")
    text = re.sub(r"([^\W_]{24})(?=[^\W_])|(?<=[_/])", lambda match: f"{match[1] or ''}\0", text)
    return Markup(escape(text).replace("\0", Markup("<wbr>")))


def _exact(value: float, shown: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(value, shown)


def _is_number(value: Any) -> bool:
    """Whether a cell is a number or empty."""
    return value in (None, "") or (isinstance(value, int | float | Measured) and not isinstance(value, bool))


def drawn(figure: Figure, title: str, text: str) -> Picture:
    """Return a figure as a picture."""
    with io.BytesIO() as file, style():
        figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.04)
        return read(file, title, text)


def read(file: Path | io.BytesIO, title: str, text: str) -> Picture:
    """Read a PNG and write it anew, so that only its pixels enter the page.

    Raises:
        BrokenImageError: The file is no PNG, damaged, or so large that it may be an attack.
    """
    try:
        with Image.open(file, formats=["PNG"]) as image:  # for another format PIL might call other programs
            flat = image.convert("RGBA")
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes lead PIL's decoders to nearly every exception
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error
    shown = Image.new("RGB", flat.size, "white")
    shown.paste(flat, mask=flat)
    if shown.width > WIDEST:
        shown = shown.resize((WIDEST, max(1, round(shown.height * WIDEST / shown.width))), Image.Resampling.LANCZOS)
    with io.BytesIO() as small:
        shown.save(small, format="png", optimize=True)
        width, height = (max(1, round(side * INCH / STYLE["savefig.dpi"])) for side in shown.size)
        uri = f"data:image/png;base64,{b64encode(small.getvalue()).decode()}"
    return Picture(title, text, uri, (width, height))
