"""The page of a run: what lies in its folder, and what is drawn of its model now."""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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
from iin_lightning.plots.charts import curves_figure
from iin_lightning.progress import track
from iin_lightning.questions import results
from iin_lightning.questions.answer import Answer, ask, learned
from iin_lightning.questions.results import measured, section
from iin_lightning.questions.subject import Subject
from iin_lightning.reporting import tables
from iin_lightning.reporting.data_card import data_rows, terms_rows
from iin_lightning.reporting.drawing import CAPTIONS, FIGURES, HELD_OUT, WALK, drawings
from iin_lightning.reporting.page import Page, Picture, Section, Table, drawn, read
from iin_lightning.runs.folder import CONFIG, CONFIG_RESUMED, PACKAGE, PROVENANCE, read_provenance
from iin_lightning.serialization import model_folder

RESPONSE = "walk"  # the analysis that says how a classifier responds to walks
RESPONDS = (
    "What the classifier says while one factor walks at random and the others stay, and how much of its output each "
    "factor explains: a factor to which it is invariant changes nothing."
)
BELIEF = (
    "What follows about these factors says nothing of the network, or not yet: a factor has learned its concept when "
    "its transfer is at least half way from chance to the bound, which reconstructions set."
)


@dataclass
class Run:
    """What is known of a run: ``why`` says why its data cannot be read, ``failed`` what else is not shown."""

    folder: Path
    network: nn.Module
    subject: Subject | None
    why: str
    outcome: dict[str, Any]
    drawn: dict[str, list[Picture]] = field(default_factory=dict)
    response: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Concepts that have a factor of their own."""
        return tuple(self.network.factors.concepts) if isinstance(self.network, Interpreter) else ()


def run_page(run: Run, analysis: Callable[[Subject], Answer], seed: int) -> Page:
    """Draw what is missing and lay all out; ``analysis`` asks how a classifier responds."""
    if run.subject is not None:
        _draw(run, run.subject, analysis, seed)
    not_shown = Section("Not shown")
    name, data = str(run.outcome.get("name") or run.folder.resolve().name), run.subject and run.subject.data
    sections = [
        _beliefs(run),
        Section(CAPTIONS["swap"][0], "", _figure(run, "swap")),
        Section("Walks", "", run.drawn.get(WALK, [])),
        Section("Response", "", run.drawn.get(RESPONSE, []), tables.analysis_tables(run.response)),
        *(Section(title, "", _figure(run, name)) for name, (title, _) in CAPTIONS.items() if name != "swap"),
        Section("Held-out images", run.why, run.drawn.get(HELD_OUT, [])),
        *_pictures_and_analyses(run, not_shown),
        Section("Metrics", "", tables=tables.test_tables(run.outcome, data.kinds if data else {})),
        Section("Evaluation", "", tables=tables.evaluation_tables(run.outcome)),
        _curves(run),
        Section("Model", "", tables=[Table([], tables.model_rows(run.network, model_folder(run.folder)))]),
        _data(run),
        _provenance(run),
        _configuration(run),
    ]
    not_shown.text = " ".join(run.failed)  # to which all other sections may have added
    foot = f"Made by {PACKAGE} {version(PACKAGE)} from {run.folder.resolve().name}."
    return Page(name, tables.lead(run.network, data.title if data else None), _tiles(run), sections, foot)


def _draw(run: Run, subject: Subject, analysis: Callable[[Subject], Answer], seed: int) -> None:
    def respond() -> list[Picture]:
        answer = ask(subject, analysis)
        run.response = results.storable(dict(answer.numbers))
        title = "Response to walks in each factor"
        return [drawn(figure, f"{title}, {of}" if of else title, RESPONDS) for of, figure in answer.figures.items()]

    steps = list(drawings(subject, {file.stem for file in (run.folder / "figures").glob("*.png")}, seed))
    answered = RESPONSE in section(run.outcome, "analysis")
    if isinstance(run.network, Interpreter) and subject.encoder.output == "logits" and not answered:
        steps.append((RESPONSE, respond))
    for kind, draw in track(steps, "Drawing"):
        try:
            run.drawn.setdefault(kind, []).extend(draw())
        except IINError as error:
            run.failed.append(f"{kind.capitalize()}: {error}")


def _beliefs(run: Run) -> Section:
    """Name the factors from which nothing is to be concluded."""
    factors, title = learned(run.outcome, run.concepts), "Not to be believed yet"
    if all(factor.believed for factor in factors.values()):
        return Section(title)
    return Section(title, BELIEF, tables=[Table([], [[name, str(factor)] for name, factor in factors.items()])])


def _figure(run: Run, name: str) -> list[Picture]:
    """Return a figure that runs draw: from the run's folder, or drawn now."""
    file = run.folder / "figures" / f"{name}.png"
    if file.is_file():
        return _read(run, [file], *CAPTIONS[name])
    return [picture for picture in run.drawn.get(FIGURES, []) if picture.title == CAPTIONS[name][0]]


def _pictures_and_analyses(run: Run, not_shown: Section) -> Iterator[Section]:
    """Yield all other pictures, then a section for each analysis with the pictures that are named after it."""
    answers = section(run.outcome, "analysis")
    others = [file for file in sorted((run.folder / "figures").glob("*.png")) if file.stem not in CAPTIONS]
    own: dict[str, list[Path]] = {name: [] for name in answers}
    for file in sorted((run.folder / "analysis").glob("*.png")):
        names = [name for name in answers if f"{file.stem}_".startswith(f"{name}_")]
        (own[max(names, key=len)] if names else others).append(file)
    yield Section("Other pictures", "", _read(run, others, text="From the folder of the run."))
    yield not_shown
    for name, numbers in answers.items():
        pictures = _read(run, own[name], text=f"Drawn by the analysis {name}.")
        yield Section(f"Analysis: {name}", "", pictures, tables.analysis_tables(numbers))


def _read(run: Run, files: Iterable[Path], title: str | None = None, text: str = "") -> list[Picture]:
    pictures = []
    for file in files:
        try:
            pictures.append(read(file, title or file.stem, text))
        except BrokenImageError as error:
            run.failed.append(f"{file.name} is no picture that can be read ({error}).")
    return pictures


def _curves(run: Run) -> Section:
    """Draw training and validation, from ``metrics.csv`` and those of earlier parts of a run that went on."""
    curves: dict[str, dict[str, dict[float, float]]] = {}
    for file in sorted(run.folder.glob("metrics*.csv"), key=lambda path: path.stat().st_mtime):
        try:
            for number, split, step, value in _points(file):
                curves.setdefault(number, {}).setdefault(split, {})[step] = value
        except csv.Error as error:
            run.failed.append(f"{file.name} cannot be read to its end ({error}).")
    if not curves:
        return Section("Training")
    lines = {number: {k: sorted(points.items()) for k, points in of.items()} for number, of in curves.items()}
    text = f"Over the steps: {', '.join(lines)}, as metrics.csv has them."
    return Section("Training", "", [drawn(curves_figure(lines), "Training curves", text)])


def _points(file: Path) -> Iterator[tuple[str, str, float, float]]:
    """Yield number, split, step and value of each cell that belongs to a curve."""
    with file.open(encoding="utf-8", newline="", errors="replace") as lines:
        for row in csv.DictReader(lines):
            for name, value in row.items():
                split, _, number = (name or "").rpartition("/")
                if split in ("train", "val") or name == "lr":
                    with suppress(TypeError, ValueError):  # an empty cell, no step, or a line that was cut off
                        yield number, split or "training", float(row.get("step") or ""), float(value)


def _data(run: Run) -> Section:
    if run.subject is None:
        return Section("Data", run.why)
    data = run.subject.data
    try:
        return Section("Data", data.title, tables=[Table([], data_rows(data))])
    except IINError as error:
        return Section("Data", f"{data.title} {error}", tables=[Table([], terms_rows(data))])


def _provenance(run: Run) -> Section:
    rows, file = tables.other_rows(run.outcome), run.folder / PROVENANCE
    rows += tables.provenance_rows(mask(read_provenance(file))) if file.is_file() else []
    return Section("Where it comes from", "", tables=[Table([], rows)] if rows else [])


def _configuration(run: Run) -> Section:
    """Quote the configuration that the run ended with, without secrets; unresolved, as it may name the environment."""
    for name in (CONFIG_RESUMED, CONFIG):
        if (file := run.folder / name).is_file():
            try:
                content = mask(OmegaConf.to_container(trust.load(file)[0], resolve=False))
                return Section("Configuration", f"All of {name}.", quote=OmegaConf.to_yaml(OmegaConf.create(content)))
            except CheckpointError as error:
                run.failed.append(mask(str(error)))
    return Section("Configuration")


def _tiles(run: Run) -> list[tuple[str, str]]:
    """Return the few numbers that say whether the model is any good."""
    metrics, network = measured(section(run.outcome, "metrics")), run.network
    if isinstance(network, Interpreter):
        dims = network.factors
        tiles = [(f"{dims.latent_dim}", f"dimensions in {len(dims)} factor{'s' * (len(dims) > 1)}")]
    else:
        tiles = [(f"{getattr(network, 'latent_dim', '?')}", "latent dimensions")]
    kinds = run.subject.data.kinds if run.subject else {}
    for concept, factor in learned(run.outcome, run.concepts).items():
        share = metrics.get(f"{results.TRANSFER}{concept}/{concept}")
        if share is not None and kinds.get(concept) == "class":
            most = f", of {factor.bound:.1%} that can be read" if isfinite(factor.bound) else ""
            tiles.append((_percent(share), f"of swaps carry the {concept} over{most}"))
    if "test/nll" in metrics and isinstance(network, Interpreter):
        tiles.append((f"{metrics['test/nll']}", "nats per dimension, test"))
    if "test/accuracy" in metrics:
        tiles.append((_percent(metrics["test/accuracy"]), "of test images read right"))
    if steps := run.outcome.get("steps"):
        tiles.append((f"{steps:,}", "training steps"))
    return tiles


def _percent(share: Measured) -> str:
    return f"{share.value:.1%}" + (f" ± {share.error:.1%}" if isfinite(share.error) else "")
