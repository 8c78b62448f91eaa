"""Lay out results for others: ``python -m iin_lightning.report run=<run folder>`` writes one HTML file."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig

from iin_lightning.cli.schema import OfRuns
from iin_lightning.command import command


@dataclass
class Report(OfRuns):
    """All keys of the command."""

    run: Any = None
    """A run folder, a model folder, a list of them, or a pattern such as outputs/sweeps/*/*. With to=wandb: the runs
    whose numbers get panels; by default the latest runs of the project."""
    to: str = "html"
    """html: a page for each run; wandb: a workspace of a W&B project."""
    out: str | None = None
    """The file; by default report.html in the folder of the run. Of several runs: that which compares them, by default
    in the folder that holds them all. Of to=wandb: the layout as JSON, instead of W&B; no network is needed."""
    response: Any = MISSING
    """Of html: how classifiers are walked (response.walks=50)."""
    project: str = "iin-lightning"
    """W&B project in which runs are logged (logger.wandb.project)."""
    entity: str | None = None
    """User or team of W&B; by default the user who is logged in."""
    name: str = "Interpretation"
    """Of the workspace of W&B."""


def job(config: DictConfig) -> None:
    """Report; imported late, so that ``--help`` answers at once."""
    from iin_lightning.reporting.report import report  # noqa: PLC0415

    report(config)


def main() -> None:
    """The command."""
    command(job, "report", Report)


if __name__ == "__main__":
    main()
