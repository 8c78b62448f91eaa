"""What can be trained: for each ``model.stage`` its task, its data, its pictures and what is left of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from iin_lightning import serialization
from iin_lightning.app.build import build_encoder, build_factors, class_concept
from iin_lightning.callbacks.pictures import autoencoder_figures, interpreter_figures
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.module import DataModule
from iin_lightning.data.swap_module import SwapData
from iin_lightning.encoders.base import Encoder
from iin_lightning.errors import CheckpointError, ConfigError, NonFiniteError, ShapeError, choices
from iin_lightning.factors import Factors
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.readings import readings_for
from iin_lightning.metrics.transfer import FactorTransfer
from iin_lightning.tasks.autoencode import Autoencode
from iin_lightning.tasks.base import Task
from iin_lightning.tasks.classify import Classify
from iin_lightning.tasks.evaluate import Evaluate
from iin_lightning.tasks.interpret import Interpret

Figures = Callable[[Tensor], Mapping[str, Figure]]
Requirement = Callable[..., nn.Module]
"""Gives a network that must have been trained before: ``("encoder")``, or ``("judge", concept)``."""


@dataclass
class Stage:
    """One training and what comes of it.

    Attributes:
        task: what Lightning fits and tests.
        data: with what.
        save: writes the finished model into a folder.
        draw: held-out images -> figures; None if there is nothing to see.
        evaluations: further tasks, each tested on its own data.
        provenance: plain values for ``results.json``.
    """

    task: Task
    data: LightningDataModule
    save: Callable[[Path], None]
    draw: Figures | None = None
    evaluations: list[tuple[LightningModule, LightningDataModule]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


def _save_network(network: nn.Module, folder: Path) -> None:
    serialization.save(network, folder, {"network": serialization.describe(network)})


def autoencode(config: DictConfig, data: DataModule, require: Requirement) -> Stage:
    """An autoencoder on images.

    Raises:
        ConfigError: the encoder is no autoencoder.
    """
    network = build_encoder(config, data)
    _expect(network, "image", "model=autoencoder", "encoder=autoencoder")
    adversarial = config.model.adversarial
    if adversarial is not None:
        game = instantiate(adversarial)
        adversarial = game(discriminator=game.keywords["discriminator"](channels=data.image_shape[0]))
    task = Autoencode(
        network,  # type: ignore[arg-type]
        instantiate(config.model.loss),
        instantiate(config.optimizer),
        instantiate(config.scheduler),
        adversarial=adversarial,
        discriminator_lr_factor=config.model.discriminator_lr_factor,
        seed=config.seed,
    )
    return Stage(task, data, partial(_save_network, network), partial(autoencoder_figures, network))


def classify(config: DictConfig, data: DataModule, require: Requirement) -> Stage:
    """A classifier on images.

    Raises:
        ConfigError: the encoder is no classifier, or the data have no classes.
    """
    concept = class_concept(config, data)
    network = build_encoder(config, data)
    _expect(network, "logits", "model=classifier", "encoder=classifier")
    column = data.concepts.index(concept)
    task = Classify(network, column, instantiate(config.optimizer), instantiate(config.scheduler))  # type: ignore[arg-type]
    return Stage(task, data, partial(_save_network, network), provenance={"concept": concept})


def interpret(config: DictConfig, data: DataModule, require: Requirement) -> Stage:
    """A translator on the latents of a frozen encoder.

    Raises:
        FactorError: the factors do not fit the latent or the data.
        ShapeError, NonFiniteError: the encoder does not do what it says.
    """
    # All that can be wrong with the configuration is found before an encoder is trained for an hour.
    stated = config.encoder.get("latent_dim") if config.first_stage.get("path") is None else None
    if stated is not None:
        build_factors(config, stated, data)
    held_out = data.source("val")
    images = held_out.draw(torch.arange(min(len(held_out), 24)), None)
    encoder = require("encoder")
    if not isinstance(encoder, Encoder):
        raise CheckpointError(
            f"The model folder holds a {type(encoder).__name__}, which encodes nothing: name another."
        )
    check_encoder(encoder, images)
    encoder_id = serialization.fingerprint(encoder)
    latents = LatentData(
        data,
        encoder,
        cache=None if config.latents == "online" else Path(config.paths.cache) / "latents",
        cache_key=encoder_id,
        noise=config.model.latent_noise,
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        num_workers=data.num_workers if config.latents == "online" else 0,
        seed=config.seed,
    )
    factors = build_factors(config, encoder.latent_dim, data, partial(latents.latents, "train"))
    interpreter = Interpreter(encoder, instantiate(config.flow, dim=encoder.latent_dim), factors)
    latents.encoder = interpreter.encoder  # frozen
    loss = instantiate(config.model.loss)
    paired = isinstance(loss, partial)  # a loss that waits for the factors compares pairs in them
    latents.factors = factors if paired else None
    task = Interpret(
        interpreter,
        loss(factors=factors) if paired else loss,
        encoder_id,
        instantiate(config.optimizer),
        instantiate(config.scheduler),
        compiled=config.model.compile,
    )
    stage = Stage(
        task,
        latents,
        interpreter.save_pretrained,
        partial(interpreter_figures, interpreter) if encoder.output == "image" else None,
        provenance={"encoder": encoder_id, "factors": dict(factors)},
    )
    if factors.concepts:
        stage.evaluations += _transfer(config, data, interpreter, factors, require)
    return stage


def _transfer(
    config: DictConfig, data: DataModule, interpreter: Interpreter, factors: Factors, require: Requirement
) -> list[tuple[LightningModule, LightningDataModule]]:
    if interpreter.encoder.output == "image":
        judges = {concept: require("judge", concept) for concept in factors.concepts if concept in data.classes}
        readings = readings_for(data.kinds, judges)
    else:
        readings = readings_for(data.kinds, {}, predicted=class_concept(config, data))
    readings = {concept: reading for concept, reading in readings.items() if concept in factors.concepts}
    if not readings:
        return []
    return [(Evaluate(interpreter, FactorTransfer(factors, readings, data.concepts)), SwapData(data))]


@torch.no_grad()
def check_encoder(encoder: Encoder, images: Tensor) -> None:
    """See that an encoder gives finite latents of the dimension that it states.

    Args:
        encoder: any.
        images: a few held-out ones (B,C,H,W) in [-1,1].

    Raises:
        ShapeError: latents of another shape.
        NonFiniteError: NaN or infinity among them.
    """
    z = encoder.encode(images).mean
    if z.shape != (len(images), encoder.latent_dim):
        raise ShapeError(
            f"The encoder states latent_dim={encoder.latent_dim}, but gives latents {tuple(z.shape)} for "
            f"{len(images)} images: let encode() flatten to (B, latent_dim)."
        )
    if not torch.isfinite(z).all():
        bad = int((~torch.isfinite(z)).any(1).sum())
        raise NonFiniteError(
            f"The encoder's latents of {bad} of {len(images)} held-out images are not finite: its weights or the scale "
            "of its input is wrong (images come as float32 in [-1, 1]). Train it anew, or name another model folder."
        )


def _expect(network: Encoder, output: str, model: str, encoder: str) -> None:
    if network.output != output:
        raise ConfigError(
            f"{model} trains a network whose output is {output}, but {type(network).__name__} gives "
            f"{network.output}: choose {encoder}."
        )


STAGES: dict[str, Callable[[DictConfig, DataModule, Requirement], Stage]] = {
    "autoencode": autoencode,
    "classify": classify,
    "interpret": interpret,
}


def build_stage(config: DictConfig, data: DataModule, require: Requirement) -> Stage:
    """The stage that ``model.stage`` names.

    Raises:
        ConfigError: there is none of that name.
    """
    name = config.model.stage
    if name not in STAGES:
        raise ConfigError(f"There is no model.stage={name}; {choices(str(name), STAGES)}.")
    return STAGES[name](config, data, require)
