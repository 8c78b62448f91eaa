"""From a configuration to built objects: beyond app/ nobody sees a DictConfig."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger

from iin_lightning.analysis.dimensions import factor_dimensions
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import DataModule
from iin_lightning.data.pairs import sharing_pairs
from iin_lightning.encoders.base import Encoder, plain
from iin_lightning.errors import ConfigError, FactorError, choices
from iin_lightning.factors import RESIDUAL, Factors
from iin_lightning.training.checkpoints import AtomicCheckpointIO

AUTO, WHOLE = "auto", "whole"
"""Of ``model.factors``: sized by the encoder; and one factor, which is the whole latent."""

AS_THE_DATA = "data"
"""Of ``encoder.network.n_classes``: as many as the data have."""


def class_concept(config: DictConfig, data: DataModule) -> str:
    """The concept that a classifier tells apart: ``model.concept``, or the data's first one with classes.

    Raises:
        ConfigError: the data have no classes, or not for that concept.
    """
    name = config.model.get("concept") or next(iter(data.classes), None)
    if name not in data.classes:
        raise ConfigError(
            f"A classifier needs a concept with classes; model.concept={name} is none of this data's: "
            f"{choices(str(name), data.classes)}."
        )
    return str(name)


def check_learnable(data: DataModule, concepts: Collection[str]) -> None:
    """See that concepts vary over the training images, and that pairs share them.

    Raises:
        ConfigError: one does not.
    """
    for name, why in data.unlearnable().items():
        if name in concepts:
            raise ConfigError(why)


def build_encoder(config: DictConfig, data: DataModule) -> Encoder:
    """A network for the data's images and classes, of which its yaml says nothing: fresh, or with weights from outside.

    Raises:
        ConfigError: the configuration names a model folder instead of a network.
    """
    if config.encoder is None:
        raise ConfigError(
            "encoder=interpreter is the network of a model folder (first_stage.path=<model folder>), which is "
            "explained as it is: to train one, choose another encoder."
        )
    channels, *shape = data.image_shape
    known: dict[str, Any] = {"channels": channels, "image_size": plain(shape)}
    if data.classes:
        known["n_classes"] = len(data.classes[class_concept(config, data)])
    wanted = inspect.signature(get_object(config.encoder._target_)).parameters
    told = {k: v for k, v in known.items() if k in wanted}
    if OmegaConf.select(config.encoder, "network.n_classes") == AS_THE_DATA:
        told["network"] = {"n_classes": len(data.classes[class_concept(config, data)])}
    network: Encoder = instantiate(config.encoder, **told)
    return network


def build_factors(
    config: DictConfig, latent_dim: int, data: DataModule, latents: Callable[[], LatentCache] | None = None
) -> Factors:
    """The factors that ``model.factors`` asks for.

    Where it is null, half of the latent is residual, and the concepts share the other half; where it is ``auto``, each
    concept gets what the encoder holds of it (Eq. 11); where it is ``whole``, all of it is residual.

    Args:
        config: of the run.
        latent_dim: N.
        data: whose concepts become factors.
        latents: gives those of the training images, which ``auto`` asks; None where there is no encoder yet.

    Raises:
        FactorError: a name that is no concept of the data, or dimensions that do not sum to the latent's.
        ConfigError: nothing can be learned of a concept.
    """
    dims = config.model.factors
    if dims == WHOLE:
        return Factors.unsupervised(latent_dim)
    check_learnable(data, data.concepts if dims is None or isinstance(dims, str) else dims)
    if isinstance(dims, str):
        if dims != AUTO:
            raise FactorError(f"model.factors={dims} is none of name: dimension, {AUTO}, {WHOLE}, and null.")
        if latents is not None:
            return Factors(factor_dimensions(sharing_pairs(latents())), latent_dim)
        dims = None  # until there is an encoder to ask
    if dims is None:
        if not data.concepts:
            raise FactorError("These data have no concepts to learn from pairs: train without (model=unsup).")
        each = latent_dim // 2 // len(data.concepts)
        named = dict.fromkeys(data.concepts, each)
        return Factors({RESIDUAL: latent_dim - sum(named.values())} | named, latent_dim)
    factors = Factors(OmegaConf.to_container(dims, resolve=True), latent_dim)  # type: ignore[arg-type]
    for name in factors.concepts:
        if name not in data.concepts:
            raise FactorError(f"These data have no concept {name!r} for a factor; {choices(name, data.concepts)}.")
    return factors


def be_deterministic(on: bool) -> None:
    """Let this process take algorithms that give the same bits at every run, or whichever it likes."""
    torch.use_deterministic_algorithms(on)
    if on:
        torch.backends.cudnn.benchmark = False  # which another job of this process may have left on
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses


def check_trainer(trainer: DictConfig) -> None:
    """See that this machine has what a trainer asks for, before anything is trained.

    Raises:
        ConfigError: there is no GPU, or not so many; or Lightning does not know a value.
    """
    accelerator, precision = str(trainer.get("accelerator")), str(trainer.get("precision"))
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not gpu:
        raise ConfigError(
            f"trainer.accelerator={accelerator} needs a GPU, and torch finds none on this machine: leave trainer=gpu "
            "and trainer=ddp out (a GPU is taken where there is one), or say trainer=cpu, or trainer=ddp_cpu for "
            "several processes."
        )
    if precision.startswith("16") and (accelerator == "cpu" or not gpu):
        raise ConfigError(
            f"trainer.precision={precision} is of GPUs, and this run is on the processor: leave it out, or say "
            "trainer.precision=bf16-mixed."
        )
    try:
        instantiate(trainer, logger=False, enable_checkpointing=False, benchmark=False)
    except Exception as error:  # Lightning's own words are for its own arguments, which are the keys of trainer
        cause = error.__cause__ or error
        raise ConfigError(
            f"trainer cannot be used as it is configured: {next(iter(str(cause).splitlines()), type(cause).__name__)}"
        ) from error


def build_trainer(
    config: DictConfig, loggers: list[Logger], callbacks: Mapping[str, Callback], folder: Path
) -> Trainer:
    """Lightning's trainer with the callbacks of the group and those given, for a run in a folder."""
    chosen = [instantiate(callback) for callback in config.callbacks.values()]
    trainer: Trainer = instantiate(
        config.trainer,
        # Which algorithm is the fastest may be another one at the next run.
        benchmark=config.trainer.benchmark and not config.deterministic,
        logger=loggers,
        callbacks=[*chosen, *callbacks.values()],
        plugins=[AtomicCheckpointIO()],
        # Where Lightning looks under SLURM for states of its own: not those that another project left here.
        default_root_dir=str(folder),
        enable_checkpointing=True,
    )
    return trainer
