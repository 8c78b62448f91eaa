"""The root of every configuration: a misspelt key is an error, because only these exist."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Root:
    """What a run is made of; each group is a folder in ``conf/``."""

    data: Any = MISSING
    """Which images, and which concepts they carry: a LightningDataModule."""
    model: Any = MISSING
    """What is trained (autoencoder, classifier, unsup, sup) and its recipe."""
    encoder: Any = MISSING
    """The network that is explained: E and G."""
    flow: Any = MISSING
    """The translator T."""
    optimizer: Any = MISSING
    """parameters -> optimizer."""
    scheduler: Any = MISSING
    """optimizer -> schedule."""
    trainer: Any = MISSING
    """Lightning's Trainer: hardware and precision."""
    logger: Any = MISSING
    """Where scalars and pictures go: csv, wandb."""
    callbacks: Any = MISSING
    """Lightning callbacks by name."""
    paths: Any = MISSING
    """Folders: data, outputs, models (the store), cache (latents)."""
    first_stage: Any = field(default_factory=dict)
    """The recipe that trains the encoder where the store lacks it, and changes to it (+first_stage.model.steps=500)."""
    judge: Any = field(default_factory=dict)
    """The recipe of the independent classifier that reads concepts from images, and changes to it."""
    latents: str = "cached"
    """cached: encode once, train on stored means and scales; online: encode at every step."""
    name: str | None = None
    """Name of the run's folder; by default <data>_<model>."""
    seed: int = 0
    """Of weights, batches, noise and colours."""
    resume: str | None = None
    """A run folder to continue."""


def register() -> None:
    """Make the root known to Hydra."""
    ConfigStore.instance().store("iin_lightning_root", Root)
