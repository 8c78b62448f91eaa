"""Make what we read out of what others wrote: ``python -m iin_lightning.convert kind=animal_faces source=S out=O``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from iin_lightning.command import command


@dataclass
class Convert:
    """All keys of the command."""

    kind: str = "animal_faces"
    """What is made: animal_faces or checkpoint."""
    source: str | None = None
    """The folder that it is made from; of a checkpoint, the file."""
    out: str | None = None
    """The folder that it is written to."""
    coordinates: str | None = None
    """The table of the crops; by default it is looked for in source and in out."""
    workers: int | None = None
    """Processes; by default one a core."""
    first_stage: str | None = None
    """The model folder of the encoder that a checkpoint's translator was trained on."""
    trust: list[str] = field(default_factory=list)
    """Packages that another's first_stage may name: [net]."""
    factors: Any = None
    """Names and dimensions of a checkpoint's factors, in its order; by default it has none."""
    posterior: str | None = None
    """How a checkpoint's autoencoder was trained: gaussian (the default) or deterministic."""


def job(config: DictConfig) -> None:
    """Convert; imported late, so that ``--help`` answers at once."""
    from iin_lightning.cli import trust  # noqa: PLC0415
    from iin_lightning.convert_from.command import convert  # noqa: PLC0415

    trust.take(config)
    options = OmegaConf.to_container(config)
    assert isinstance(options, dict)
    del options["trust"]
    convert(**options)  # type: ignore[arg-type]


def main() -> None:
    """The command."""
    command(job, "convert", Convert)


if __name__ == "__main__":
    main()
