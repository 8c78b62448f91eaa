"""The command ``look``: a data set's card on the screen, its images and pairs on a sheet; or a network's layers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.columns import Columns
from rich.table import Table
from rich.text import Text
from torch import Tensor

from iin_lightning.cli.arguments import carried, user_folder
from iin_lightning.data.base import ORIGIN, Source, draw_labelled
from iin_lightning.data.module import DataModule
from iin_lightning.data.splits import SPLITS
from iin_lightning.data.stream import ConceptPairs
from iin_lightning.errors import ConfigError, choices
from iin_lightning.factors import RESIDUAL, Factors
from iin_lightning.plots.contact import Panel, contact_figure
from iin_lightning.plots.style import save
from iin_lightning.printing import quiet, show_files, show_next
from iin_lightning.progress import Screen
from iin_lightning.reporting.cards import data_rows, uncached
from iin_lightning.reporting.layers import look_at_layers
from iin_lightning.seeding import generator

CANDIDATES = 64  # pairs drawn for each that is shown, so that rare kinds are seen, too


def look(config: DictConfig) -> Path | None:
    """Print the card of the data and draw their sheet; or print the layers of a network from outside.

    Returns:
        Where the sheet is, if there is one.

    Raises:
        ConfigError: a key is out of its range.
    """
    quiet()
    if config.encoder is not None:
        look_at_layers(config)
        return None
    if config.split not in SPLITS:
        raise ConfigError(f"There is no split={config.split}; {choices(config.split, SPLITS)}.")
    if config.images < 1 or config.pairs < 0:
        raise ConfigError(f"images={config.images} must be at least 1, and pairs={config.pairs} at least 0.")
    data: DataModule = instantiate(uncached(config.data))
    source = data.source(config.split)
    figure = sheet(source, data, config.split, config.images, config.pairs, config.seed)
    path = save(figure, Path(config.out) / f"contact_{config.split}.png")
    console = Screen(highlight=False)
    console.print(Text(data.title, style="bold"))
    console.print(card(data))
    frequencies = getattr(data, "frequencies", None)
    if frequencies is not None:
        console.print("\nAttributes of all training images")
        console.print(_frequencies(frequencies(), data.concepts))
    show_files([("sheet", path)], console)
    models = ("autoencoder", "sup" if data.concepts else "unsup")
    show_next((("train", *_arguments(), f"model={model}") for model in models), "Train with", console)
    return path


def _arguments() -> list[str]:
    """Those of the command line at hand that train needs to take the same data."""
    hydra = HydraConfig.get()
    typed = [one for one in hydra.overrides.task if not one.startswith("data=")]
    return carried([f"data={hydra.runtime.choices['data']}", *typed], user_folder())


def card(data: DataModule) -> Table:
    """What a user must know about a data set, see ``data_rows``, for the screen."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in data_rows(data):
        table.add_row(Text(name), Text(value))
    return table


def sheet(source: Source, data: DataModule, split: str, n_images: int, n_pairs: int, seed: int) -> Figure:
    """Images, as many of each class, beside pairs, as many of each kind, with what they share by their labels.

    Args:
        source: the split.
        data: says what its labels mean.
        split: for the title.
        n_images: at most so many.
        n_pairs: at most so many; none where there are no concepts.
        seed: of the choice.
    """
    named = [name for name in source.concepts if name in data.classes]
    columns = [source.concepts.index(name) for name in named]
    items = evenly(source.labels[:, columns], n_images, generator(seed, "look"))
    images, labels = draw_labelled(source, items, None)
    captions = [_classes(data, named, row) for row in labels[:, columns].tolist()]
    panels = [Panel(f"Images of the {split} split", images[:, None], captions, columns=6)]
    if _concepts(source) and n_pairs:
        images, labels = draw_labelled(source, torch.cat(pairs_of_every_kind(source, n_pairs, seed)), None)
        (x_a, x_b), (labels_a, labels_b) = images.chunk(2), labels.chunk(2)
        shared = _pairs_of(source).shared(labels_a, labels_b)
        captions = [
            shared_caption(data.classes, _concepts(source), a, same, rest=rest)
            for a, (rest, *same) in zip(labels_a.tolist(), shared.tolist())
        ]
        panels.append(Panel("Pairs and what both share", torch.stack([x_a, x_b], 1), captions, columns=3))
    return contact_figure(panels)


def evenly(labels: Tensor, n: int, key: torch.Generator) -> Tensor:
    """At most n items (m,), as many of each distinct row of labels (N, K) as possible, in the order of the rows.

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
    # Of the rows that have no item in the last round, which ones is a matter of chance.
    chosen = (turn + torch.rand(len(row), generator=key)).argsort()[:n].sort().values
    return order[chosen]


def pairs_of_every_kind(source: Source, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """At most n pairs of the kind that training draws, as many of each combination of shared concepts as possible.

    Returns:
        Items a (n,) and b (n,).
    """
    pairs = _pairs_of(source)
    key = generator(seed, "look at pairs")
    a = torch.randperm(len(source), generator=key)[: n * CANDIDATES]
    b = pairs.partners(a, key)
    shared = pairs.shared(source.labels[a], source.labels[b])
    chosen = evenly(shared.long(), n, key).flip(0)
    return a[chosen], b[chosen]


def shared_caption(
    classes: Mapping[str, Sequence[str]],
    concepts: Iterable[str],
    labels: Iterable[int],
    shared: Iterable[bool],
    *,
    rest: bool = False,
) -> str:
    """What a pair shares, in words: the class of both, or that it is the same where it has no name.

    Args:
        classes: concept -> names of its classes.
        concepts: K names.
        labels: of either image.
        shared: whether those of the other are the same.
        rest: whether all that is no concept is shared, too, as of versions of one image.

    Example:
        >>> classes = {"smile": ("not smiling", "smiling")}
        >>> shared_caption(classes, ["smile", "identity"], [0, 12], [True, True])
        'not smiling, same identity'
    """
    both = [
        classes[name][k] if name in classes else f"same {name}" for name, k, s in zip(concepts, labels, shared) if s
    ]
    return ", ".join([*both, "all else"] if rest else both) or "nothing"


def _concepts(source: Source) -> tuple[str, ...]:
    return tuple(name for name in source.concepts if name != ORIGIN)


def _pairs_of(source: Source) -> ConceptPairs:
    """Pairs of all concepts."""
    concepts = _concepts(source)
    return ConceptPairs(source, Factors(dict.fromkeys((RESIDUAL, *concepts), 1), len(concepts) + 1))


def _classes(data: DataModule, concepts: Sequence[str], labels: Iterable[int]) -> str:
    """The classes of an image in words; of several attributes those that it has, if there are any."""
    words = [data.classes[name][label] for name, label in zip(concepts, labels)]
    if len(words) > 1:
        words = [word for word, name in zip(words, concepts) if word != f"not {data.classes[name][-1]}"] or words
    return ", ".join(words)


def _frequencies(shares: Mapping[str, float], asked: Iterable[str]) -> Columns:
    """All attributes that the data have, those that are concepts of this configuration in bold."""
    cells = [Text(f"{share:6.1%} {name}", style="bold" if name in asked else "") for name, share in shares.items()]
    return Columns(cells, padding=(0, 2), column_first=True)
