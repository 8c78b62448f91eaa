"""Ask a trained network a question: ``python -m iin_lightning.analyse run=<run folder> analysis=dimensions``."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.app.command import command


@dataclass
class Analyse:
    """All keys of the command."""

    run: Any = MISSING
    """A run folder, a model folder, a list of them, or a pattern such as outputs/seeds/*."""
    analysis: str = "dimensions"
    """The question."""
    method: str = "covariance"
    """Of dimensions: covariance (the authors' code) or correlation (Eq. 11)."""
    data: Any = None
    """Other images than those of the run's own configuration; a bare model folder needs it."""
    out: str = "${paths.outputs}/analysis"
    """The folder of the table and the figure over all runs."""
    paths: Any = MISSING
    """Folders: data, outputs, models, cache."""
    model: Any = MISSING
    """What a data set's recipe refers to."""
    seed: int = 0
    """What a data set's recipe refers to; an analysis itself is the same for every seed."""


def job(config: DictConfig) -> None:
    """Analyse; imported late, so that ``--help`` answers at once."""
    from iin_lightning.app.analyse import analyse  # noqa: PLC0415

    analyse(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_analyse", Analyse)
    command(job, "analyse")


if __name__ == "__main__":
    main()
