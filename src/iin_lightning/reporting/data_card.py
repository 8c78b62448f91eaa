"""A data set's card: what a user must know about it as rows, and a sheet of its images and pairs."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.data.base import ORIGIN, Source, Split, draw_labelled
from iin_lightning.data.module import DataModule
from iin_lightning.data.splits import SPLITS
from iin_lightning.data.stream import ConceptPairs
from iin_lightning.errors import DataNotFoundError
from iin_lightning.factors import RESIDUAL, Factors
from iin_lightning.plots.contact import Panel, contact_figure
from iin_lightning.seeding import generator

NAMES_SHOWN = 12  # of a concept's classes
CANDIDATES = 64  # pairs drawn for each pair on the sheet, so that rare kinds are shown

Rows = list[tuple[str, str]]
"""Names and values of a card."""


def data_rows(data: DataModule) -> Rows:
    """Return the card of a data set: sizes, concepts, notes and warnings, broken images, and terms.

    Broken images are counted while images are drawn, so draw the sheet first.

    Raises:
        DataNotFoundError: The training images are missing.
    """
    rows: Rows = [("images", "x".join(map(str, data.image_shape)))]
    rows += [(split, _size(data, split)) for split in SPLITS]
    train = data.source("train")
    rows += [(f"concept {name}", _concept(data, train, name)) for name in data.concepts] or [("concepts", "none")]
    rows += [("note", note) for note in data.notes()]
    rows += [("warning", warning) for warning in data.warnings()]
    if broken := ", ".join(f"{n:,} in {split}" for split, n in data.broken.items() if n):
        rows.append(("broken", f"{broken}, of those looked at; others are shown in their place"))
    return [*rows, *terms_rows(data)]


def terms_rows(data: DataModule) -> Rows:
    """Return licence and terms, which are known without the images."""
    return [("licence", data.license), ("terms", data.terms)]


def _size(data: DataModule, split: Split) -> str:
    try:
        return f"{len(data.source(split)):,} images"
    except DataNotFoundError as error:
        return f"none. {error}"


def _concept(data: DataModule, source: Source, name: str) -> str:
    """Describe the values of a concept and how frequent each is."""
    values, counts = source.labels[:, source.concepts.index(name)].unique(return_counts=True)
    fewest, most = int(counts.min()), int(counts.max())
    each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    if name not in data.classes:
        return f"{data.kinds[name]}: {len(values):,} different values, each in {each} training images"
    names = data.classes[name]
    if len(names) > NAMES_SHOWN:
        return f"{len(names)} classes, each of {each} training images: {', '.join(names[:NAMES_SHOWN])}, ..."
    shares = [f"{names[value]} ({count / len(source):.1%})" for value, count in zip(values.tolist(), counts.tolist())]
    return f"{len(names)} classes: {', '.join(shares)}"


def sheet(source: Source, data: DataModule, split: str, n_images: int, n_pairs: int, seed: int) -> Figure:
    """Draw at most n_images of a split, as many of each class, beside at most n_pairs with what they share."""
    named = [name for name in source.concepts if name in data.classes]
    columns = [source.concepts.index(name) for name in named]
    items = evenly(source.labels[:, columns], n_images, generator(seed, "look"))
    images, labels = draw_labelled(source, items, None)
    captions = [_classes(data, named, row) for row in labels[:, columns].tolist()]
    panels = [Panel(f"Images of the {split} split", images[:, None], captions, columns=6)]
    concepts = _concepts(source)
    if concepts and n_pairs:
        images, labels = draw_labelled(source, torch.cat(pairs_of_every_kind(source, n_pairs, seed)), None)
        (x_a, x_b), (labels_a, labels_b) = images.chunk(2), labels.chunk(2)
        shared = _pairs_of(source).shared(labels_a, labels_b)
        captions = [
            shared_caption(data.classes, dict(zip(concepts, of_a)), same)
            for of_a, same in zip(labels_a.tolist(), shared.tolist())
        ]
        panels.append(Panel("Pairs and what both share", torch.stack([x_a, x_b], 1), captions, columns=3))
    return contact_figure(panels)


def evenly(labels: Tensor, n: int, key: torch.Generator) -> Tensor:
    """Choose at most n items (m,), as many of each distinct row of labels (N, K) as possible, in the order of the rows.

    Example:
        >>> labels = torch.tensor([[0], [0], [0], [0], [1], [2], [2]])
        >>> labels[evenly(labels, 5, torch.Generator()), 0].tolist()
        [0, 0, 1, 2, 2]
    """
    order = torch.randperm(len(labels), generator=key)
    _, row = labels.unique(dim=0, return_inverse=True) if labels.numel() else (None, torch.zeros(len(labels)).long())
    order = order[row[order].argsort(stable=True)]
    sizes = row.bincount()
    turn = torch.arange(len(row)) - (sizes.cumsum(0) - sizes)[row[order]]  # of an item, within its row
    # Which rows have an item more than others is a matter of chance.
    chosen = (turn + torch.rand(len(row), generator=key)).argsort()[:n].sort().values
    return order[chosen]


def pairs_of_every_kind(source: Source, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose at most n training pairs, items a (n,) and b (n,), as many of each combination of shared concepts."""
    pairs = _pairs_of(source)
    key = generator(seed, "look at pairs")
    a = torch.randperm(len(source), generator=key)[: n * CANDIDATES]
    b = pairs.partners(a, key)
    shared = pairs.shared(source.labels[a], source.labels[b])
    chosen = evenly(shared.long(), n, key).flip(0)
    return a[chosen], b[chosen]


def shared_caption(classes: Mapping[str, Sequence[str]], labels: Mapping[str, int], shared: Sequence[bool]) -> str:
    """Say what a pair shares of the residual and each labelled concept: its class, or "same" where it has no names.

    Example:
        >>> classes, labels = {"smile": ("not smiling", "smiling")}, {"smile": 0, "identity": 12}
        >>> shared_caption(classes, labels, [False, True, True]), shared_caption(classes, labels, [True, False, True])
        ('not smiling, same identity', 'same identity, all else')
    """
    rest, *same = shared
    both = [classes[name][k] if name in classes else f"same {name}" for (name, k), s in zip(labels.items(), same) if s]
    return ", ".join([*both, "all else"] if rest else both) or "nothing"


def _concepts(source: Source) -> tuple[str, ...]:
    return tuple(name for name in source.concepts if name != ORIGIN)


def _pairs_of(source: Source) -> ConceptPairs:
    concepts = _concepts(source)
    return ConceptPairs(source, Factors(dict.fromkeys((RESIDUAL, *concepts), 1), len(concepts) + 1))


def _classes(data: DataModule, concepts: Sequence[str], labels: Iterable[int]) -> str:
    """Name the classes of an image; of several attributes those that it has, if it has any."""
    words = [data.classes[name][label] for name, label in zip(concepts, labels)]
    if len(words) > 1:
        words = [word for word, name in zip(words, concepts) if word != f"not {data.classes[name][-1]}"] or words
    return ", ".join(words)
