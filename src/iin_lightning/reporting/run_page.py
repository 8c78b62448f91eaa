"""The page of one run: what lies in its folder, and what is drawn of its model now."""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from iin_lightning.cli import trust
from iin_lightning.cli.secrets import mask
from iin_lightning.data.framing import BrokenImageError
from iin_lightning.errors import CheckpointError, IINError
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.measured import Measured
from iin_lightning.plots.curves import curves_figure
from iin_lightning.progress import Bar
from iin_lightning.questions import results
from iin_lightning.questions.answer import Answer, learned
from iin_lightning.questions.results import measured, section
from iin_lightning.questions.subject import Subject
from iin_lightning.reporting import facts, numbers
from iin_lightning.reporting.cards import data_rows, terms_rows
from iin_lightning.reporting.drawing import (
    CAPTIONS,
    response,
    standard_figures,
    thumbnails,
    walks,
)
from iin_lightning.reporting.page import Page, Section, Table
from iin_lightning.reporting.pictures import Picture, read, vector
from iin_lightning.runs.folder import CONFIG, CONFIG_RESUMED, PACKAGE, PROVENANCE, read_provenance
from iin_lightning.serialization import model_folder

CURVES = ("train", "val")
RESPONSE = "walk"
"""The analysis of which the response of classifiers is."""


@dataclass
class Found:
    """What is known of a run.

    Attributes:
        folder: of the run, or of a bare model.
        network: its model.
        subject: the model with its data, if these could be read.
        why: the sentence that says why they could not.
        outcome: what ``results.json`` holds.
        drawn: pictures that were made now, by what they show.
        failed: what could not be drawn or read, and why.
        answers: of analyses that were asked now.
    """

    folder: Path
    network: nn.Module
    subject: Subject | None
    why: str
    outcome: dict[str, Any]
    drawn: dict[str, list[Picture]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)


def run_page(found: Found, analysis: Callable[[Subject], Answer], seed: int) -> Page:
    """Draw what is missing and lay all out.

    Args:
        found: of the run; what is drawn goes into it.
        analysis: how classifiers are walked, where no answer is there.
        seed: of the held-out images.

    Raises:
        CheckpointError: ``provenance.json`` is damaged.
    """
    _draw(found, analysis, seed)
    not_shown = Section("Not shown")
    name, data = str(found.outcome.get("name") or found.folder.resolve().name), found.subject and found.subject.data
    title = data.title.rstrip(".") if data else None
    sections = [
        _beliefs(found),
        Section(CAPTIONS["swap"][0], "", _figure(found, "swap")),
        Section("Walks", "", found.drawn.get("walks", [])),
        _response(found),
        *(Section(title, "", _figure(found, name)) for name, (title, _) in CAPTIONS.items() if name != "swap"),
        Section("Held-out images", found.why, found.drawn.get("thumbnails", [])),
        Section("Other pictures", "", list(_others(found))),
        not_shown,
        *_analyses(found),
        Section("Metrics", "", tables=numbers.test_tables(found.outcome, data.kinds if data else {})),
        Section("Evaluation", "", tables=numbers.evaluation_tables(found.outcome)),
        _curves(found),
        Section("Model", "", tables=[Table([], facts.model_rows(found.network, model_folder(found.folder)))]),
        _data(found),
        _provenance(found),
        _configuration(found),
    ]
    not_shown.text = " ".join(found.failed)  # which all others may have added to
    foot = f"Made by {PACKAGE} {version(PACKAGE)} from {found.folder.resolve().name}."
    return Page(name, facts.lead(found.network, title), _tiles(found), sections, foot)


def _draw(found: Found, analysis: Callable[[Subject], Answer], seed: int) -> None:
    subject = found.subject
    if subject is None:
        return
    figures = {path.stem for path in (found.folder / "figures").glob("*.png")}
    asked = [("figures", question) for question in standard_figures(subject, figures, seed)]
    asked += [("walks", question) for question in walks(subject, seed)]
    known = RESPONSE in section(found.outcome, "analysis")
    if isinstance(found.network, Interpreter) and subject.encoder.output == "logits" and not known:
        asked.append(("response", response(subject, analysis, partial(found.answers.__setitem__, RESPONSE))))
    asked.append(("thumbnails", thumbnails(subject, seed)))
    with Bar() as bar:
        task = bar.add_task("Drawing", total=len(asked))
        for group, question in asked:
            bar.update(task, description=f"Drawing: {question.says}")
            try:
                found.drawn.setdefault(group, []).extend(question.draw())
            except IINError as error:
                found.failed.append(f"{question.says.capitalize()}: {error}")
            bar.advance(task)


def _beliefs(found: Found) -> Section:
    """What is to be kept in mind of all that is concluded from factors."""
    concepts = found.network.factors.concepts if isinstance(found.network, Interpreter) else ()
    factors = learned(found.outcome, concepts)
    if all(one.believed for one in factors.values()):
        return Section("Not to be believed yet")
    text = (
        "What follows about these factors says nothing of the network, or not yet: a factor has learned its concept "
        "when its transfer is at least half way from chance to the bound, which reconstructions set."
    )
    return Section("Not to be believed yet", text, tables=[Table([], [[name, str(factors[name])] for name in factors])])


def _figure(found: Found, name: str) -> list[Picture]:
    """A picture that runs draw: of the run's folder, or drawn now."""
    title, text = CAPTIONS[name]
    file = found.folder / "figures" / f"{name}.png"
    if file.is_file():
        return list(_read(found, [file], lambda _: (title, text)))
    return [picture for picture in found.drawn.get("figures", []) if picture.title == title]


def _response(found: Found) -> Section:
    tables = [t for a in found.answers.values() for t in numbers.analysis_tables(results.storable(dict(a.numbers)))]
    return Section("Response", "", found.drawn.get("response", []), tables)


def _analyses(found: Found) -> Iterator[Section]:
    """A section an analysis, with the pictures whose files are named after it."""
    for name, said in section(found.outcome, "analysis").items():
        files = [file for file, owner in _owners(found).items() if owner == name]
        pictures = list(_read(found, files, lambda file: (file.stem, f"Drawn by the analysis {name}.")))  # noqa: B023
        yield Section(f"Analysis: {name}", "", pictures, numbers.analysis_tables(said))


def _owners(found: Found) -> dict[Path, str]:
    """Picture of an analysis -> the name of its answer, the longest that fits; "" where none does."""
    names = section(found.outcome, "analysis")
    files = sorted((found.folder / "analysis").glob("*.png"))
    return {
        file: max((n for n in names if file.stem == n or file.stem.startswith(f"{n}_")), key=len, default="")
        for file in files
    }


def _others(found: Found) -> Iterator[Picture]:
    files = [file for file in sorted((found.folder / "figures").glob("*.png")) if file.stem not in CAPTIONS]
    files += [file for file, owner in _owners(found).items() if not owner]
    yield from _read(found, files, lambda file: (file.stem, f"From {file.parent.name}/."))


def _read(found: Found, files: Iterable[Path], caption: Callable[[Path], tuple[str, str]]) -> Iterator[Picture]:
    for file in files:
        try:
            yield read(file, *caption(file))
        except BrokenImageError as error:
            found.failed.append(f"{file.name} is no picture that can be read ({error}).")


def _curves(found: Found) -> Section:
    """What ``metrics.csv``, and those of earlier parts of a run that went on, say of training and validation."""
    curves: dict[str, dict[str, dict[float, float]]] = {}
    for file in sorted(found.folder.glob("metrics*.csv"), key=lambda path: path.stat().st_mtime):
        try:
            for number, split, step, value in _points(file):
                curves.setdefault(number, {}).setdefault(split, {})[step] = value
        except (OSError, csv.Error) as error:
            found.failed.append(f"{file.name} cannot be read to its end ({error}).")
    if not curves:
        return Section("Training")
    lines_of = {
        number: {split or "training": sorted(points.items()) for split, points in splits.items()}
        for number, splits in curves.items()
    }
    title, text = "Training curves", f"Over the steps: {', '.join(lines_of)}, as metrics.csv has them."
    return Section("Training", "", [vector(curves_figure(lines_of), title, text)])


def _points(file: Path) -> Iterator[tuple[str, str, float, float]]:
    """Number, split, step and value of each cell that belongs to a curve."""
    with file.open(encoding="utf-8", newline="", errors="replace") as lines:
        for row in csv.DictReader(lines):
            for name, value in row.items():
                split, _, number = (name or "").rpartition("/")
                if split not in CURVES and name != "lr":
                    continue
                with suppress(TypeError, ValueError):  # an empty cell, no step, or a line that was cut off
                    yield number, split, float(row.get("step") or ""), float(value)


def _data(found: Found) -> Section:
    if found.subject is None:
        return Section("Data", found.why)
    data = found.subject.data
    try:
        rows = data_rows(data)
    except IINError as error:
        return Section("Data", f"{data.title} {error}", tables=[Table([], terms_rows(data))])
    return Section("Data", data.title, tables=[Table([], rows)])


def _provenance(found: Found) -> Section:
    rows = [[name, value] for name, value in numbers.other_rows(found.outcome)]
    file = found.folder / PROVENANCE
    rows += map(list, facts.provenance_rows(mask(read_provenance(file)))) if file.is_file() else []
    return Section("Where it comes from", "", tables=[Table([], rows)] if rows else [])


def _configuration(found: Found) -> Section:
    """The configuration that the run ended with, without secrets; not resolved, as it may name the environment."""
    for name in (CONFIG_RESUMED, CONFIG):
        file = found.folder / name
        if not file.is_file():
            continue
        try:
            said = mask(OmegaConf.to_container(trust.load(file)[0], resolve=False))
            return Section("Configuration", f"All of {name}.", quote=OmegaConf.to_yaml(OmegaConf.create(said)))
        except CheckpointError as error:
            found.failed.append(mask(str(error)))
    return Section("Configuration")


def _tiles(found: Found) -> list[tuple[str, str]]:
    """The few numbers that say whether the model is any good."""
    metrics, tiles = measured(section(found.outcome, "metrics")), []
    network = found.network
    if isinstance(network, Interpreter):
        dims = network.factors
        tiles.append((f"{dims.latent_dim}", f"dimensions in {len(dims)} factor{'s' * (len(dims) > 1)}"))
        kinds = found.subject.data.kinds if found.subject else {}
        for concept in network.factors.concepts:
            share = metrics.get(f"{results.TRANSFER}{concept}/{concept}")
            if share is not None and kinds.get(concept) == "class":
                bound = learned(found.outcome, [concept])[concept].bound
                most = f", of {bound:.1%} that can be read" if isfinite(bound) else ""
                tiles.append((_percent(share), f"of swaps carry the {concept} over{most}"))
        if "test/nll" in metrics:
            tiles.append((f"{metrics['test/nll']}", "nats per dimension, test"))
    else:
        tiles.append((f"{getattr(network, 'latent_dim', '?')}", "latent dimensions"))
    if "test/accuracy" in metrics:
        tiles.append((_percent(metrics["test/accuracy"]), "of test images read right"))
    steps, seconds = found.outcome.get("steps"), found.outcome.get("seconds")
    if isinstance(steps, int) and isinstance(seconds, int | float):
        tiles.append((f"{steps:,}", f"steps, in {_duration(seconds)}"))
    return tiles


def _percent(share: Measured) -> str:
    return f"{share.value:.1%}" + (f" ± {share.error:.1%}" if isfinite(share.error) else "")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
