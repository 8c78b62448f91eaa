"""Make a data set's files out of another's: ``python -m iin_lightning.convert kind=animal_faces source=S out=O``."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from iin_lightning.app.command import command


@dataclass
class Convert:
    """All keys of the command."""

    kind: str = "animal_faces"
    """What is made."""
    source: str | None = None
    """The folder that it is made from."""
    out: str | None = None
    """The folder that it is written to."""
    coordinates: str | None = None
    """The table of the crops; by default it is looked for in source and in out."""
    workers: int | None = None
    """Processes; by default one a core."""


def job(config: DictConfig) -> None:
    """Convert; imported late, so that ``--help`` answers at once."""
    from iin_lightning.app.convert import convert  # noqa: PLC0415

    convert(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_convert", Convert)
    command(job, "convert")


if __name__ == "__main__":
    main()
