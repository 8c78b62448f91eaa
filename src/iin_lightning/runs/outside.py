"""Encoders that come trained from outside: built from the configuration, their reduction fitted once and kept."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from iin_lightning import serialization
from iin_lightning.data.module import DataModule
from iin_lightning.disk import check_writable, locked
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.reductions import PCA
from iin_lightning.encoders.user_network import UserNetwork
from iin_lightning.encoders.zoo import Outside
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.runs.build import build_encoder
from iin_lightning.runs.checks import warn_once
from iin_lightning.runs.store import KEPT, ModelStore
from iin_lightning.seeding import generator

DRAWN = 32  # images at a time


def trained_outside(config: DictConfig, data: DataModule) -> Cut:
    """The network that ``encoder`` names, with the weights that it comes with, cut at its layer.

    What is random in it (a fresh last layer) comes from the seed. A PCA is fitted to training images, once for all runs
    of the same network, data and seed: it lies in the model store.

    Raises:
        ConfigError: the encoder is none that comes trained.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    encoder = build_encoder(config, data)
    if not isinstance(encoder, Cut):
        raise ConfigError(
            "This run needs a trained encoder, but says neither how to train it (first_stage.recipe) nor where it lies "
            "(first_stage.path=<model folder>)."
        )
    for warning in _random_parts(config, encoder):
        warn_once(warning)
    encoder.eval()
    return _fitted(encoder, config, data) if isinstance(encoder.reduction, PCA) else encoder


def _random_parts(config: DictConfig, encoder: Cut) -> list[str]:
    """What of a network is not trained and will not be."""
    network = encoder.network
    if config.encoder.network.weights is None:
        own = isinstance(network, UserNetwork)
        return [
            f"The network that is explained has {'the weights that its constructor gives it' * own or 'random weights'}"
            f"{', most often random ones' * own}: name trained ones with encoder.network.weights=<file>"
            f"{', or default' * (not own)}."
        ]
    if isinstance(network, Outside) and network.fresh_head and config.model.stage != "head":
        return [
            f"The last layer for {network.n_classes} classes is fresh, with random weights, and so are the "
            "probabilities that are explained: first_stage.recipe=head trains it before."
        ]
    return []


def _fitted(encoder: Cut, config: DictConfig, data: DataModule) -> Cut:
    source = data.source("train")
    made_of = (serialization.fingerprint(encoder), data.fingerprint("train"), config.seed)
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    folder = Path(config.paths.models) / f"{type(data).__name__.lower()}-pca-{key}"

    def batches() -> Iterator[Tensor]:
        order = torch.randperm(len(source), generator=generator(config.seed, "reduction"))
        for items in order.split(DRAWN):
            yield source.draw(items, None)

    # Of several processes the first to come fits, and the others wait for it.
    with locked(folder):
        if not ModelStore.is_complete(folder):
            check_writable(folder.parent, *KEPT)
            print(f"Fitting {config.encoder.reduce} to training images ({folder}).")
            on_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
            encoder.to("cuda" if on_gpu else "cpu").fit_reduction(batches())
            serialization.save(encoder.cpu(), folder / "model", {"network": serialization.describe(encoder)})
    fitted = serialization.load(folder / "model")
    if not isinstance(fitted, Cut):
        raise CheckpointError(f"{folder} holds a {type(fitted).__name__}, no network at a layer: delete the folder.")
    return fitted
