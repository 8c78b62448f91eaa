"""Ask a trained network a question: ``python -m iin_lightning.analyse run=<run folder> analysis=walk``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig

from iin_lightning.cli.schema import OfRuns
from iin_lightning.command import command


@dataclass
class Analyse(OfRuns):
    """All keys of the command."""

    analysis: Any = MISSING
    """The question, and its options (analysis.seed=1)."""
    images: list[str] = field(default_factory=list)
    """Your own image files, which are shown instead of held-out ones; they are framed as those of the data set."""
    logger: Any = None
    """wandb logs numbers and figures there, too."""
    name: str | None = None
    """Of the answer, to keep it beside another of the same analysis; by default that of the analysis."""
    out: str | None = None
    """A folder for all that is written; by default answers go into each run's own, and the table over several runs into
    <paths.outputs>/analysis/<name>."""


def job(config: DictConfig) -> None:
    """Analyse; imported late, so that ``--help`` answers at once."""
    from iin_lightning.runs.commands import analyse  # noqa: PLC0415

    analyse(config)


def main() -> None:
    """The command."""
    command(job, "analyse", Analyse)


if __name__ == "__main__":
    main()
