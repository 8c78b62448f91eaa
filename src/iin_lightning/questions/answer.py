"""What an analysis answers, whether the factors that it concludes from are learned, and where the answer is written.

A swapped factor carries its concept over, or T has not learned it. The rule: a factor's transfer is believed if it is
at least half way from chance to its bound, which the reconstructions give. Where these are no nearer to the images than
chance is, nothing can be read from them, and no factor is believed.
"""

import csv
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import save_image

from iin_lightning.metrics.measured import Measured
from iin_lightning.metrics.transfer import CHANCE, IMAGES, RECONSTRUCTION
from iin_lightning.plots.style import footnote, save
from iin_lightning.progress import Screen
from iin_lightning.questions import results
from iin_lightning.questions.results import measured, section, transfer_scores
from iin_lightning.questions.subject import MEANS, Subject

FORMATS = ("png", "pdf")
LEARNED = "transfer_of_factors"
"""Of an answer's numbers those that say whether factors have learned their concepts."""

ENOUGH = 0.5
"""Part of the way from chance to the bound."""

NOT_YET = "not to be believed yet"


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


Analysis = Callable[[Subject], Answer]


@dataclass(frozen=True)
class Written:
    """An answer, its scalars under joined names (``changed/digit``), and its files: PNG by name, CSV."""

    answer: Answer
    numbers: dict[str, float]
    pictures: dict[str, Path]
    tables: list[Path]


@dataclass(frozen=True)
class Learned:
    """Factor transfer of a concept, in the unit of its reading; NaN where it is not known.

    Attributes:
        transfer: score when its own factor is swapped.
        bound: score of reconstructions.
        chance: score of outputs that have nothing to do with what they should show.
        images: score of the images themselves, which says on which side of chance better scores lie.
        error: standard error of the bound.

    Example:
        >>> print(Learned(0.09, 0.91, 0.1, images=0.99))
        transfer 0.09 of 0.91 (chance 0.1): not to be believed yet
        >>> Learned(0.05, 0.02, 0.3, images=0.0).believed  # distances of colours
        True
    """

    transfer: float = nan
    bound: float = nan
    chance: float = nan
    images: float = nan
    error: float = 0.0

    @property
    def known(self) -> bool:
        """Whether transfer was measured."""
        return all(map(isfinite, (self.transfer, self.bound, self.chance, self.images)))

    @property
    def believed(self) -> bool:
        """Whether conclusions from this factor are to be believed."""
        better = 1 if self.images > self.chance else -1
        way = better * (self.bound - self.chance)
        return self.known and way > 2 * self.error and better * (self.transfer - self.chance) >= ENOUGH * way

    @property
    def record(self) -> dict[str, Any]:
        """For ``results.json``."""
        numbers = {"transfer": self.transfer, "bound": self.bound, "chance": self.chance} if self.known else {}
        return numbers | {"so": "believed" if self.believed else NOT_YET if self.known else "unknown"}

    def __str__(self) -> str:
        """The numbers, and what follows."""
        if not self.known:
            return "transfer is not known"
        numbers = f"transfer {self.transfer:.2g} of {self.bound:.2g} (chance {self.chance:.2g})"
        return numbers if self.believed else f"{numbers}: {NOT_YET}"


def learned(outcome: Mapping[str, Any], concepts: Iterable[str]) -> dict[str, Learned]:
    """What ``results.json`` says of the factors of concepts: its evaluation, or else its training."""
    evaluated = measured(section(section(outcome, "evaluation"), "transfer"))
    scores = evaluated or transfer_scores(section(outcome, "metrics"))
    found = {}
    for name in concepts:
        transfer, bound, chance, images = (
            scores.get(f"{name}/{case}", Measured(nan)) for case in (name, RECONSTRUCTION, CHANCE, IMAGES)
        )
        error = bound.error if isfinite(bound.error) else 0.0
        found[name] = Learned(transfer.value, bound.value, chance.value, images.value, error)
    return found


def known(found: Mapping[str, Learned]) -> dict[str, Learned]:
    """Those of which transfer is known."""
    return {name: factor for name, factor in found.items() if factor.known}


def warn(found: Mapping[str, Learned], run: Path) -> None:
    """Print what is known of factors, if any of them is not to be believed, and how to measure what is not known."""
    if all(factor.believed for factor in found.values()):
        return
    lines = [f"{name}: {factor}" for name, factor in sorted(found.items(), key=lambda entry: entry[1].believed)]
    unknown = [name for name, factor in found.items() if not factor.known]
    if len(unknown) == len(found):
        command = shlex.join(["python", "-m", "iin_lightning.evaluate", f"run={run}", "metric=[transfer]"])
        lines.append(f"To measure transfer: {command}")
    elif unknown:
        lines.append(
            f"Nothing reads {', '.join(unknown)} from what the network gives; a probe does: 'metric=[leakage]'"
        )
    for line in lines:
        Screen().print(line, style="yellow", soft_wrap=True, highlight=False, markup=False)


def ask(subject: Subject, analysis: Analysis) -> Answer:
    """Ask a question; numbers and figures say of each factor concluded from whether it has learned its concept."""
    found = analysis(subject)
    numbers: dict[str, Any] = {"of": ", ".join(filter(None, (found.numbers.get("of"), found.latents)))}
    numbers |= {name: value for name, value in found.numbers.items() if name != "of"}
    if factors := _learned_by(subject, found.factors):
        numbers[LEARNED] = {name: factor.record for name, factor in factors.items()}
        certain = all(factor.believed for factor in factors.values())
        for figure in found.figures.values():
            footnote(figure, "; ".join(f"{name}: {factor}" for name, factor in factors.items()), alarm=not certain)
    return replace(found, numbers=numbers)


def _learned_by(subject: Subject, factors: Collection[str]) -> dict[str, Learned]:
    concepts = [name for name in factors if name in subject.interpreter.factors.concepts]
    return learned(results.read(subject.folder), concepts)


def answer(subject: Subject, name: str, analysis: Analysis) -> Written:
    """Ask a question and write down what comes of it, in place of an earlier answer of that name.

    Numbers go into ``results.json`` in ``subject.out``; figures (PNG, PDF), images and tables (CSV) into ``analysis/``
    in there, under names that begin with that of the answer.
    """
    found = ask(subject, analysis)
    warn(_learned_by(subject, found.factors), subject.folder)
    pictures: dict[str, Path] = {}
    tables: list[Path] = []
    if subject.out is not None:
        folder = subject.out / "analysis"
        folder.mkdir(parents=True, exist_ok=True)
        for title, figure in found.figures.items():
            file = called(name, title)
            pictures[file], *_ = (save(figure, folder / f"{file}.{suffix}") for suffix in FORMATS)
        for title, image in found.images.items():
            file = called(name, title)
            pictures[file] = folder / f"{file}.png"
            save_image(image.clamp(-1, 1), pictures[file], normalize=True, value_range=(-1, 1))
        tables = [_write_table(rows, folder / f"{called(name, title)}.csv") for title, rows in found.tables.items()]
        results.add(subject.out, "analysis", {name: dict(found.numbers)})
    return Written(found, scalars(found.numbers), pictures, tables)


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
