"""Look at what a trained network has learned, in a browser: ``python -m iin_lightning.explore run=<run folder>``."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.command import command


@dataclass
class Explore:
    """All keys of the command."""

    run: Any = MISSING
    """A run folder, a model folder, a list of them, or a pattern such as outputs/seeds/*."""
    state: str | None = None
    """A file that the page has saved, to open with."""
    gallery: int = 48
    """How many held-out images there are to choose from."""
    host: str = "127.0.0.1"
    """Where the page listens: this machine alone, or 0.0.0.0 for everyone who can reach it and has the token."""
    port: int | None = None
    """The page's own; by default 7860, or the next one that is free. 0 takes any."""
    open: bool = False
    """Open the page in the browser of this machine."""
    data: Any = None
    """Other images than those of the run's own configuration; a bare model folder needs it."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda."""
    trust: list[str] = field(default_factory=list)
    """Packages that another's model or configuration may name: [net]."""
    paths: Any = MISSING
    """Folders: data, outputs, models, cache."""
    seed: int = 0
    """Of the choice of held-out images; a data set's recipe refers to it, too."""


def job(config: DictConfig) -> None:
    """Explore; imported late, so that ``--help`` answers at once."""
    from iin_lightning.explorer.serve import explore  # noqa: PLC0415

    explore(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_explore", Explore)
    command(job, "explore")


if __name__ == "__main__":
    main()
