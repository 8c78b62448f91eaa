"""What a run found: ``results.json`` in its folder, a table on the screen."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from filelock import FileLock
from rich.table import Table

from iin_lightning.bounded import read_json
from iin_lightning.errors import CheckpointError
from iin_lightning.factors import RESIDUAL
from iin_lightning.metrics.measured import Measured
from iin_lightning.serialization import write_whole

FILE = "results.json"
LARGEST = 64 << 20  # bytes
TRANSFER = "test/transfer/"


def write(outcome: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``, see `storable`."""
    write_whole(folder / FILE, json.dumps(storable(outcome), indent=2) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """What ``results.json`` of a folder holds; nothing where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        found = read_json(file, LARGEST)
    except CheckpointError:
        raise
    except ValueError as error:  # no json, or no text at all
        raise CheckpointError(_damaged(file, str(error))) from error
    if not isinstance(found, dict):
        raise CheckpointError(_damaged(file, f"it holds a {type(found).__name__}"))
    return found


def _damaged(file: Path, why: str) -> str:
    return (
        f"{file} is damaged ({why}), and is left as it is: put a copy of it back, or move it away. Evaluations and "
        "analyses then begin a new one; the numbers of the training are in metrics.csv, too."
    )


def add(folder: Path, section: str, numbers: Mapping[str, Any]) -> None:
    """Add to a section of a folder's ``results.json``, which are made if need be; see `storable`.

    Raises:
        CheckpointError: the file is damaged; it stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{FILE}.lock"):  # one analysis may end while another does
        found = read(folder)
        found[section] = found.get(section, {}) | dict(numbers)
        write(found, folder)


def finish(folder: Path) -> None:
    """Note in ``results.json`` that all was done, and when."""
    with FileLock(folder / f"{FILE}.lock"):
        write({**read(folder), "finished": datetime.now().astimezone().isoformat(timespec="seconds")}, folder)


def finished(folder: Path) -> dict[str, Any] | None:
    """What ``results.json`` of a folder holds, if all was done; else nothing."""
    found = read(folder)
    return found if "finished" in found else None


def objective(outcome: Mapping[str, Any]) -> float | None:
    """The held-out loss of the model that was kept; None if there was no validation.

    Example:
        >>> objective({"validation": {"val/nll": 0.9}}), objective({"validation": {}})
        (0.9, None)
    """
    return next(iter(outcome["validation"].values()), None)


def storable(value: Any) -> Any:
    """Nested values as JSON can hold them: null stands for NaN and infinity, a record for a number with its error.

    Example:
        >>> storable({"nll": Measured(0.9, 0.1), "chance": Measured(0.1)})
        {'nll': {'value': 0.9, 'error': 0.1}, 'chance': 0.1}
    """
    if isinstance(value, Measured):
        known = math.isfinite(value.error)
        return storable({"value": value.value, "error": value.error} if known else value.value)
    if isinstance(value, dict):
        return {key: storable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [storable(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metrics_table(name: str, metrics: Mapping[str, Any]) -> Table:
    """The numbers of a run's test split, but those of transfer."""
    title = f"{name}: test split"
    table = Table(title=title, title_justify="left", min_width=len(title))
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key, value in measured(metrics).items():
        if not key.startswith(TRANSFER):
            table.add_row(key.removeprefix("test/"), f"{value}")
    return table


def transfer_scores(metrics: Mapping[str, Any]) -> dict[str, Measured]:
    """Of test metrics those of factor transfer: ``{concept}/{swapped factor}`` -> mean score and its error."""
    return {k.removeprefix(TRANSFER): v for k, v in measured(metrics).items() if k.startswith(TRANSFER)}


def transfer_rows(scores: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of `transfer_table`; "" where a score is absent.

    Example:
        >>> transfer_rows({"digit/digit": 0.9, "digit/residual": 0.8, "color/residual": 0.7})
        (['swapped factor', 'digit', 'color'], [['digit', 0.9, ''], ['residual', 0.8, 0.7]])
    """
    cells = {tuple(name.partition("/")[::2]): score for name, score in scores.items()}
    concepts, cases = (list(dict.fromkeys(names[i] for names in cells)) for i in (0, 1))
    return ["swapped factor", *concepts], [[case, *(cells.get((c, case), "") for c in concepts)] for case in cases]


def transfer_table(scores: Mapping[str, Measured]) -> Table:
    """Rows: what was swapped. Columns: how each concept is read from the result."""
    (_, *concepts), rows = transfer_rows(scores)
    table = Table(title="After swapping a factor between held-out images", title_justify="left")
    table.add_column("swapped factor")
    for concept in concepts:
        table.add_column(concept, justify="right")
    own = {concept: concept if any(case == concept for case, *_ in rows) else RESIDUAL for concept in concepts}
    for case, *row in rows:
        label = {"reconstruction": "none (the bound)", "images": "none (the images)", "chance": "chance"}
        cells = [
            f"{score} {'' if case in label else 'from source' if case == own[concept] else 'kept'}"
            for concept, score in zip(concepts, row)
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


def table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """The numbers of one run with their errors, or the mean and standard deviation over several."""
    several = len(found) > 1
    title = f"{len(found)} runs: mean and standard deviation" if several else next(iter(found))
    shown = Table(title=title, title_justify="left")
    shown.add_column("number")
    shown.add_column("value", justify="right")
    for name, (average, deviation, _) in summarize({run: values(numbers) for run, numbers in found.items()}).items():
        single = measured(next(iter(found.values()))).get(name)
        shown.add_row(name, f"{average:.4g} ± {deviation:.2g}" if several else f"{single}")
    return shown


def differences(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, dict[str, Measured]]:
    """Run -> number -> its difference to that of the first run, for numbers whose scores are of the same images.

    Example:
        >>> import torch
        >>> from iin_lightning.metrics.measured import means
        >>> images = torch.arange(2)
        >>> runs = {str(run): means({"nll": torch.tensor([1.0, 5.0]) + run}, images) for run in (0, 1)}
        >>> {name: str(number) for name, number in differences(runs)["1"].items()}
        {'nll': '1.000 ± 0.000'}
    """
    first, *others = found.items()
    pairs = {
        run: {name: number - first[1][name] for name, number in numbers.items() if name in first[1]}
        for run, numbers in others
    }
    known = {run: {name: d for name, d in of_run.items() if d.scores is not None} for run, of_run in pairs.items()}
    return {run: of_run for run, of_run in known.items() if of_run}


def difference_table(apart: Mapping[str, Mapping[str, Measured]], first: str) -> Table:
    """A row a number, a column a run."""
    names = dict.fromkeys(name for numbers in apart.values() for name in numbers)
    shown = Table(title=f"Difference to {first} on the same test images", title_justify="left")
    shown.add_column("number")
    for run in apart:
        shown.add_column(run, justify="right", overflow="fold")
    for name in names:
        shown.add_row(name, *(str(numbers.get(name, "")) for numbers in apart.values()))
    return shown


def write_summary(found: Mapping[str, Mapping[str, float]], folder: Path) -> Iterable[Path]:
    """``summary.csv`` with a row a number and a column a run, ``summary.md`` with means and deviations."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize(found)
    with (folder / "summary.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "mean", "std", "runs", *found])
        for name, numbers in summary.items():
            writer.writerow([name, *numbers, *(run.get(name, "") for run in found.values())])
    lines = [f"Mean and standard deviation over {len(found)} runs.", "", "| number | mean | std |", "|---|---|---|"]
    lines += [f"| {name} | {average:.4g} | {deviation:.2g} |" for name, (average, deviation, _) in summary.items()]
    (folder / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "summary.csv", folder / "summary.md"


def named(metric: str, numbers: Mapping[str, Any]) -> dict[str, Measured]:
    """The numbers of a metric, under its name."""
    return {f"{metric}/{name}": value for name, value in measured(numbers).items()}


def section(outcome: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of what ``results.json`` holds; of another version, or from elsewhere, it may be anything.

    Example:
        >>> section({"metrics": {"test/nll": 0.9}}, "metrics"), section({"metrics": [1]}, "metrics")
        ({'test/nll': 0.9}, {})
    """
    found = outcome.get(name)
    return found if isinstance(found, Mapping) else {}


def values(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers, or records whose ``value`` is one."""
    return {name: number.value for name, number in measured(numbers).items()}


def measured(numbers: Mapping[str, Any]) -> dict[str, Measured]:
    """Those that are numbers, or records of a ``value`` and maybe its standard ``error``.

    Example:
        >>> measured({"nll": {"value": 0.9, "error": 0.1}, "chance": 0.1, "of": {"encoder": "0f3c"}})
        {'nll': Measured(value=0.9, error=0.1), 'chance': Measured(value=0.1, error=nan)}
    """
    found = {}
    for name, entry in numbers.items():
        value, error = (entry.get("value"), entry.get("error")) if isinstance(entry, dict) else (entry, None)
        if isinstance(entry, Measured):
            found[name] = entry
        elif isinstance(value, int | float):
            found[name] = Measured(value, error if isinstance(error, int | float) else math.nan)
    return found
