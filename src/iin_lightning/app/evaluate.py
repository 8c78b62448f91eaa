"""The command ``evaluate``: numbers into each run's results, and a table over several."""

import csv
import json
import math
import warnings
from collections.abc import Iterable, Mapping
from glob import glob
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from iin_lightning.app.measures import MEASURES, TOGETHER, fitting, provenance
from iin_lightning.app.quiet import quiet
from iin_lightning.app.ranks import is_main_process, process_group
from iin_lightning.app.results import FILE, add
from iin_lightning.app.subject import Subject, choose_device, find_runs, load_subject
from iin_lightning.errors import ConfigError, choices


def evaluate(config: DictConfig) -> None:
    """Measure every run, write the numbers down, and show them; or gather those that runs have.

    Of the processes that torchrun starts, all measure what can be shared out, and the first does the rest.

    Raises:
        ConfigError: there is no such metric, or it does not fit the model; nothing to gather.
        CheckpointError: a folder holds no model.
    """
    quiet()
    if not is_main_process():
        warnings.simplefilter("ignore")  # the first process says the same
    if config.aggregate is not None:
        aggregate(config)
        return
    for name in config.metric or ():
        if name not in MEASURES:
            raise ConfigError(f"There is no metric {name!r}; {choices(name, MEASURES)}.")
    folders, device = find_runs(config.run), choose_device(config.device)
    found: dict[str, dict[str, float]] = {str(folder): {} for folder in folders}
    together = [name for name in config.metric or () if name in TOGETHER]
    if is_main_process():
        for folder in folders:
            found[str(folder)] |= _alone(load_subject(folder, device, config), config)
    if together:
        with process_group(device):
            for folder in folders:
                subject = load_subject(folder, device, config)
                for name in together:
                    found[str(folder)] |= _measure(name, subject, config)
    if not is_main_process():
        return
    console = Console()
    console.print(table(found))
    for folder in folders:
        console.print(f"results  {folder / FILE}", soft_wrap=True)
    if len(folders) > 1:
        _write(found, config)


def aggregate(config: DictConfig) -> None:
    """Gather the numbers that stand in the results of runs, of training and of evaluation, into one table.

    Raises:
        ConfigError: runs to measure are named, too, or no run has results.
    """
    if not OmegaConf.is_missing(config, "run"):
        raise ConfigError(
            f"run={config.run} would be measured, and aggregate={config.aggregate} only gathered: leave one out."
        )
    if not is_main_process():
        return
    console = Console()
    found: dict[str, dict[str, float]] = {}
    for folder in sorted(path for path in map(Path, glob(config.aggregate)) if path.is_dir()):
        if not (folder / FILE).is_file():
            console.print(f"left out {folder}: it has no {FILE}", soft_wrap=True, style="yellow")
            continue
        outcome = json.loads((folder / FILE).read_text())
        found[str(folder)] = _values(outcome.get("metrics", {}))
        for name, numbers in outcome.get("evaluation", {}).items():
            found[str(folder)] |= _named(name, numbers)
    if not found:
        raise ConfigError(f"aggregate={config.aggregate} fits no folder with {FILE}: name finished runs, by a pattern.")
    console.print(table(found))
    _write(found, config)


def summarize(found: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float, int]]:
    """Mean, standard deviation (of a sample; NaN for one run, or where a number is not finite) and number of runs.

    Example:
        >>> summarize({"a": {"nll": 1.0}, "b": {"nll": 3.0}})
        {'nll': (2.0, 1.4142135623730951, 2)}
    """
    names = dict.fromkeys(name for numbers in found.values() for name in numbers)
    summary = {}
    for name in names:
        values = [numbers[name] for numbers in found.values() if name in numbers]
        varied = len(values) > 1 and all(map(math.isfinite, values))
        summary[name] = (mean(values), stdev(values) if varied else math.nan, len(values))
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


def _alone(subject: Subject, config: DictConfig) -> dict[str, float]:
    """What is done before the processes meet, for what trains or computes among several would wait for the others."""
    found: dict[str, float] = {}
    for name in config.metric or fitting(subject, config):
        if name in TOGETHER:
            TOGETHER[name](subject, config)
        else:
            found |= _measure(name, subject, config)
    return found


def _measure(name: str, subject: Subject, config: DictConfig) -> dict[str, float]:
    numbers = MEASURES[name](subject, config)
    if is_main_process():
        # After each metric, so that an error in the next one loses nothing.
        add(subject.folder, "evaluation", {name: numbers | {"of": provenance(subject)}})
    return _named(name, numbers)


def _write(found: Mapping[str, Mapping[str, float]], config: DictConfig) -> None:
    for path in write_summary(found, Path(config.out)):
        Console().print(f"table    {path}", soft_wrap=True)


def _named(metric: str, numbers: Mapping[str, Any]) -> dict[str, float]:
    return {f"{metric}/{name}": value for name, value in _values(numbers).items()}


def _values(numbers: Mapping[str, Any]) -> dict[str, float]:
    values = {name: entry.get("value") if isinstance(entry, dict) else entry for name, entry in numbers.items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
