"""The command ``report``: a page for each run and a page that compares several, or a workspace at W&B."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli import trust
from iin_lightning.cli.refusals import sentence
from iin_lightning.cli.secrets import mask
from iin_lightning.disk import check_writable, in_units
from iin_lightning.errors import ConfigError, IINError, choices
from iin_lightning.interpreter import Interpreter
from iin_lightning.printing import file_line, quiet
from iin_lightning.progress import Screen
from iin_lightning.questions import results
from iin_lightning.questions.subject import load_model
from iin_lightning.reporting import tables
from iin_lightning.reporting.page import Page, Picture, Section, Table, link, write
from iin_lightning.reporting.run_page import Run, run_page
from iin_lightning.reporting.workspace import to_wandb
from iin_lightning.runs.folder import CONFIG
from iin_lightning.runs.locate import choose_device, find_runs, load_subject

FILE = "report.html"


@dataclass(frozen=True)
class Entry:
    """What is compared of a run: its page, facts, numbers and first picture."""

    folder: Path
    page: Path
    facts: list[Any]
    numbers: dict[str, float]
    picture: Picture | None


def report(config: DictConfig) -> None:
    """Report to where the configuration says.

    Raises:
        ConfigError: The place is unknown, or cannot be reached.
    """
    places = {"html": to_html, "wandb": to_wandb}
    if config.to not in places:
        raise ConfigError(f"There is no report to={config.to}; {choices(config.to, places)}.")
    places[config.to](config)


def to_html(config: DictConfig) -> None:
    """Write ``report.html`` into the folder of each run; of several, also above them a page that compares them.

    Raises:
        ConfigError: No run is named, or a page cannot be written.
        CheckpointError: A folder holds no model, or a damaged file.
        IINError: Some of several runs have such a fault; the others have their pages.
    """
    quiet()
    trust.take(config)
    if config.run is None:
        raise ConfigError("No run is named: say run=<run folder>; a pattern in quotes names several.")
    folders, device = find_runs(config.run), choose_device(config.device)
    analysis, out = instantiate(config.response), config.out and Path(config.out)
    entries, failed = [], {}
    for folder in folders:
        try:
            file = out if out and len(folders) == 1 else folder / FILE
            check_writable(file.parent, "Reports", "name another file, out=<file>")
            run = _find(folder, device, config)
            page = run_page(run, analysis, config.seed)
            _write(page, file)
            entries.append(_entry(run, page, file))
        except IINError as error:
            if len(folders) == 1:
                raise
            failed[folder] = str(error)
    if len(entries) > 1:
        # Above all runs, where no run has its own page.
        top = Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
        file = out or top / FILE
        _write(comparison(entries, top, file.parent, failed), file)
    if failed:
        reasons = "".join(f"\n{folder}: {reason}" for folder, reason in failed.items())
        raise IINError(f"{len(failed)} of {len(folders)} runs have no page.{reasons}")


def _find(folder: Path, device: torch.device, config: DictConfig) -> Run:
    """Load a run with its data, or without where they are on another machine, or of another version."""
    outcome, why = results.read(folder), "No data are known: data=<data set> names them."
    if config.data is not None or (folder / CONFIG).is_file():
        try:
            subject = load_subject(folder, device, config, caches=False)
            subject.data.source("test")
            return Run(folder, subject.network, subject, "", outcome)
        except (IINError, HydraException, OmegaConfBaseException) as error:
            why = mask(" ".join(str(sentence(error) or error).split()))
    network = load_model(folder).to(device).eval()
    return Run(folder, network, None, f"There are no images here, so nothing new was drawn of them. {why}", outcome)


def _write(page: Page, file: Path) -> None:
    size = write(page, file)
    Screen().print(file_line("report", file, f"({in_units(size)})"), soft_wrap=True)


def _entry(run: Run, page: Page, file: Path) -> Entry:
    numbers = results.values(results.section(run.outcome, "validation"))
    numbers |= results.values(results.section(run.outcome, "metrics"))
    for metric, of_metric in results.section(run.outcome, "evaluation").items():
        numbers |= results.values(results.named(metric, of_metric))
    dims = run.network.factors if isinstance(run.network, Interpreter) else {}
    factors = ", ".join(f"{name} {dim}" for name, dim in dims.items()) or "none"
    facts = [page.title, tables.kind(run.network), factors]
    facts += [run.outcome.get(key, "") for key in ("seed", "steps", "seconds")]
    pictures = (picture for section in page.sections for picture in section.pictures)
    return Entry(run.folder, file, facts, numbers, next(pictures, None))


def comparison(entries: Sequence[Entry], top: Path, folder: Path, failed: Mapping[Path, str]) -> Page:
    """Lay runs below ``top`` side by side, linked from ``folder`` to their own pages.

    ``failed`` says why a run has no page.
    """
    labels = [str(entry.folder.resolve().relative_to(top)) for entry in entries]
    links = [link(label, os.path.relpath(e.page.resolve(), folder.resolve())) for label, e in zip(labels, entries)]
    rows = [[name, *entry.facts] for name, entry in zip(links, entries)]
    runs = Table(["run", "name", "network", "factors", "seed", "steps", "seconds"], rows)
    summary = results.summarize({label: entry.numbers for label, entry in zip(labels, entries)})
    numbers = [
        [name, mean, spread if math.isfinite(spread) else "", *(entry.numbers.get(name, "") for entry in entries)]
        for name, (mean, spread, _) in summary.items()
    ]
    text = "Mean and standard deviation over the runs that have a number, then each of them."
    named = zip(labels, (entry.picture for entry in entries))
    pictures = [replace(picture, title=f"{label}: {picture.title}") for label, picture in named if picture]
    sections = [
        Section("Runs", "Each has a page of its own, in its folder.", tables=[runs]),
        Section("Numbers", text, tables=[Table(["number", "mean", "deviation", *labels], numbers)] if numbers else []),
        Section("Pictures", "The first one of each page.", pictures),
        Section("Not shown", " ".join(f"{name}: {reason}" for name, reason in failed.items())),
    ]
    return Page(f"{len(entries)} runs", f"Runs below {top.name}, side by side.", [], sections)
