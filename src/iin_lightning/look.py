"""Look at a data set, or at the layers of a network, before training: ``python -m iin_lightning.look data=celeba``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig

from iin_lightning.command import command


@dataclass
class Look:
    """All keys of the command."""

    data: Any = MISSING
    """Images and the concepts that they carry: a LightningDataModule."""
    encoder: Any = None
    """A network whose layers are listed instead of the data's card: torchvision/resnet50."""
    first_stage: Any = field(default_factory=dict)
    """How the configuration of a network says that it is trained; not used here."""
    paths: Any = MISSING
    """Folders: data, outputs."""
    split: str = "train"
    """Split of the images on the sheet: train, val or test."""
    images: int = 24
    """Number of images on the sheet."""
    pairs: int = 12
    """Number of pairs on the sheet."""
    out: str = "${paths.outputs}/look/${hydra:runtime.choices.data}"
    """Folder of the sheet."""
    seed: int = 0
    """Seed of the choice of images and of ColorMNIST's colours; the splits do not depend on it."""


def job(config: DictConfig) -> None:
    """Look; imported late, so that ``--help`` answers at once."""
    from iin_lightning.reporting.look import look  # noqa: PLC0415

    look(config)


def main() -> None:
    """The command."""
    command(job, "look", Look)


if __name__ == "__main__":
    main()
