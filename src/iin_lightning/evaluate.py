"""Measure trained models: ``python -m iin_lightning.evaluate run=outputs/<name>/<time> metric=[leakage,quality]``."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from iin_lightning.app.command import command


@dataclass
class Evaluate:
    """All keys of the command."""

    run: Any = MISSING
    """A run folder, a model folder, a list of them, or a pattern such as outputs/seeds/*."""
    aggregate: str | None = None
    """Instead of run: a pattern of run folders whose numbers, as they stand in results.json, are gathered."""
    metric: list[str] | None = None
    """Of likelihood, gaussianity, transfer, leakage, disentanglement, typicality, quality; null: those that fit, but
    quality."""
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
    out: str = "${paths.outputs}/evaluation"
    """The folder of the table over several runs."""
    paths: Any = MISSING
    """Folders: data, outputs, models, cache."""
    model: Any = MISSING
    """What a data set's recipe refers to."""
    seed: int = 0
    """What a data set's recipe refers to; evaluation itself is the same for every seed."""


def job(config: DictConfig) -> None:
    """Evaluate; imported late, so that ``--help`` answers at once."""
    from iin_lightning.app.evaluate import evaluate  # noqa: PLC0415

    evaluate(config)


def main() -> None:
    """The command."""
    ConfigStore.instance().store("iin_lightning_evaluate", Evaluate)
    command(job, "evaluate")


if __name__ == "__main__":
    main()
