"""What is seen of numbers and networks before anything is trained with them."""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.images import check_images
from iin_lightning.data.module import DataModule
from iin_lightning.distributed import is_main_process
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.cut import Cut
from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError

COUNTS = ("steps", "val_every", "batch_size")
RATES = ("lr", "warmup", "hold")
ZEROS = 0.01
"""Share of latents that are exactly 0 from which on it is said: by chance no latent is."""

log = logging.getLogger(__name__)


@cache
def warn_once(text: str) -> None:
    """Log a warning, once in a process: the networks that a run needs are of the same data."""
    if is_main_process():
        log.warning("%s", text)


def check_numbers(model: Mapping[str, Any], where: str) -> None:
    """See that numbers of a recipe are some, before anything is trained that it needs.

    Args:
        model: the keys of ``model``, as many as there are.
        where: they stand, for the error.

    Raises:
        ConfigError: where things are counted, no whole number from 1 on; or a text for another number.

    Example:
        >>> check_numbers({"steps": 1e3, "lr": 1e-3}, "model")
        Traceback (most recent call last):
        iin_lightning.errors.ConfigError: model.steps=1000.0 must be a whole number from 1 on, such as 1000.
    """
    for key in (key for key in COUNTS if key in model):
        value = model[key]
        if type(value) is not int or value < 1:  # true is an int, too
            such = int(value) if isinstance(value, float) and math.isfinite(value) and value >= 1 else 100
            raise ConfigError(f"{where}.{key}={value} must be a whole number from 1 on, such as {such}.")
    for key in (key for key in RATES if key in model):
        value = model[key]
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ConfigError(f"{where}.{key}={value} must be a number.")


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
    """See that an encoder gives finite latents of the dimension that it states, and G outputs of the kind.

    Args:
        encoder: any.
        images: a few held-out ones (B,C,H,W) in [-1,1].

    Returns:
        Their latents (B,N).

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
    """Refuse logits and values that are not (B, C), and images that are not (B, C, H, W).

    Raises:
        ShapeError: says what to type.
    """
    if outputs.ndim == (4 if kind == "image" else 2):
        return
    cure = "let it give (B, C, H, W), or say encoder.output=logits or encoder.output=values"
    if kind != "image":
        cure = "wrap it in a module whose forward averages over places, or say encoder.output=image if it makes images"
    raise ShapeError(f"encoder.output={kind}, but the network gives {tuple(outputs.shape)} for one image: {cure}.")


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


def expect_output(network: Encoder, output: str, model: str, encoder: str) -> None:
    """See that a network gives what a stage trains.

    Args:
        network: any.
        output: "image", "logits" or "values".
        model: the choice that trains it, for the error.
        encoder: one that would fit.

    Raises:
        ConfigError: it gives something else.
    """
    if network.output != output:
        raise ConfigError(
            f"{model} trains a network whose output is {output}, but {type(network).__name__} gives "
            f"{network.output}: choose {encoder}."
        )
