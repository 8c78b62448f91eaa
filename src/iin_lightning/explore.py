"""Look at what a trained network has learned, in a browser: ``python -m iin_lightning.explore run=<run folder>``."""

from dataclasses import dataclass

from omegaconf import DictConfig

from iin_lightning.cli.schema import OfRuns
from iin_lightning.command import command


@dataclass
class Explore(OfRuns):
    """All keys of the command."""

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
    seed: int = 0
    """Of the choice of held-out images; a data set's recipe refers to it, too."""


def job(config: DictConfig) -> None:
    """Explore; imported late, so that ``--help`` answers at once."""
    from iin_lightning.explorer.serve import explore  # noqa: PLC0415

    explore(config)


def main() -> None:
    """The command."""
    command(job, "explore", Explore)


if __name__ == "__main__":
    main()
