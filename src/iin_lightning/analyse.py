"""Ask a trained network a question: ``python -m iin_lightning.analyse run=<run folder> analysis=walk``."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.command import command


@dataclass
class Analyse:
    """All keys of the command."""

    run: Any = MISSING
    """A run folder, a model folder, a list of them, or a pattern such as outputs/seeds/*."""
    analysis: Any = MISSING
    """The question, and its options (analysis.seed=1)."""
    images: list[str] = field(default_factory=list)
    """Your own image files, which are shown instead of held-out ones; they are framed as those of the data set."""
    data: Any = None
    """Other images than those of the run's own configuration; a bare model folder needs it."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda."""
    logger: Any = None
    """wandb logs numbers and figures there, too."""
    name: str | None = None
    """Of the answer, to keep it beside another of the same analysis; by default that of the analysis."""
    out: str | None = None
    """A folder for all that is written; by default answers go into each run's own, and the table over several runs into
    <paths.outputs>/analysis/<name>."""
    trust: list[str] = field(default_factory=list)
    """Packages that another's model or configuration may name: [net]."""
    paths: Any = MISSING
    """Folders: data, outputs, models, cache."""
    model: Any = MISSING
    """What a data set's recipe refers to."""
    seed: int = 0
    """What a data set's recipe refers to; an analysis has its own."""


def job(config: DictConfig) -> None:
    """Analyse; imported late, so that ``--help`` answers at once."""
    from iin_lightning.runs.commands import analyse  # noqa: PLC0415

    analyse(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_analyse", Analyse)
    command(job, "analyse")


if __name__ == "__main__":
    main()
