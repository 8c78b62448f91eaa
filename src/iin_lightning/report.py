"""Lay out results for others: ``python -m iin_lightning.report run=<run folder>`` writes one HTML file."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.command import command


@dataclass
class Report:
    """All keys of the command."""

    run: Any = None
    """A run folder, a model folder, a list of them, or a pattern such as outputs/sweeps/*/*. With to=wandb: the runs
    whose numbers get panels; by default the latest runs of the project."""
    to: str = "html"
    """html: a page for each run; wandb: a workspace of a W&B project."""
    out: str | None = None
    """File of the page; by default report.html in the folder of the run. Of several runs: file of the page that
    compares them, by default in the folder above them. With to=wandb: file of the layout as JSON, without network."""
    data: Any = None
    """html: other images than those of the run's own configuration; a bare model folder needs it."""
    response: Any = MISSING
    """html: how classifiers are walked (response.walks=50)."""
    seed: int = 0
    """html: seed of the held-out images that are shown."""
    device: str = "auto"
    """html: device that computes: auto, cpu, cuda."""
    trust: list[str] = field(default_factory=list)
    """html: packages that another's model or configuration may name: [net]."""
    project: str = "iin-lightning"
    """W&B project in which runs are logged (logger.wandb.project)."""
    entity: str | None = None
    """User or team of W&B; by default the user who is logged in."""
    name: str = "Interpretation"
    """Name of the workspace of W&B."""
    paths: Any = MISSING
    """Folders: data, outputs, models, cache."""


def job(config: DictConfig) -> None:
    """Report; imported late, so that ``--help`` answers at once."""
    from iin_lightning.reporting.report import report  # noqa: PLC0415

    report(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_report", Report)
    command(job, "report")


if __name__ == "__main__":
    main()
