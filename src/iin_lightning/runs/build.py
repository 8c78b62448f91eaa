"""From a configuration to networks and factors, and what is checked of them before anything is trained."""

import inspect
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from iin_lightning.analysis.dimensions import factor_dimensions
from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.images import check_images
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import DataModule
from iin_lightning.data.pairs import sharing_pairs
from iin_lightning.distributed import is_main_process
from iin_lightning.encoders.base import Encoder, plain
from iin_lightning.encoders.cut import Cut
from iin_lightning.errors import ConfigError, FactorError, NonFiniteError, ShapeError, choices
from iin_lightning.factors import RESIDUAL, Factors

AUTO, WHOLE = "auto", "whole"
"""Of ``model.factors``: sized by the encoder; and one factor, which is the whole latent."""

AS_THE_DATA = "data"
"""Of ``encoder.network.n_classes``: as many as the data have."""

COUNTS = ("steps", "val_every", "batch_size")
RATES = ("lr", "warmup", "hold")
ZEROS = 0.01
"""Share of latents that are exactly 0 from which on a warning is given: by chance no latent is."""

log = logging.getLogger(__name__)


@cache
def warn_once(text: str) -> None:
    """Log a warning, once in a process: the networks that a run needs are of the same data."""
    if is_main_process():
        log.warning("%s", text)


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
    told = wanted(config.encoder, **known)
    if OmegaConf.select(config.encoder, "network.n_classes") == AS_THE_DATA:
        told["network"] = {"n_classes": len(data.classes[class_concept(config, data)])}
    network: Encoder = instantiate(config.encoder, **told)
    return network


def wanted(node: DictConfig, **known: Any) -> dict[str, Any]:
    """Of what is known, what the constructor of ``_target_`` asks for."""
    parameters = inspect.signature(get_object(node._target_)).parameters
    return {name: value for name, value in known.items() if name in parameters}


def build_factors(
    config: DictConfig, latent_dim: int, data: DataModule, latents: Callable[[], LatentCache] | None = None
) -> Factors:
    """The factors that ``model.factors`` asks for.

    Where it is null, half of the latent is residual, and the concepts share the other half; where it is ``auto``, each
    concept gets what the encoder holds of it in ``latents`` of training images (Eq. 11), or, as long as there are none,
    what null gives; where it is ``whole``, all of it is residual.

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
        dims = None
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


def check_learnable(data: DataModule, concepts: Collection[str]) -> None:
    """Refuse concepts that do not vary over the training images, or that pairs do not share.

    Raises:
        ConfigError: says which and why.
    """
    for name, why in data.unlearnable().items():
        if name in concepts:
            raise ConfigError(why)


def check_numbers(model: Mapping[str, Any], where: str) -> None:
    """Check the numbers of ``model`` before anything is trained.

    Raises:
        ConfigError: a count is no whole number from 1 on, or a rate no number.

    Example:
        >>> check_numbers({"steps": 1e3, "lr": 1e-3}, "model")
        Traceback (most recent call last):
        iin_lightning.errors.ConfigError: model.steps=1000.0 must be a whole number from 1 on, such as 1000.
    """
    for key in (key for key in COUNTS if key in model):
        value = model[key]
        if type(value) is not int or value < 1:  # true is an int, too
            example = int(value) if isinstance(value, float) and math.isfinite(value) and value >= 1 else 100
            raise ConfigError(f"{where}.{key}={value} must be a whole number from 1 on, such as {example}.")
    for key in (key for key in RATES if key in model):
        value = model[key]
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ConfigError(f"{where}.{key}={value} must be a number.")


def check_trainer(trainer: DictConfig) -> None:
    """Check that this machine has what a trainer asks for, before anything is trained.

    Raises:
        ConfigError: it has no GPU, or not so many; or Lightning does not know a value.
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


def few_images(data: DataModule, count: int = 24) -> Tensor:
    """The first held-out images (B,C,H,W).

    Raises:
        RangeError: a data set of the user's own gives them out of [-1,1].
    """
    source = data.source("val")
    images = source.draw(torch.arange(min(len(source), count)), None)
    check_images(images)
    return images


@torch.no_grad()
def n_outputs(encoder: Encoder, data: DataModule) -> int:
    """How many logits a network gives for an image of the data.

    Raises:
        ShapeError: they are not (B, classes).
    """
    outputs = encoder(data.source("val").draw(torch.arange(1), None))
    _check_output(outputs, encoder.output)
    return outputs.shape[1]


@torch.no_grad()
def check_encoder(encoder: Encoder, images: Tensor) -> Tensor:
    """The latents (B,N) of a few images (B,C,H,W), which must be finite and of the dimension that the encoder states.

    Raises:
        ShapeError: latents or outputs of another shape.
        NonFiniteError: NaN or infinity among them.
        ConfigError: it makes images, which are sampled as training goes on, and z alone is not enough for that.
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
    _check_output(encoder.decode(z[:1]) if encoder.output == "image" else encoder(images[:1]), encoder.output)
    return z


def _check_output(outputs: Tensor, kind: str) -> None:
    """Refuse logits and values that are not (B, C), and images that are not (B, C, H, W)."""
    if outputs.ndim == (4 if kind == "image" else 2):
        return
    cure = "let it give (B, C, H, W), or say encoder.output=logits or encoder.output=values"
    if kind != "image":
        cure = "wrap it in a module whose forward averages over places, or say encoder.output=image if it makes images"
    raise ShapeError(f"encoder.output={kind}, but the network gives {tuple(outputs.shape)} for one image: {cure}.")


def expect_output(network: Encoder, output: str, model: str, encoder: str) -> None:
    """Refuse a network whose output a model does not train, and name an encoder that fits.

    Raises:
        ConfigError: the output is another one.
    """
    if network.output != output:
        raise ConfigError(
            f"{model} trains a network whose output is {output}, but {type(network).__name__} gives "
            f"{network.output}: choose {encoder}."
        )


def latent_warnings(z: Tensor, noise: float) -> list[str]:
    """Whether latents (B,N), to which training adds noise, have a density."""
    zeros = float((z == 0).float().mean())
    if zeros < ZEROS or noise > 0:
        return []
    return [
        f"{zeros:.0%} of the latents are exactly 0, as behind a ReLU, and have no density there, so likelihoods mean "
        "little and swaps work half: cut the network in front of the ReLU (encoder.layer=<name>; python -m "
        "iin_lightning.look encoder=... lists them), or spread the latents (model.latent_noise=0.6)."
    ]


def input_warnings(config: DictConfig, encoder: Encoder, data: DataModule) -> list[str]:
    """Whether a network that was trained elsewhere gets images with less detail than it reads and the files have."""
    reads = getattr(encoder.preprocess, "size", None) if isinstance(encoder, Cut) else None
    key, node = "data", config.data
    while "base" in node:
        key, node = f"{key}.base", node.base
    files = data.base if isinstance(data, ChangedImages) else data
    if reads is None or "size" not in node or not isinstance(files, FileModule):
        return []
    side, shown = min(reads) if isinstance(reads, Sequence) else reads, min(data.image_shape[1:])
    if shown >= min(side, files.detail):
        return []
    return [
        f"The network reads images of {side} pixels and the files have {files.detail}, but between them images are "
        f"shrunk to {shown}, so it sees less than it was trained on: say {key}.size={reads}."
    ]
