"""What every sweep ends with: a row a job, means over seeds, the reasons of failures, and how to go on."""

import csv
import math
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table

from iin_lightning.errors import IINError, Preempted, StoppedByUser, listed
from iin_lightning.plots.style import save
from iin_lightning.plots.sweep import sweep_figure
from iin_lightning.printing import pasted, show_files
from iin_lightning.progress import Screen
from iin_lightning.questions.results import summarize
from iin_lightning.sweeps.jobs import SEED, Job, all_numbers, gather, groups, varied
from iin_lightning.sweeps.watch import Watch

REASON = "reason"
SHORT = 18  # letters that are not broken: a mean and its deviation
COLUMNS = 5  # of numbers on the screen; sweep.csv has all
# What is looked up in sweep.csv rather than compared at a glance.
DETAILS = (
    "transfer/",
    "round_trip_error",
    "of_factor/",
    "leakage/",
    "/reconstructions",
    "/reconstructions_of_others",
    "samples from ",
    "likelihood/",
)


def report(folder: Path, code: int) -> int:
    """Write and show the table of a sweep.

    Args:
        folder: of the sweep.
        code: what the process would exit with.

    Returns:
        What it exits with: not 0 if a job failed or is unfinished.
    """
    jobs, objective = gather(folder)
    console = Screen()
    if jobs:
        show(jobs, objective, console)
        _say_best(folder, console)
        try:
            written = write(jobs, objective, folder)
        except OSError as full:  # the numbers are on the screen, and in the folders of the jobs
            console.print(f"The table could not be written: {full}", soft_wrap=True, markup=False)
            written = []
        show_files((("picture" if path.suffix == ".png" else "table", path) for path in written), console)
    counts = Counter(job.status for job in jobs)
    failed, left = counts["failed"], counts["unfinished"] + counts["not begun"]
    if jobs and (failed or left or code):
        said = ", ".join(f"{number} {status}" for status, number in counts.items())
        again = "" if Watch.study else f" with {pasted('hydra.sweep.dir', folder)}"
        does = "goes on with the same study" if Watch.study else "does what is missing"
        console.print(f"{said}. The same command{again} {does}.", soft_wrap=True, highlight=False, markup=False)
    if Watch.signal is not None:
        return StoppedByUser.exit_code if Watch.signal == signal.SIGINT else Preempted.exit_code
    return code or (IINError.exit_code if failed else Preempted.exit_code if left else 0)


def _main_numbers(jobs: Sequence[Job], objective: str) -> list[str]:
    names = dict.fromkeys(name for job in jobs for name in all_numbers(job, objective))
    return [name for name in names if not any(detail in name for detail in DETAILS)][:COLUMNS]


def _spread(members: Sequence[Job], objective: str) -> dict[str, str]:
    found = {job.number: all_numbers(job, objective) for job in members}
    return {
        name: f"{mean:.4g} ± {deviation:.2g}" if n > 1 else f"{mean:.4g}"
        for name, (mean, deviation, n) in summarize(found).items()
    }


def write(jobs: Sequence[Job], objective: str, folder: Path) -> list[Path]:
    """``sweep.csv`` with all numbers, ``sweep.md``, and ``sweep.png`` where numbers were varied."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "sweep.csv", folder / "sweep.md"]
    keys = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    names = list(dict.fromkeys(name for job in jobs for name in all_numbers(job, objective)))
    with written[0].open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["job", "status", *keys, "seconds", *names, REASON])
        for job in jobs:
            said, numbers = (job.overrides.get(key, "") for key in keys), all_numbers(job, objective)
            measured = (numbers.get(name, "") for name in names)
            rows.writerow([job.number, job.status, *said, job.seconds, *measured, job.reason])
    first = next((job.overrides for job in jobs if job.overrides), {})
    fixed = [f"{key}={first[key]}" for key in keys if key not in varied(jobs)]
    lines = [f"# {len(jobs)} jobs", "", *([f"All with `{' '.join(fixed)}`.", ""] if fixed else [])]
    lines += _markdown(*_job_rows(jobs, objective))
    if groups(jobs):
        lines += ["", "## Mean and standard deviation over seeds", "", *_markdown(*_group_rows(jobs, objective))]
        lines += ["", "## All numbers", "", *_markdown(*_number_rows(jobs, objective))]
    written[1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    if tried := _tried(jobs):
        written.append(save(sweep_figure(tried, objective), folder / "sweep.png"))
    return written


def _job_rows(jobs: Sequence[Job], objective: str) -> tuple[list[str], list[list[str]]]:
    keys, names = varied(jobs), _main_numbers(jobs, objective)
    rows = []
    for job in jobs:
        numbers = all_numbers(job, objective)
        cells = [f"{numbers[name]:.4g}" if name in numbers else "" for name in names]
        seconds = "" if job.seconds is None else f"{job.seconds:.0f}"
        rows.append(
            [job.number, *(job.overrides.get(key, "") for key in keys), job.status, *cells, seconds, job.reason]
        )
    return ["job", *keys, "status", *names, "seconds", REASON], rows


def _group_rows(jobs: Sequence[Job], objective: str) -> tuple[list[str], list[list[str]]]:
    names = _main_numbers(jobs, objective)
    rows = []
    for said, members in groups(jobs).items():
        spread = _spread(members, objective)
        rows.append([*said, str(len(members)), *(spread.get(name, "") for name in names)])
    return [*(key for key in varied(jobs) if key != SEED), "jobs", *names], rows


def _number_rows(jobs: Sequence[Job], objective: str) -> tuple[list[str], list[list[str]]]:
    keys = [key for key in varied(jobs) if key != SEED]
    found = groups(jobs)
    titles = [", ".join(f"{k}={v}" for k, v in zip(keys, said)) or "mean and deviation" for said in found]
    spreads = [_spread(members, objective) for members in found.values()]
    names = dict.fromkeys(name for spread in spreads for name in spread)
    return ["number", *titles], [[name, *(spread.get(name, "") for spread in spreads)] for name in names]


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _tried(jobs: Sequence[Job]) -> dict[str, list[tuple[float, float]]]:
    """Key -> (value, objective) of the jobs, for the keys whose values are numbers."""
    tried = {}
    for key in varied(jobs):
        points = [(_number(job.overrides.get(key)), job.objective) for job in jobs if job.objective is not None]
        numbers = [(value, y) for value, y in points if value is not None and math.isfinite(y)]
        if key != SEED and len({value for value, _ in numbers}) > 1:
            tried[key] = numbers
    return tried


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def show(jobs: Sequence[Job], objective: str, console: Screen) -> None:
    """Print the rows of the jobs, the means over seeds, and why jobs failed."""
    console.print(_table("Jobs of the sweep", *_job_rows(jobs, objective)))
    if groups(jobs):
        console.print(_table("Mean and standard deviation over seeds", *_group_rows(jobs, objective)))
    for reason in dict.fromkeys(job.reason for job in jobs if job.reason):
        numbers = listed([job.number for job in jobs if job.reason == reason])
        console.print(f"failed: job {numbers}: {reason}", soft_wrap=True, highlight=False, markup=False)
    finished = [job for job in jobs if job.objective is not None and math.isfinite(job.objective)]
    if len(finished) > 1:
        best = min(finished, key=lambda job: job.objective or 0.0)
        said = " ".join(f"{key}={best.overrides.get(key, '')}" for key in varied(jobs))
        console.print(
            f"lowest {objective}: {best.objective:.4g}, job {best.number} ({said})", soft_wrap=True, highlight=False
        )


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Without the reasons, which are sentences, and without empty columns."""
    table = Table(title=title, title_justify="left", min_width=len(title))
    kept = [i for i, name in enumerate(header) if name != REASON and any(row[i] for row in rows)]
    for i in kept:
        title = header[i].removeprefix("test/").removeprefix("quality/")
        title = title.replace("/", "/\n") if len(title) > SHORT else title
        table.add_column(title, overflow="fold", min_width=min(SHORT, max(len(row[i]) for row in rows)))
    for row in rows:
        table.add_row(*(escape(row[i]) for i in kept))
    return table


def _say_best(folder: Path, console: Screen) -> None:
    """The best of a study, which may be of an earlier call."""
    file = folder / "optimization_results.yaml"
    if not file.is_file():
        return
    best: Any = OmegaConf.load(file)
    if "best_value" in best:
        said = " ".join(f"{key}={value}" for key, value in best.best_params.items())
        text = f"best of the study: {best.best_value:.4g} ({said})"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
