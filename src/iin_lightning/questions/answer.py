"""What an analysis answers, and where the answer goes."""

import csv
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import save_image

from iin_lightning.plots.style import footnote, save
from iin_lightning.printing import show_files
from iin_lightning.questions import results
from iin_lightning.questions.learned import Learned, learned, warn
from iin_lightning.questions.subject import MEANS, Subject

FORMATS = ("png", "pdf")
LEARNED = "transfer_of_factors"
"""Of an answer's numbers those that say whether factors have learned their concepts."""


@dataclass(frozen=True)
class Answer:
    """What an analysis found.

    Attributes:
        numbers: plain values, nested at will, for ``results.json``.
        figures: title -> figure; "" is the main one, and files are named after the answer and the title.
        tables: title -> rows, the numbers behind the figures.
        images: title -> image (C, H, W) in [-1, 1], kept in its own size.
        latents: which ones it is of.
        factors: which ones it concludes something from.
    """

    numbers: Mapping[str, Any]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    images: Mapping[str, Tensor] = field(default_factory=dict)
    latents: str = MEANS
    factors: Collection[str] = ()


@dataclass(frozen=True)
class Written:
    """An answer, and what of it lies in a folder.

    Attributes:
        answer: all of it.
        numbers: name -> number, of those that are scalars; nested names are joined by a slash.
        pictures: name -> PNG.
    """

    answer: Answer
    numbers: dict[str, float]
    pictures: dict[str, Path]


def ask(subject: Subject, analysis: Callable[[Subject], Answer]) -> Answer:
    """Ask a model a question; numbers and figures say of each factor concluded from whether it has learned its concept.

    Args:
        subject: the model.
        analysis: the question.
    """
    found = analysis(subject)
    numbers: dict[str, Any] = {"of": ", ".join(filter(None, (found.numbers.get("of"), found.latents)))}
    numbers |= {name: value for name, value in found.numbers.items() if name != "of"}
    if known := learned_by(subject, found.factors):
        numbers[LEARNED] = {name: one.record for name, one in known.items()}
        certain = all(one.believed for one in known.values())
        for figure in found.figures.values():
            footnote(figure, "; ".join(f"{name}: {one}" for name, one in known.items()), alarm=not certain)
    return replace(found, numbers=numbers)


def learned_by(subject: Subject, factors: Collection[str]) -> dict[str, Learned]:
    """What is known of those factors that are a concept's."""
    concepts = [name for name in factors if name in subject.interpreter.factors.concepts]
    return learned(results.read(subject.folder), concepts)


def answer(subject: Subject, name: str, analysis: Callable[[Subject], Answer]) -> Written:
    """Ask a model a question and write down what comes of it.

    Numbers go into ``results.json`` in ``subject.out``; figures (PNG, PDF), images and tables (CSV) into ``analysis/``
    in there, under names that begin with that of the answer.

    Args:
        subject: the model.
        name: of the answer, which replaces an earlier one of that name.
        analysis: the question.
    """
    found = ask(subject, analysis)
    warn(learned_by(subject, found.factors), subject.folder)
    if subject.out is None:
        return Written(found, scalars(found.numbers), {})
    folder = subject.out / "analysis"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for title, figure in found.figures.items():
        file = called(name, title)
        pictures[file], *_ = (save(figure, folder / f"{file}.{suffix}") for suffix in FORMATS)
    for title, image in found.images.items():
        file = called(name, title)
        pictures[file] = folder / f"{file}.png"
        save_image(image.clamp(-1, 1), pictures[file], normalize=True, value_range=(-1, 1))
    tables = [_write_table(rows, folder / f"{called(name, title)}.csv") for title, rows in found.tables.items()]
    show_files([*(("table", table) for table in tables), *(("picture", picture) for picture in pictures.values())])
    results.add(subject.out, "analysis", {name: dict(found.numbers)})
    return Written(found, scalars(found.numbers), pictures)


def called(name: str, title: str) -> str:
    """The name of a figure or a table of an answer, and that of its file.

    Example:
        >>> called("walk", ""), called("walk", "digit")
        ('walk', 'walk_digit')
    """
    return name if title == "" else f"{name}_" + re.sub(r"[/\\]", "_", title)


def scalars(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a nested mapping, under their joined names; lists and texts are left out.

    Example:
        >>> scalars({"method": "mean", "changed": {"digit": 0.9, "per class": [0.8, 1.0]}})
        {'changed/digit': 0.9}
    """
    found: dict[str, float] = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{key}": number for key, number in scalars(value).items()}
        elif isinstance(value, int | float):
            found[name] = float(value)
    return found


def _write_table(rows: list[dict[str, Any]], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    return path
