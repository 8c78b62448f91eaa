"""Tensors of other names and layouts into a network of ours: all of them, or an error that names which not."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from iin_lightning.errors import CheckpointError, NonFiniteError, listed

Names = Mapping[str, tuple[str, ...]]
"""Our tensor -> theirs, of which ours is made."""

Layout = Callable[[str, Sequence[Tensor]], Tensor]
"""Our name and their tensors -> a tensor of our shape."""


def transfer(tensors: Mapping[str, Tensor], network: nn.Module, names: Names, layout: Layout) -> None:
    """Give a network the weights of a foreign state dict.

    Args:
        tensors: theirs.
        network: ours, of the same sizes.
        names: a row for each tensor of ``network.state_dict()``.
        layout: how ours is made of theirs; may raise RuntimeError where shapes do not fit.

    Raises:
        CheckpointError: names that are not known or missing, or another shape.
        NonFiniteError: NaN or infinity, in theirs or in what ``layout`` makes of it.
    """
    check_names(tensors, names)
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


def check_names(tensors: Mapping[str, Tensor], names: Names) -> None:
    """Raise a CheckpointError unless a state dict has exactly the names of a table."""
    known = set(chain.from_iterable(names.values()))
    unknown = [name for name in tensors if name not in known]
    missing = sorted(known - tensors.keys())
    if unknown or missing:
        said = [f"has the unknown {listed(unknown)}"] if unknown else []
        said += [f"lacks {listed(missing)}"] if missing else []
        raise CheckpointError(f"The checkpoint {' and '.join(said)}. Nothing is guessed, so it is not converted.")


def shape_of(tensors: Mapping[str, Tensor], name: str, ndim: int) -> torch.Size:
    """The shape of a tensor that gives a network's sizes.

    Raises:
        CheckpointError: there is no such tensor, or it has another number of axes.
    """
    if name not in tensors:
        raise CheckpointError(f"The checkpoint lacks {name}, which gives the network's sizes.")
    if tensors[name].ndim != ndim:
        raise CheckpointError(f"{name} of the checkpoint must have {ndim} axes, not {tuple(tensors[name].shape)}.")
    return tensors[name].shape
