"""A page of tables and pictures as one HTML file that needs nothing beside it, and is small enough to be sent."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from iin_lightning.disk import in_units
from iin_lightning.errors import ConfigError
from iin_lightning.metrics.measured import Measured
from iin_lightning.reporting.pictures import Picture, smaller
from iin_lightning.serialization import write_whole

LIMIT = 5_000_000
"""Bytes of a page: more is refused by mail programs and slow over a line."""

STEPS = (1.0, 0.75, 0.55, 0.4, 0.3, 0.2)
"""Widths of pictures that are tried, in parts of their own, all in fewer colours."""

TEMPLATE = "report.html.j2"


class Link(NamedTuple):
    """A file that lies beside the page, or below its folder."""

    text: str
    file: str


class Interval(NamedTuple):
    """A number between its bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """Rows of plain values.

    Attributes:
        head: titles of the columns.
        rows: a cell a column; the first names the row.
        title: above; "" for none.
        text: what the numbers are of; "" for nothing.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    text: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds nothing but numbers, which then stand below one another."""
        return [all(_is_number(row[i]) for row in self.rows) for i in range(len(self.rows[0]) if self.rows else 0)]


@dataclass
class Section:
    """A part of the page, with an entry in the list of contents.

    Attributes:
        title: of it.
        text: what the reader sees here.
        pictures: first.
        tables: after them.
        quote: a text as it stands in a file, folded away; "" for none.
    """

    title: str
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    quote: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.pictures or self.tables or self.quote)


@dataclass(frozen=True)
class Page:
    """All of it.

    Attributes:
        title: of the page.
        lead: what is shown, in a sentence or two.
        tiles: (number, what it is), the few that matter.
        sections: empty ones are left out.
        foot: where the page comes from.
        note: what was done to make it fit.
    """

    title: str
    lead: str
    tiles: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    foot: str
    note: str = ""


def write(page: Page, path: Path) -> int:
    """Write a page.

    Returns:
        How many bytes it has.

    Raises:
        ConfigError: it cannot be made small enough, or not be written there.
    """
    html = render_within(page, LIMIT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, html)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): name another file, out=<file>.") from error
    return len(html.encode())


def render_within(page: Page, limit: int) -> str:
    """The HTML of a page, with pictures as large as so many bytes allow.

    Raises:
        ConfigError: its tables alone are more.
    """
    html = render(page)
    for part in STEPS:
        if len(html.encode()) < limit:
            return html
        html = render(_shrunk(page, part, limit))
    if len(html.encode()) >= limit:
        html = render(_without_last(_shrunk(page, STEPS[-1], limit), limit))
    if len(html.encode()) >= limit:
        raise ConfigError(
            f"The tables alone make a page of {in_units(len(html.encode()))}, and {in_units(limit)} are allowed: "
            "report fewer runs at once, or move large analyses out of results.json."
        )
    return html


def render(page: Page) -> str:
    """The HTML of a page; all texts in it are escaped."""
    environment = Environment(
        loader=PackageLoader("iin_lightning.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    shown = replace(page, sections=[section for section in page.sections if section])
    return environment.get_template(TEMPLATE).render(page=shown)


def cell(value: Any) -> Markup:
    """A value for a reader; behind a rounded number stands all of it.

    Example:
        >>> print(cell(0.123456), cell("<b>"), cell(None), cell(True), cell([1, 0.25]))
        <data value="0.123456">0.1235</data> &lt;b&gt; not finite yes 1, 0.25
    """
    if value is None or isinstance(value, bool):
        return Markup({None: "not finite", True: "yes", False: "no"}[value])  # null: as results.json writes NaN
    if isinstance(value, Interval):
        return Markup("{} <wbr>({}\u00a0to\u00a0{})").format(*map(cell, value))
    if isinstance(value, Link):
        # Quoted, a name with a colon is a file, too.
        return Markup('<a href="{}">{}</a>').format(quote(value.file), cell(value.text))
    if isinstance(value, list | tuple):
        return Markup(", ").join(map(cell, value))
    if isinstance(value, int | float | Measured):
        return _rounded(value)
    # Long names may be broken after a part of them, hashes anywhere; \0 is in no HTML.
    broken = re.sub(
        r"([^\W_]{24})(?=[^\W_])|(?<=[_/])", lambda match: f"{match[1] or ''}\0", str(value).replace("\0", "")
    )
    return Markup(escape(broken).replace("\0", Markup("<wbr>")))


def _rounded(value: float | Measured) -> Markup:
    if isinstance(value, Measured):
        shown = [_behind(*part) for part in zip((value.value, value.error), f"{value}".split(" ± "))]
        return _rounded(value.value) if isnan(value.error) else Markup(" <wbr>± ").join(shown)
    short = f"{value}" if isinstance(value, int) else f"{value:.4g}"
    return escape(short) if float(short) == value else _behind(value, short)


def _behind(value: float, shown: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(value, shown)


def _is_number(value: Any) -> bool:
    """Or nothing, where there is none."""
    numbers = int | float | Interval | Measured
    return value in (None, "") or (isinstance(value, numbers) and not isinstance(value, bool))


def _shrunk(page: Page, part: float, limit: int) -> Page:
    sections = [
        replace(section, pictures=[smaller(picture, part) for picture in section.pictures]) for section in page.sections
    ]
    size = "" if part == 1 else f" and {part:.0%} of their width"
    note = f"Pictures are shown in fewer colours{size}, so that this page stays below {in_units(limit)}."
    return replace(page, sections=sections, note=note)


def _without_last(page: Page, limit: int) -> Page:
    """With as many of the pictures as there is room for, the first ones."""
    count = sum(len(section.pictures) for section in page.sections)
    too_many = bisect_left(range(count), limit, key=lambda kept: len(render(_first(page, kept)).encode()))
    return _first(page, max(too_many - 1, 0))


def _first(page: Page, kept: int) -> Page:
    """With so many of its pictures."""
    sections, left = [], kept
    for section in page.sections:
        sections.append(replace(section, pictures=section.pictures[:left]))
        left = max(left - len(section.pictures), 0)
    gone = sum(len(section.pictures) for section in page.sections) - kept
    note = f"{page.note} {gone} picture{'s have' if gone > 1 else ' has'} no room at all: see the folder of the run."
    return replace(page, sections=sections, note=note)
