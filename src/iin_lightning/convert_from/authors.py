"""A checkpoint file of the authors: read without running what it holds, recognised, transferred by a table of names."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from iin_lightning.bounded import read_torch
from iin_lightning.errors import CheckpointError, NonFiniteError, listed

MODEL = "model"

Kind = Literal["autoencoder", "classifier", "translator"]

# How names of tensors begin that the other kinds do not have.
MARKS: dict[Kind, tuple[str, ...]] = {
    "translator": ("realnvp.",),
    "classifier": ("classifier.",),
    "autoencoder": ("dense_decode.", "decoder_layers.", "image_layer."),
}

Names = Mapping[str, tuple[str, ...]]
"""Our tensor -> theirs, of which ours is made."""

Layout = Callable[[str, Sequence[Tensor]], Tensor]
"""Our name and their tensors -> a tensor of our shape; may raise RuntimeError where shapes do not fit."""


class Checkpoint(NamedTuple):
    """What a file of the authors' holds.

    Attributes:
        tensors: the state dict of the network, on the CPU.
        rest: names of what else is in the file, which is not converted: loss (the discriminator), optimizer.
        step: training steps, by the file's name ``model-<step>.ckpt``; None if it has no number.
        sha256: of the file, 64 hexadecimal digits.
    """

    tensors: dict[str, Tensor]
    rest: tuple[str, ...]
    step: int | None
    sha256: str


def read(path: Path) -> Checkpoint:
    """Read a file of ``torch.save``: a state dict, or a state dict under ``model`` beside other things.

    Containers of before torch 1.6 (the published files are of 1.4) and tensors of a GPU are read, too.

    Raises:
        CheckpointError: the file does not exist, is damaged, holds objects (which could run code), or no state dict.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path} is no file: name a checkpoint of the authors' training, logs/<run>/train/checkpoints/"
            "model-<step>.ckpt."
        )
    content = read_torch(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    nested = isinstance(content.get(MODEL), Mapping)
    tensors = content[MODEL] if nested else content
    odd = [str(name) for name, value in tensors.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd or not tensors:
        raise CheckpointError(
            f"{path} holds no state dict, alone or under {MODEL!r}: "
            + (f"no tensors are {listed(odd)}." if odd else "it is empty.")
        )
    step = re.search(r"-(\d+)$", path.stem)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rest = tuple(str(name) for name in content if name != MODEL) if nested else ()
    return Checkpoint(dict(tensors), rest, int(step[1]) if step else None, digest)


def kind_of(names: Iterable[str]) -> Kind:
    """Tell which of the authors' networks has tensors of these names.

    An autoencoder is one kind with or without spectral norm, which is its discriminator's; a translator with or
    without factors, whose tensors are the same.

    Raises:
        CheckpointError: none of the authors' networks has.

    Example:
        >>> kind_of(["feature_layers.0.sub_layers.0.weight", "classifier.weight"])
        'classifier'
    """
    names = list(names)
    for kind, marks in MARKS.items():
        if any(name.startswith(marks) for name in names):
            return kind
    raise CheckpointError(
        f"The checkpoint is of none of the authors' networks ({', '.join(MARKS)}): it has {listed(names)}. "
        "A network of your own needs no conversion: wrap it as an Encoder, and give it to Interpreter."
    )


def transfer(tensors: Mapping[str, Tensor], network: nn.Module, names: Names, layout: Layout) -> None:
    """Give a network of ours, of the same sizes, the weights of a state dict of theirs.

    Raises:
        CheckpointError: names that are not known or missing, or another shape.
        NonFiniteError: NaN or infinity, in theirs or in what ``layout`` makes of it.
    """
    _check_names(tensors, names)
    state: dict[str, Tensor] = {}
    wrong: list[str] = []
    broken: list[str] = []
    for name, target in network.state_dict().items():
        sources = [tensors[source] for source in names[name]]
        try:
            state[name] = layout(name, sources)
            fits = state[name].shape == target.shape
        except RuntimeError:  # torch.stack of unequal shapes, say
            fits = False
        if not fits:
            wrong += [f"{source} {tuple(value.shape)}" for source, value in zip(names[name], sources)]
        elif not state[name].isfinite().all():
            broken += names[name]
    if wrong:
        raise CheckpointError(
            f"These tensors do not fit the {type(network).__name__} whose sizes the checkpoint's other tensors give: "
            f"{listed(wrong)}."
        )
    if broken:
        raise NonFiniteError(
            f"The checkpoint has values that are not finite, or scales that have no logarithm, in {listed(broken)}: "
            "take an earlier one."
        )
    network.load_state_dict(state)


def shape_of(tensors: Mapping[str, Tensor], name: str, ndim: int) -> torch.Size:
    """Return the shape of a tensor that gives a network's sizes.

    Raises:
        CheckpointError: the tensor is missing, or has another number of axes.
    """
    if name not in tensors:
        raise CheckpointError(f"The checkpoint lacks {name}, which gives the network's sizes.")
    if tensors[name].ndim != ndim:
        raise CheckpointError(f"{name} of the checkpoint must have {ndim} axes, not {tuple(tensors[name].shape)}.")
    return tensors[name].shape


def _check_names(tensors: Mapping[str, Tensor], names: Names) -> None:
    known = set(chain.from_iterable(names.values()))
    unknown = [name for name in tensors if name not in known]
    missing = sorted(known - tensors.keys())
    if unknown or missing:
        faults = [f"has the unknown {listed(unknown)}"] if unknown else []
        faults += [f"lacks {listed(missing)}"] if missing else []
        raise CheckpointError(f"The checkpoint {' and '.join(faults)}. Nothing is guessed, so it is not converted.")
