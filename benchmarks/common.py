"""Shared code of the benchmarks: runs that take turns, ratios within a repeat, and ``results.json``."""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
from rich.table import Table

from iin_lightning.distributed import usable_cores

RESULTS = Path(__file__).parent / "results.json"

Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A finding: theirs over ours (or a share), the least that was promised, and median milliseconds of both."""

    name: str
    ratio: float
    wanted: float | None = None
    ours: float | None = None
    theirs: float | None = None


def seconds(run: Run, count: int = 1) -> float:
    """Return how long a run takes, the mean of several in a row."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def take_turns(runs: Mapping[str, Run], repeats: int, count: int = 1) -> dict[str, list[float]]:
    """Return the seconds of runs that take turns, so that other work of the machine disturbs each alike.

    Each run is done once before the clock starts, and ``count`` times in its turn; the order changes each time.
    """
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in list(runs)[:: -1 if repeat % 2 else 1]:
            taken[name].append(seconds(runs[name], count))
    return taken


def ratio(values: Sequence[float], of: Sequence[float]) -> float:
    """Return the median of the ratios within a repeat."""
    return median(value / other for value, other in zip(values, of))


def compare(name: str, ours: Run, theirs: Run, repeats: int, count: int, wanted: float | None = None) -> Row:
    """Let our run and that of the baseline take turns."""
    return row(name, take_turns({"ours": ours, "theirs": theirs}, repeats, count), wanted)


def row(name: str, taken: Mapping[str, Sequence[float]], wanted: float | None = None) -> Row:
    """Return the finding of the seconds that ``take_turns`` gave for "ours" and "theirs"."""
    ours, theirs = taken["ours"], taken["theirs"]
    return Row(name, ratio(theirs, ours), wanted, 1e3 * median(ours), 1e3 * median(theirs))


def table(title: str, rows: Sequence[Row]) -> Table:
    """Return a table of all findings of a benchmark, with the machine below."""
    found = Table(title=title, caption=", ".join(f"{key} {value}" for key, value in machine().items()))
    for column in ("", "ours, ms", "theirs, ms", "ratio", "wanted"):
        found.add_column(column, justify="right" if column else "left")
    for each in rows:
        times = ["" if value is None else f"{value:,.1f}" for value in (each.ours, each.theirs)]
        wanted = "" if each.wanted is None else f">= {each.wanted:g}"
        found.add_row(each.name, *times, f"{each.ratio:.2f}", wanted)
    return found


def machine() -> dict[str, str | int | float]:
    """Describe the machine; a load above the number of threads says that the times were disturbed."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
    }


def commit() -> str:
    """Return the version of the code, with a + if files have changed since."""
    says = ("git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty=+")
    return subprocess.run(says, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def record(benchmark: str, findings: Mapping[str, object] | Sequence[Row], short: bool) -> None:
    """Put findings into ``results.json`` under the benchmark's name; a short form has an entry of its own."""
    if not isinstance(findings, Mapping):
        findings = {row["name"]: row for row in map(asdict, findings)}
        findings = {name: {key: value for key, value in row.items() if key != "name"} for name, row in findings.items()}
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    results[f"{benchmark}, short" if short else benchmark] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "findings": findings,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--short``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a rougher measurement within a minute")
    return parser
