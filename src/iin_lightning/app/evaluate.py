"""The command ``evaluate``: numbers into each run's results, and a table over several."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from iin_lightning.app.measures import MEASURES, fitting, provenance
from iin_lightning.app.quiet import quiet
from iin_lightning.app.results import FILE, add
from iin_lightning.app.subject import find_runs, load_subject
from iin_lightning.errors import ConfigError, choices


def evaluate(config: DictConfig) -> None:
    """Measure every run, write the numbers down, and show them.

    Raises:
        ConfigError: there is no such metric, or it does not fit the model.
        CheckpointError: a folder holds no model.
    """
    quiet()
    for name in config.metric or ():
        if name not in MEASURES:
            raise ConfigError(f"There is no metric {name!r}; {choices(name, MEASURES)}.")
    folders = find_runs(config.run)
    found: dict[str, dict[str, float]] = {}
    for folder in folders:
        subject = load_subject(folder, config)
        of = provenance(subject)
        run = found.setdefault(str(folder), {})
        for name in config.metric or fitting(subject):
            numbers = MEASURES[name](subject, config)
            # After each metric, so that an error in the next one loses nothing.
            add(folder, "evaluation", {name: numbers | {"of": of}})
            run |= {f"{name}/{key}": value for key, value in _values(numbers).items()}
    console = Console()
    console.print(table(found))
    for folder in folders:
        console.print(f"results  {folder / FILE}", soft_wrap=True)
    if len(folders) > 1:
        for path in write_summary(found, Path(config.out)):
            console.print(f"table    {path}", soft_wrap=True)


def summarize(found: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float, int]]:
    """Mean, standard deviation (of a sample; NaN for one run) and number of runs of every number.

    Example:
        >>> summarize({"a": {"nll": 1.0}, "b": {"nll": 3.0}})
        {'nll': (2.0, 1.4142135623730951, 2)}
    """
    names = dict.fromkeys(name for numbers in found.values() for name in numbers)
    summary = {}
    for name in names:
        values = [numbers[name] for numbers in found.values() if name in numbers]
        summary[name] = (mean(values), stdev(values) if len(values) > 1 else math.nan, len(values))
    return summary


def table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """The numbers of one run, or their mean and standard deviation over several."""
    several = len(found) > 1
    title = f"{len(found)} runs: mean and standard deviation" if several else next(iter(found))
    shown = Table(title=title, title_justify="left")
    shown.add_column("number")
    shown.add_column("value", justify="right")
    for name, (average, deviation, _) in summarize(found).items():
        shown.add_row(name, f"{average:.4g} ± {deviation:.2g}" if several else f"{average:.4g}")
    return shown


def write_summary(found: Mapping[str, Mapping[str, float]], folder: Path) -> Iterable[Path]:
    """``summary.csv`` with a row a number and a column a run, ``summary.md`` with means and deviations."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize(found)
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "mean", "std", "runs", *found])
        for name, numbers in summary.items():
            writer.writerow([name, *numbers, *(run.get(name, "") for run in found.values())])
    lines = [f"Mean and standard deviation over {len(found)} runs.", "", "| number | mean | std |", "|---|---|---|"]
    lines += [f"| {name} | {average:.4g} | {deviation:.2g} |" for name, (average, deviation, _) in summary.items()]
    (folder / "summary.md").write_text("\n".join(lines) + "\n")
    return folder / "summary.csv", folder / "summary.md"


def _values(numbers: Mapping[str, Any]) -> dict[str, float]:
    values = {name: entry["value"] if isinstance(entry, dict) else entry for name, entry in numbers.items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
