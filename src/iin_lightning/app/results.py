"""What a run found: ``results.json`` in its folder, a table on the screen."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

FILE = "results.json"
TRANSFER = "test/transfer/"


def write(outcome: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``."""
    (folder / FILE).write_text(json.dumps(outcome, indent=2) + "\n")


def add(folder: Path, section: str, numbers: Mapping[str, Any]) -> None:
    """Add to a section of a folder's ``results.json``, which need not be there; null stands for NaN and infinity."""
    file = folder / FILE
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    found[section] = found.get(section, {}) | _plain(dict(numbers))
    file.write_text(json.dumps(found, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(outcome: dict[str, Any], folder: Path) -> None:
    """Print the metrics, the paths of the pictures and the model's folder."""
    console = Console()
    metrics: dict[str, float] = outcome["metrics"]
    plain = Table(title=f"{outcome['name']}: test split", title_justify="left")
    plain.add_column("metric")
    plain.add_column("value", justify="right")
    for name, value in metrics.items():
        if not name.startswith(TRANSFER):
            plain.add_row(name.removeprefix("test/"), f"{value:.4g}")
    console.print(plain)
    transfer = {k.removeprefix(TRANSFER): v for k, v in metrics.items() if k.startswith(TRANSFER)}
    if transfer:
        console.print(transfer_table(transfer))
    for figure in outcome.get("figures", []):
        console.print(f"picture  {figure}", soft_wrap=True)
    console.print(f"model    {folder / 'model'}\nresults  {folder / FILE}", soft_wrap=True)


def transfer_table(scores: dict[str, float]) -> Table:
    """Rows: what was swapped. Columns: how each concept is read from the result.

    Args:
        scores: ``{concept}/{swapped factor}`` -> mean score, as ``FactorTransfer`` gives them.
    """
    concepts = list(dict.fromkeys(name.split("/")[0] for name in scores))
    cases = list(dict.fromkeys(name.split("/")[1] for name in scores))
    table = Table(title="After swapping a factor between held-out images", title_justify="left")
    table.add_column("swapped factor")
    for concept in concepts:
        table.add_column(concept, justify="right")
    for case in cases:
        bound = case in ("reconstruction", "images")
        label = {
            "reconstruction": "none (reconstruction: the bound)",
            "images": "none (the images themselves)",
        }
        cells = [
            f"{scores[f'{c}/{case}']:.3f} {'' if bound else ('from source' if c == case else 'kept')}" for c in concepts
        ]
        table.add_row(label.get(case, case), *cells)
    return table


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


def named(metric: str, numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a metric, under its name."""
    return {f"{metric}/{name}": value for name, value in values(numbers).items()}


def values(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers, or records whose ``value`` is one."""
    values = {name: entry.get("value") if isinstance(entry, dict) else entry for name, entry in numbers.items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
