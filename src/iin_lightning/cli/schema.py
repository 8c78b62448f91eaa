"""The root of every configuration: a misspelt key is an error, because only these exist."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from iin_lightning.cli import networks


@dataclass
class Root:
    """What a run is made of; each group is a folder in ``conf/``."""

    data: Any = MISSING
    """Which images, and which concepts they carry: a LightningDataModule."""
    model: Any = MISSING
    """What is trained (autoencoder, classifier, head, unsup, sup) and its recipe."""
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
    """The recipe that trains the encoder where the store lacks it, and changes to it (+first_stage.model.steps=500);
    null where it comes trained."""
    judge: Any = field(default_factory=dict)
    """The recipe of the independent classifier that reads concepts from images, and changes to it."""
    evaluation: Any = field(default_factory=dict)
    """Keys of iin_lightning.evaluate, done after training if metric is among them; an experiment says which."""
    analyses: Any = field(default_factory=dict)
    """Name -> analysis, done after training; an experiment names them (+analysis@analyses.walk=walk)."""
    latents: str = "cached"
    """cached: encode once, train on stored means and scales; online: encode at every step."""
    name: str | None = None
    """Name of the run's folder; by default <data>_<model>."""
    seed: int = 0
    """Of weights, batches, noise and colours."""
    resume: str | None = None
    """A run folder to continue."""
    deterministic: bool = False
    """Take algorithms that give the same bits at every run, which may be slower; one that has none is an error."""
    trust: list[str] = field(default_factory=list)
    """Packages that another's folder may name (first_stage.path): [net]; another's folder to resume, with a slash."""
    checkpoint: Any = field(default_factory=dict)
    """When the state to go on from is written besides after each validation: steps, minutes."""
    on_nan: str = "stop"
    """Where a loss or gradient is not finite: stop, or skip the step (the weights stay as they are)."""


@dataclass
class Evaluate:
    """All keys of the command ``evaluate``."""

    run: Any = MISSING
    """A run folder, a model folder, a list of them, or a pattern such as outputs/seeds/*."""
    aggregate: str | None = None
    """Instead of run: a pattern of run folders whose numbers, as they stand in results.json, are gathered."""
    metric: Any = None
    """What to measure, [likelihood,quality] say; null: those that fit a model, but quality."""
    data: Any = None
    """Other images than those of the run's own configuration; a bare model folder needs it."""
    outside: Any = None
    """Of typicality: another data set, from which test images are to be told (data@outside=fashion_mnist)."""
    protocol: str = "clean"
    """Of quality: clean, authors2020 or two_stage."""
    extractor: str = "inception"
    """Of quality: inception, efficientnet_lite0 or classifier (the judge of the data's first concept)."""
    weights: str | None = None
    """A local file of Inception's weights, where they cannot be downloaded."""
    count: int = 10_000
    """Samples, and at most so many real images."""
    kernel: bool = False
    """Give the kernel distance (KID), too."""
    coverage: bool = False
    """Give precision and recall, too."""
    priors: list[str] = field(default_factory=list)
    """Baselines of quality: standard, gaussian, mixture."""
    probe: str = "kernel"
    """Of leakage and disentanglement: kernel or linear."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda."""
    out: str | None = None
    """A folder for all that is written; by default numbers go into each run's own, and the table over several runs into
    <paths.outputs>/evaluation."""
    trust: list[str] = field(default_factory=list)
    """Packages that another's model or configuration may name: [net]."""
    paths: Any = MISSING
    """Folders: data, outputs, models, cache."""
    model: Any = MISSING
    """What a data set's recipe refers to."""
    seed: int = 0
    """What a data set's recipe refers to; evaluation itself is the same for every seed."""


def register() -> None:
    """Make the root known to Hydra, and the networks that no yaml lists."""
    ConfigStore.instance().store("iin_lightning_root", Root)
    ConfigStore.instance().store("iin_lightning_evaluate", Evaluate)
    networks.register()
