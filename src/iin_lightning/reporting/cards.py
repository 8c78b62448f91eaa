"""Data to be looked at: without caches, and what a user must know about them, for the screen and for a page."""

from copy import deepcopy

from omegaconf import DictConfig

from iin_lightning.data.base import Source, Split
from iin_lightning.data.module import DataModule
from iin_lightning.data.splits import SPLITS
from iin_lightning.errors import DataNotFoundError

NAMES_SHOWN = 12  # of a concept's classes

Rows = list[tuple[str, str]]


def uncached(data: DictConfig) -> DictConfig:
    """The same data, of which a few images are looked at: caches would decode or change all of them.

    Args:
        data: a configuration; if it changes the images of another data set, that is left without caches, too.

    Example:
        >>> uncached(DictConfig({"cache": "ram", "base": {"cache": "disk", "limit": 9}}))
        {'cache': 'none', 'base': {'cache': 'none', 'limit': 9}}
    """
    data = deepcopy(data)
    if "cache" in data:
        data.cache = "none"
    if "base" in data:
        data.base = uncached(data.base)
    return data


def data_rows(data: DataModule) -> Rows:
    """The card of a data set: sizes, concepts, notes and warnings, what is broken, and terms.

    Args:
        data: its images need not have been drawn, but broken ones are only known by then.

    Raises:
        DataNotFoundError: its training images are not there.
    """
    channels, height, width = data.image_shape
    rows: Rows = [("images", f"{channels}x{height}x{width}")]
    rows += [(split, _size(data, split)) for split in SPLITS]
    train = data.source("train")
    rows += [(f"concept {name}", _concept(data, train, name)) for name in data.concepts]
    if not data.concepts:
        rows.append(("concepts", "none"))
    rows += [("note", note) for note in data.notes()]
    rows += [("warning", warning) for warning in data.warnings()]
    broken = {split: n for split, n in data.broken.items() if n}
    if broken:
        found = ", ".join(f"{n:,} in {split}" for split, n in broken.items())
        rows.append(("broken", f"{found}, of those looked at; others are shown in their place"))
    return [*rows, *terms_rows(data)]


def terms_rows(data: DataModule) -> Rows:
    """What one may do with the images, which is known without them."""
    return [("licence", data.license), ("terms", data.terms)]


def _size(data: DataModule, split: Split) -> str:
    try:
        return f"{len(data.source(split)):,} images"
    except DataNotFoundError as error:
        return f"none. {error}"


def _concept(data: DataModule, source: Source, name: str) -> str:
    """The values of a concept and how frequent each is."""
    values, counts = source.labels[:, source.concepts.index(name)].unique(return_counts=True)
    fewest, most = int(counts.min()), int(counts.max())
    each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    if name not in data.classes:
        return f"{data.kinds[name]}: {len(values):,} different ones, each in {each} training images"
    names = data.classes[name]
    if len(names) > NAMES_SHOWN:
        return f"{len(names)} classes, each of {each} training images: {', '.join(names[:NAMES_SHOWN])}, ..."
    shares = [f"{names[value]} ({count / len(source):.1%})" for value, count in zip(values.tolist(), counts.tolist())]
    return f"{len(names)} classes: {', '.join(shares)}"
