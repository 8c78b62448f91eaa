"""Look at a data set, or at the layers of a network, before training: ``python -m iin_lightning.look data=celeba``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig

from iin_lightning.command import command


@dataclass
class Look:
    """All keys of the command."""

    data: Any = MISSING
    """Which images, and which concepts they carry: a LightningDataModule."""
    encoder: Any = None
    """A network from outside, whose layers are listed instead of the data's card: torchvision/resnet50."""
    first_stage: Any = field(default_factory=dict)
    """What a network's configuration says of how it is trained; nothing here."""
    paths: Any = MISSING
    """Folders: data, outputs."""
    model: Any = MISSING
    """What a data set's recipe refers to."""
    split: str = "train"
    """Where the images of the sheet come from: train, val or test."""
    images: int = 24
    """On the sheet."""
    pairs: int = 12
    """On the sheet."""
    out: str = "${paths.outputs}/look/${hydra:runtime.choices.data}"
    """The folder of the sheet."""
    seed: int = 0
    """Of what is on the sheet, and of ColorMNIST's colours; the splits do not depend on it."""


def job(config: DictConfig) -> None:
    """Look; imported late, so that ``--help`` answers at once."""
    from iin_lightning.reporting.look import look  # noqa: PLC0415

    look(config)


def main() -> None:
    """The command."""
    command(job, "look", Look)


if __name__ == "__main__":
    main()
