"""Lay results out for others: ``python -m iin_lightning.report to=wandb project=iin-lightning``."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.app.command import command


@dataclass
class Report:
    """All keys of the command."""

    to: str = MISSING
    """wandb: a workspace of a W&B project."""
    project: str = "iin-lightning"
    """Of W&B, where runs are logged (logger.wandb.project)."""
    entity: str | None = None
    """User or team of W&B; by default the one who is logged in."""
    run: Any = None
    """Run folders, or a pattern such as outputs/sweeps/*/*, whose numbers get panels; by default all that the latest
    runs of the project have logged."""
    name: str = "Interpretation"
    """Of the workspace."""
    out: str | None = None
    """A file for the layout as JSON, instead of W&B; no network is needed."""


def job(config: DictConfig) -> None:
    """Report; imported late, so that ``--help`` answers at once."""
    from iin_lightning.app.report import report  # noqa: PLC0415

    report(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_report", Report)
    command(job, "report")


if __name__ == "__main__":
    main()
