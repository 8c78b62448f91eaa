"""Lay results out for others: ``python -m iin_lightning.report run=<run folder>`` writes one HTML file."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.command import command


@dataclass
class Report:
    """All keys of the command."""

    run: Any = None
    """A run folder, a model folder, a list of them, or a pattern such as outputs/sweeps/*/*. Of to=wandb: whose numbers
    get panels; by default all that the latest runs of the project have logged."""
    to: str = "html"
    """html: a page that holds all; wandb: a workspace of a W&B project."""
    out: str | None = None
    """The file; by default report.html in the folder of the run. Of several runs: that which compares them, by default
    in the folder that holds them all. Of to=wandb: the layout as JSON, instead of W&B; no network is needed."""
    data: Any = None
    """Of html: other images than those of the run's own configuration; a bare model folder needs it."""
    response: Any = MISSING
    """Of html: how classifiers are walked (response.walks=50)."""
    seed: int = 0
    """Of html: of the held-out images that are shown."""
    device: str = "auto"
    """Of html: where to compute: auto, cpu, cuda."""
    trust: list[str] = field(default_factory=list)
    """Of html: packages that another's model or configuration may name: [net]."""
    project: str = "iin-lightning"
    """Of W&B, where runs are logged (logger.wandb.project)."""
    entity: str | None = None
    """User or team of W&B; by default the one who is logged in."""
    name: str = "Interpretation"
    """Of the workspace of W&B."""
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
