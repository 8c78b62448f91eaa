"""What every sweep ends with: a row for each job, means over seeds, the reasons of failures, and how to go on."""

import csv
import json
import math
import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table

from iin_lightning.errors import IINError, Preempted, StoppedByUser, listed
from iin_lightning.printing import pasted, show_files
from iin_lightning.progress import Screen
from iin_lightning.questions import results
from iin_lightning.runs.folder import PROVENANCE
from iin_lightning.sweeps.guard import FAILURE, Watch

FILE = "sweep.csv"
SEED = "seed"
SHORT = 18  # letters that are not broken: a mean and its deviation
COLUMNS = 5  # of numbers on the screen; sweep.csv has all
# Numbers to look up in sweep.csv rather than to compare at a glance.
DETAILS = re.compile("transfer/|round_trip_error|of_factor/|leakage/|/reconstructions|samples from |likelihood/")


@dataclass(frozen=True)
class Job:
    """A job of a sweep: what was typed, "done", "failed", "unfinished" or "not begun", and what was measured.

    Its number is the name of its folder; its first measured number is what a search minimises.
    """

    number: str
    overrides: Mapping[str, str]
    status: str
    reason: str = ""
    seconds: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def report(folder: Path, code: int) -> int:
    """Write and show the table of a sweep.

    Returns:
        The exit code: ``code``, or that of a failed or unfinished job.
    """
    jobs, objective = gather(folder)
    console = Screen()
    if jobs:
        show(jobs, objective, console)
        _show_best_of_study(folder, console)
        try:
            show_files([("table", write(jobs, folder))], console)
        except OSError as full:  # the numbers are on the screen, and in the folders of the jobs
            console.print(f"The table could not be written: {full}", soft_wrap=True, markup=False)
    counts = Counter(job.status for job in jobs)
    failed, left = counts["failed"], counts["unfinished"] + counts["not begun"]
    if jobs and (failed or left or code):
        ends = ", ".join(f"{number} {status}" for status, number in counts.items())
        again = "" if Watch.study else f" with {pasted('hydra.sweep.dir', folder)}"
        does = "goes on with the same study" if Watch.study else "does what is missing"
        console.print(f"{ends}. The same command{again} {does}.", soft_wrap=True, highlight=False, markup=False)
    if Watch.signal is not None:
        return StoppedByUser.exit_code if Watch.signal == signal.SIGINT else Preempted.exit_code
    return code or (IINError.exit_code if failed else Preempted.exit_code if left else 0)


def gather(folder: Path) -> tuple[list[Job], str]:
    """Read the jobs of a sweep in their order, and the name of what a search minimises."""
    # Hydra opens the log before it runs the job.
    files = (PROVENANCE, FAILURE, results.FILE, "run.log")
    folders = {path.parent for name in files for path in folder.glob(f"*/{name}")}
    jobs, objective = [], "objective"
    for path in sorted(folders, key=lambda path: (int(path.name) if path.name.isdigit() else math.inf, path.name)):
        started, failure, outcome = (_read(path / name) for name in files[:3])
        typed = (text.partition("=") for text in started.get("overrides") or failure.get("overrides", []))
        overrides = {key.lstrip("+~"): value for key, _, value in typed}
        validation = outcome.get("validation", {})
        objective = next(iter(validation), objective)
        numbers = {name: value for name, value in results.values(validation).items() if name == objective}
        numbers |= results.values(outcome.get("metrics", {}))
        for name, measured in outcome.get("evaluation", {}).items():
            numbers |= results.values(results.named(name, measured))
        done = "done" if "finished" in outcome else "unfinished" if started else "not begun"
        status = "failed" if (path / FAILURE).exists() else done
        jobs.append(Job(path.name, overrides, status, failure.get("reason", ""), outcome.get("seconds"), numbers))
    return jobs, objective


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not there, or half written when the machine stopped
        return {}


def varied(jobs: Sequence[Job]) -> list[str]:
    """Return the keys in which jobs differ, in the order in which they were typed.

    Example:
        >>> varied([Job("0", {"a": "1", "seed": "0"}, "done"), Job("1", {"a": "1", "seed": "1"}, "failed")])
        ['seed']
    """
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    typed = [job.overrides for job in jobs if job.overrides]
    return [key for key in keys if len({overrides.get(key) for overrides in typed}) > 1]


def groups(jobs: Sequence[Job]) -> dict[tuple[str, ...], list[Job]]:
    """Group jobs with numbers that differ only in their seed, under the values of the other keys; {} without pairs."""
    keys = [key for key in varied(jobs) if key != SEED]
    members: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if job.numbers:
            members.setdefault(tuple(job.overrides.get(key, "") for key in keys), []).append(job)
    return members if any(len(group) > 1 for group in members.values()) else {}


def write(jobs: Sequence[Job], folder: Path) -> Path:
    """Write ``sweep.csv``: a row for each job, with all numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    names = list(dict.fromkeys(name for job in jobs for name in job.numbers))
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["job", "status", *keys, "seconds", *names, "reason"])
        for job in jobs:
            values = [job.overrides.get(key, "") for key in keys], [job.numbers.get(name, "") for name in names]
            rows.writerow([job.number, job.status, *values[0], job.seconds, *values[1], job.reason])
    return folder / FILE


def show(jobs: Sequence[Job], objective: str, console: Screen) -> None:
    """Print the rows of the jobs, the means over seeds, why jobs failed, and the best job."""
    keys = varied(jobs)
    names = list(dict.fromkeys(name for job in jobs for name in job.numbers if not DETAILS.search(name)))[:COLUMNS]
    rows = []
    for job in jobs:
        cells = [f"{job.numbers[name]:.4g}" if name in job.numbers else "" for name in names]
        seconds = "" if job.seconds is None else f"{job.seconds:.0f}"
        rows.append([job.number, *(job.overrides.get(key, "") for key in keys), job.status, *cells, seconds])
    console.print(_table("Jobs of the sweep", ["job", *keys, "status", *names, "seconds"], rows))
    rows = []
    for values, members in groups(jobs).items():
        summary = results.summarize({job.number: job.numbers for job in members})
        spread = {k: f"{mean:.4g} ± {std:.2g}" if n > 1 else f"{mean:.4g}" for k, (mean, std, n) in summary.items()}
        rows.append([*values, str(len(members)), *(spread.get(name, "") for name in names)])
    if rows:
        head = [*(key for key in keys if key != SEED), "jobs", *names]
        console.print(_table("Mean and standard deviation over seeds", head, rows))
    for reason in dict.fromkeys(job.reason for job in jobs if job.status == "failed"):
        numbers = listed([job.number for job in jobs if job.status == "failed" and job.reason == reason])
        console.print(f"failed: job {numbers}: {reason}", soft_wrap=True, highlight=False, markup=False)
    finished = [job for job in jobs if math.isfinite(job.numbers.get(objective, math.nan))]
    if len(finished) > 1:
        best = min(finished, key=lambda job: job.numbers[objective])
        typed = " ".join(f"{key}={best.overrides.get(key, '')}" for key in keys)
        text = f"lowest {objective}: {best.numbers[objective]:.4g}, job {best.number} ({typed})"
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table without empty columns, whose long names are broken at slashes."""
    table = Table(title=title, title_justify="left", min_width=len(title))
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    for i in kept:
        name = head[i].removeprefix("test/").removeprefix("quality/")
        name = name.replace("/", "/\n") if len(name) > SHORT else name
        table.add_column(name, overflow="fold", min_width=min(SHORT, max(len(row[i]) for row in rows)))
    for row in rows:
        table.add_row(*(escape(row[i]) for i in kept))
    return table


def _show_best_of_study(folder: Path, console: Screen) -> None:
    """Print the best job of a study, which may be of an earlier call."""
    file = folder / "optimization_results.yaml"
    best: Any = OmegaConf.load(file) if file.is_file() else {}
    if "best_value" in best:
        typed = " ".join(f"{key}={value}" for key, value in best.best_params.items())
        text = f"best of the study: {best.best_value:.4g} ({typed})"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
