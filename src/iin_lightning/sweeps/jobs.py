"""The jobs of a sweep, as their folders tell of them: what was asked, how it ended, what was measured."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iin_lightning.questions.results import FILE, named, values
from iin_lightning.runs.folder import PROVENANCE
from iin_lightning.sweeps.guard import FAILURE

SEED = "seed"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: in the sweep; the name of its folder.
        overrides: key -> value, as typed.
        status: "done", "failed", "unfinished", or "not begun" where the sweep was stopped before.
        reason: of a failure.
        seconds: that it took.
        objective: what a search makes small.
        numbers: all metrics, of the evaluation, too; also of a job that failed after its model was tested.
    """

    number: str
    overrides: Mapping[str, str]
    status: str
    reason: str = ""
    seconds: float | None = None
    objective: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def gather(folder: Path) -> tuple[list[Job], str]:
    """The jobs of a sweep in their order, and the name of what a search makes small."""
    # Hydra opens the log before it runs the job.
    folders = {path.parent for name in (PROVENANCE, FAILURE, FILE, "run.log") for path in folder.glob(f"*/{name}")}
    order = sorted(folders, key=lambda path: (int(path.name) if path.name.isdigit() else math.inf, path.name))
    objective = "objective"
    jobs = []
    for path in order:
        started, failure, found = (_read(path / name) for name in (PROVENANCE, FAILURE, FILE))
        overrides = dict(_split(text) for text in started.get("overrides") or failure.get("overrides", []))
        numbers = values(found.get("metrics", {}))
        for name, measured in found.get("evaluation", {}).items():
            numbers |= values(named(name, measured))
        # The first number of the validation is what is minimised: results.objective says the same of one run.
        name, value = next(iter(found.get("validation", {}).items()), (objective, None))
        objective = name if value is not None else objective
        status = "failed" if failure else "done" if "finished" in found else "unfinished" if started else "not begun"
        reason = failure.get("reason", "")
        jobs.append(Job(path.name, overrides, status, reason, found.get("seconds"), value, numbers))
    return jobs, objective


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        return (
            {"error": type(error).__name__, "reason": f"{file} cannot be read: {error}"} if file.name == FAILURE else {}
        )
    return found if isinstance(found, dict) else {}


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def varied(jobs: Sequence[Job]) -> list[str]:
    """The keys in which jobs differ, in the order in which they were typed.

    Example:
        >>> varied([Job("0", {"a": "1", "seed": "0"}, "done"), Job("1", {"a": "1", "seed": "1"}, "failed")])
        ['seed']
    """
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    said = [job.overrides for job in jobs if job.overrides]
    return [key for key in keys if len({overrides.get(key) for overrides in said}) > 1]


def groups(jobs: Sequence[Job]) -> dict[tuple[str, ...], list[Job]]:
    """Jobs that differ in their seed alone, under the values of what else varies; those with numbers only.

    A single job with each value is no group: there is nothing to average.
    """
    keys = [key for key in varied(jobs) if key != SEED]
    found: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if job.numbers or job.objective is not None:
            found.setdefault(tuple(job.overrides.get(key, "") for key in keys), []).append(job)
    return found if any(len(members) > 1 for members in found.values()) else {}


def all_numbers(job: Job, objective: str) -> dict[str, float]:
    """What was measured of a job, its objective first."""
    own = {} if job.objective is None else {objective: job.objective}
    return own | dict(job.numbers)
