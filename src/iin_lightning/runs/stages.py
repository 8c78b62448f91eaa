"""What can be trained: for each ``model.stage`` its task, its data, its pictures and what is left of it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from iin_lightning import serialization
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.swaps import SwapData
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.frozen import Behind
from iin_lightning.errors import CheckpointError, ConfigError, choices
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.transfer import FactorTransfer, judges_for
from iin_lightning.runs.build import (
    build_encoder,
    build_factors,
    check_encoder,
    check_learnable,
    class_concept,
    expect_output,
    few_images,
    input_warnings,
    latent_warnings,
    n_outputs,
    wanted,
    warn_once,
)
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.store import Store
from iin_lightning.training.autoencode import Autoencode
from iin_lightning.training.classify import Classify
from iin_lightning.training.interpret import Evaluate, Interpret
from iin_lightning.training.pictures import autoencoder_figures, interpreter_figures
from iin_lightning.training.task import Task

log = logging.getLogger(__name__)


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
    draw: Callable[[Tensor], Mapping[str, Figure]] | None = None
    evaluations: list[tuple[LightningModule, LightningDataModule]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


def build_stage(recipe: Recipe, store: Store) -> Stage:
    """What a recipe trains; networks that it needs come from the store.

    Raises:
        ConfigError: there is no stage of that name, or it does not fit the encoder or the data.
    """
    if recipe.stage not in STAGES:
        raise ConfigError(f"There is no model.stage={recipe.stage}; {choices(str(recipe.stage), STAGES)}.")
    return STAGES[recipe.stage](recipe, store)


def autoencode(recipe: Recipe, store: Store) -> Stage:
    """An autoencoder on images.

    Raises:
        ConfigError: the encoder is no autoencoder.
    """
    config, data = recipe.config, recipe.data
    network = build_encoder(config, data)
    expect_output(network, "image", "model=autoencoder", "encoder=autoencoder")
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
        on_nan=config.on_nan,
    )
    return Stage(task, data, partial(_save_network, network), partial(autoencoder_figures, network))


def classify(recipe: Recipe, store: Store) -> Stage:
    """A classifier on images.

    Raises:
        ConfigError: the encoder is no classifier, or the data have no classes.
    """
    config, data = recipe.config, recipe.data
    concept = class_concept(config, data)
    check_learnable(data, [concept])
    network = build_encoder(config, data)
    expect_output(network, "logits", "model=classifier", "encoder=classifier")
    column = data.concepts.index(concept)
    task = Classify(network, column, instantiate(config.optimizer), instantiate(config.scheduler), config.on_nan)
    return Stage(task, data, partial(_save_network, network), provenance={"concept": concept})


def head(recipe: Recipe, store: Store) -> Stage:
    """What lies behind the layer of a network that comes trained, as a classifier on cached latents.

    A reduction has no part in it: all of the activation reaches the head, whatever the translator will see of it.

    Raises:
        ConfigError: the encoder is no classifier from outside, has another number of classes than the data, or nothing
            to train behind its layer; or the data have no classes.
    """
    config, data = recipe.config, recipe.data
    concept = class_concept(config, data)
    check_learnable(data, [concept])
    encoder = store.get(recipe.encoder) if config.first_stage.get("recipe") is None else None
    if not isinstance(encoder, Cut):
        raise ConfigError(
            "model=head trains the last layers of a network that comes trained: choose encoder=torchvision/<name>, "
            "encoder=efficientnet_lite0 or encoder=module."
        )
    expect_output(encoder, "logits", "model=head", "a classifier")
    classes, outputs = len(data.classes[concept]), n_outputs(encoder, data)
    if outputs != classes:
        raise ConfigError(
            f"The network has {outputs} classes and {concept} has {classes}: add encoder.network.n_classes=data, which "
            "gives it a last layer for them."
        )
    for warning in input_warnings(config, encoder, data):
        warn_once(warning)
    size, channels = encoder.image_size, encoder.channels
    whole = Cut(encoder.network, encoder.layer, image_size=size, channels=channels, preprocess=encoder.preprocess)
    behind = Behind(whole)
    latents = _latents(recipe, whole, batches="labelled")
    column = data.concepts.index(concept)
    task = Classify(behind, column, instantiate(config.optimizer), instantiate(config.scheduler), config.on_nan)
    provenance = {"concept": concept, "trained": behind.trained}
    return Stage(task, latents, partial(_save_network, encoder), provenance=provenance)


def interpret(recipe: Recipe, store: Store) -> Stage:
    """A translator on the latents of a frozen encoder.

    Raises:
        FactorError: the factors do not fit the latent or the data.
        ShapeError, NonFiniteError: the encoder does not do what it says.
    """
    config, data = recipe.config, recipe.data
    # All that can be wrong with the configuration is found before an encoder is trained for an hour.
    stated = OmegaConf.select(config, "encoder.latent_dim") if config.first_stage.get("path") is None else None
    if stated is not None:
        build_factors(config, stated, data)
    if config.flow.get("components") and get_object(config.model.loss._target_).batches != "singles":
        raise ConfigError("A shared factor is correlated in a Gaussian: set flow.components=0, or choose model=unsup.")
    images = few_images(data)
    encoder = store.get(recipe.encoder)
    if not isinstance(encoder, Encoder):
        raise CheckpointError(
            f"The model folder holds a {type(encoder).__name__}, which encodes nothing: name another."
        )
    z = check_encoder(encoder, images)
    for warning in (*input_warnings(config, encoder, data), *latent_warnings(z, config.model.latent_noise)):
        warn_once(warning)
    latents = _latents(recipe, encoder, noise=config.model.latent_noise)
    encoder_id = latents.cache_key
    factors = build_factors(config, encoder.latent_dim, data, partial(latents.latents, "train"))
    interpreter = Interpreter(encoder, instantiate(config.flow, dim=encoder.latent_dim), factors)
    loss = instantiate(config.model.loss, **wanted(config.model.loss, factors=factors, density=interpreter.density))
    latents = latents.giving(loss.batches, factors, interpreter.encoder)  # frozen
    task = Interpret(
        interpreter,
        loss,
        encoder_id,
        instantiate(config.optimizer),
        instantiate(config.scheduler),
        compiled=config.model.compile,
        on_nan=config.on_nan,
    )
    provenance = {
        "encoder": encoder_id,
        "factors": dict(factors),
        "latents": {"noise_in_training": latents.noise, "likelihoods_of": "clean posterior samples"},
    }
    draw = partial(interpreter_figures, interpreter) if encoder.output == "image" else None
    transfer = _transfer(recipe, store, interpreter) if factors.concepts else []
    return Stage(task, latents, interpreter.save_pretrained, draw, transfer, provenance)


def _save_network(network: nn.Module, folder: Path) -> None:
    serialization.save(network, folder, {"network": serialization.describe(network)})


def _latents(recipe: Recipe, encoder: Encoder, **options: Any) -> LatentData:
    config, data = recipe.config, recipe.data
    return LatentData(
        data,
        encoder,
        cache=None if config.latents == "online" else Path(config.paths.cache) / "latents",
        cache_key=serialization.fingerprint(encoder),
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        num_workers=data.num_workers if config.latents == "online" else 0,
        seed=config.seed,
        **options,
    )


def _transfer(
    recipe: Recipe, store: Store, interpreter: Interpreter
) -> list[tuple[LightningModule, LightningDataModule]]:
    """Factor transfer between test images, where something tells a concept of a factor."""
    config, data, factors = recipe.config, recipe.data, interpreter.factors
    if interpreter.encoder.output == "image":
        if config.judge.get("recipe") is None and config.judge.get("path") is None:
            return []
        names = [concept for concept in factors.concepts if concept in data.classes]
        judges = judges_for(data.kinds, {concept: store.get(recipe.judge(concept)) for concept in names}, data.traits)
    elif interpreter.encoder.output == "values":
        log.warning("Factor transfer is left out: the network gives values, which name no class.")
        return []
    else:
        concept = class_concept(config, data) if data.classes else None
        outputs, classes = n_outputs(interpreter.encoder, data), len(data.classes.get(concept or "", ()))
        if outputs != classes:
            log.warning(
                "Factor transfer is left out: the network tells %d classes, which are not the %d of the data "
                "(first_stage.recipe=head with encoder.network.n_classes=data trains a head that tells those; "
                "numbers that are no classes are encoder.output=values).",
                outputs,
                classes,
            )
            return []
        judges = judges_for(data.kinds, {}, predicted=concept)
    judges = {name: judge for name, judge in judges.items() if name in (*factors.concepts, *data.traits)}
    if not judges:
        return []
    return [(Evaluate(interpreter, FactorTransfer(factors, judges, data.concepts)), SwapData(data))]


STAGES: dict[str, Callable[[Recipe, Store], Stage]] = {
    "autoencode": autoencode,
    "classify": classify,
    "head": head,
    "interpret": interpret,
}
