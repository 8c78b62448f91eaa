"""The page that compares runs: their numbers side by side, a picture of each, links to their own pages."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iin_lightning.interpreter import Interpreter
from iin_lightning.questions import results
from iin_lightning.reporting import facts
from iin_lightning.reporting.page import Link, Page, Section, Table
from iin_lightning.reporting.pictures import Picture
from iin_lightning.reporting.run_page import Found


@dataclass(frozen=True)
class Entry:
    """What is compared of a run.

    Attributes:
        folder: of it.
        page: where its own page lies.
        name: its own.
        network: what kind it is.
        factors: name -> dimensions; empty where nothing interprets the network.
        numbers: all that were measured.
        training: steps, seconds and the like.
        picture: the first one on its page.
    """

    folder: Path
    page: Path
    name: str
    network: str
    factors: dict[str, int]
    numbers: dict[str, float]
    training: dict[str, Any]
    picture: Picture | None


def entry(found: Found, page: Page, file: Path) -> Entry:
    """What is kept of a run, of which there may be many, once its page is written."""
    numbers = results.values(results.section(found.outcome, "validation"))
    numbers |= results.values(results.section(found.outcome, "metrics"))
    for metric, of_metric in results.section(found.outcome, "evaluation").items():
        numbers |= results.values(
            results.named(metric, of_metric) if isinstance(of_metric, Mapping) else {metric: of_metric}
        )
    return Entry(
        found.folder,
        file,
        page.title,
        facts.kind(found.network),
        dict(found.network.factors) if isinstance(found.network, Interpreter) else {},
        numbers,
        {key: found.outcome.get(key) for key in ("seed", "steps", "seconds") if key in found.outcome},
        next((picture for section in page.sections for picture in section.pictures), None),
    )


def common_folder(folders: Iterable[Path]) -> Path:
    """The folder that all lie in, or which is one of them, resolved."""
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def comparison(entries: Sequence[Entry], folder: Path, failed: Mapping[Path, str]) -> Page:
    """The page.

    Args:
        entries: of two runs or more.
        folder: where the page will lie, from which it links to those of the runs.
        failed: folder -> why there is no page of a run.
    """
    top = common_folder(one.folder for one in entries)
    if top in {one.folder.resolve() for one in entries}:
        top = top.parent  # each then has a name of its own
    labels = [str(one.folder.resolve().relative_to(top)) for one in entries]
    rows = [
        [
            Link(label, os.path.relpath(one.page.resolve(), folder.resolve())),
            one.name,
            one.network,
            ", ".join(f"{k} {n}" for k, n in one.factors.items()) or "none",
        ]
        + [one.training.get(key, "") for key in ("seed", "steps", "seconds")]
        for label, one in zip(labels, entries)
    ]
    runs = Table(["run", "name", "network", "factors", "seed", "steps", "seconds"], rows)
    summary = results.summarize(dict(zip(labels, (one.numbers for one in entries))))
    numbers = [
        [name, average, deviation if math.isfinite(deviation) else "", *(one.numbers.get(name, "") for one in entries)]
        for name, (average, deviation, _) in summary.items()
    ]
    text = "Mean and standard deviation over the runs that have a number, then each of them."
    pictures = [
        replace(one.picture, title=f"{label}: {one.picture.title}")
        for label, one in zip(labels, entries)
        if one.picture
    ]
    sections = [
        Section("Runs", "Each has a page of its own, in its folder.", tables=[runs]),
        Section("Numbers", text, tables=[Table(["number", "mean", "deviation", *labels], numbers)] if numbers else []),
        Section("Pictures", "The first one of each page.", pictures),
        Section("Not shown", " ".join(f"{name}: {reason}" for name, reason in failed.items())),
    ]
    return Page(f"{len(entries)} runs", f"Runs below {top.name}, side by side.", [], sections, "")
