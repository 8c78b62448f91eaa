"""The authors' translator T: the same function in our coordinates, the residual moved to the front.

Three things differ, none of them the function: they store the scale of ActNorm, we its logarithm; their coupling
leaves the two halves exchanged, ours in place, so the exchange goes into our permutation; their four networks of a
block are two conditioners of two heads (s, t) here. And their residual is the last factor, ours the first: that is a
fixed permutation of z̃, which goes into the last block's. So T keeps its class, and nothing is appended to it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.convert_from.authors import shape_of, transfer
from iin_lightning.errors import CheckpointError
from iin_lightning.factors import RESIDUAL, Factors
from iin_lightning.flows.translator import PaperTranslator

BLOCK = "realnvp.flow.{}.flow"
# The linear layers of a coupling have even numbers, the activations between them odd ones.
PLACE = re.compile(r"realnvp\.flow\.(?P<block>\d+)\.(?:flow\.1\.[st]\.\d+\.main\.(?P<layer>\d*[02468])\.)?")


class Sizes(NamedTuple):
    """The sizes of a translator, in the order of its constructor."""

    dim: int
    n_blocks: int
    hidden: int
    depth: int


def translator(
    tensors: Mapping[str, Tensor], factors: Mapping[str, int] | None = None
) -> tuple[PaperTranslator, Factors]:
    """Build our translator with the weights of their state dict, and return the factors that it gives.

    ``T(z) = z̃_0 | z̃_1 | ... | z̃_K`` are the authors' factors, the residual, which is last there, as z̃_0. Shapes give
    every size of T, but not where a factor ends: ``factors`` is name -> dimension, the concepts in the order of the
    authors' training, and the residual, which may stand anywhere; None if all is residual.

    Raises:
        CheckpointError: names or shapes are not those of the authors' translator, or a permutation is none.
        FactorError: the dimensions do not sum to the latent's, or there is no residual.
        NonFiniteError: NaN or infinity among the weights, or a scale that is not positive.
    """
    sizes = _sizes(tensors)
    named = Factors.unsupervised(sizes.dim) if factors is None else Factors(factors, sizes.dim)
    network = PaperTranslator(*sizes)
    transfer(tensors, network, names(sizes.n_blocks, sizes.depth), _layout)
    last = network.get_buffer(f"blocks.{sizes.n_blocks - 1}.permutation.index")
    last.copy_(last.roll(named[RESIDUAL]))
    return network.eval(), named


def names(n_blocks: int, depth: int) -> dict[str, tuple[str, ...]]:
    """Return the table of T: our tensor -> theirs, s before t.

    Example:
        >>> names(n_blocks=1, depth=0)["blocks.0.coupling_2.conditioner.biases.1"]
        ('realnvp.flow.0.flow.1.s.1.main.2.bias', 'realnvp.flow.0.flow.1.t.1.main.2.bias')
    """
    table: dict[str, tuple[str, ...]] = {}
    for i in range(n_blocks):
        ours, theirs = f"blocks.{i}", BLOCK.format(i)
        for leaf, their_leaf in (("loc", "loc"), ("log_scale", "scale"), ("initialized", "initialized")):
            table[f"{ours}.actnorm.layer.{leaf}"] = (f"{theirs}.0.{their_leaf}",)
        for half in (0, 1):
            for layer in range(depth + 2):
                for leaves, leaf in (("weights", "weight"), ("biases", "bias")):
                    sources = (f"{theirs}.1.{net}.{half}.main.{2 * layer}.{leaf}" for net in "st")
                    table[f"{ours}.coupling_{half + 1}.conditioner.{leaves}.{layer}"] = tuple(sources)
        table[f"{ours}.permutation.index"] = tuple(f"{theirs}.2.{way}_shuffle_idx" for way in ("forward", "backward"))
    return table


def gather(name: str, theirs: Sequence[Tensor]) -> Tensor:
    """Bring their tensors, as the table names them, into our shape; ActNorm's scale is left a scale.

    It holds of weights, gradients and moments, of any tensor but a permutation.
    """
    if ".conditioner." not in name:
        return theirs[0].flatten() if theirs[0].ndim else theirs[0]
    # torch.nn.Linear has (out, in), ours (heads, in, out).
    return torch.stack([value.T if ".weights." in name else value for value in theirs])


def _layout(name: str, theirs: Sequence[Tensor]) -> Tensor:
    if name.endswith(".permutation.index"):
        return _permutation(name, *theirs)
    value = gather(name, theirs)
    if name.endswith(".log_scale"):
        return value.log()
    return value.bool() if name.endswith(".initialized") else value


def _permutation(name: str, forward: Tensor, backward: Tensor) -> Tensor:
    dim = forward.numel()
    if not (torch.equal(forward.sort().values, torch.arange(dim)) and torch.equal(forward.argsort(), backward)):
        raise CheckpointError(
            f"{BLOCK.format(name.split('.')[1])}.2.forward_shuffle_idx of the checkpoint is no permutation of 0, ..., "
            f"{dim - 1} whose inverse is backward_shuffle_idx: the file is damaged."
        )
    return (forward + dim // 2) % dim


def _sizes(tensors: Mapping[str, Tensor]) -> Sizes:
    _, dim, *_ = shape_of(tensors, f"{BLOCK.format(0)}.0.loc", 4)
    if dim % 2:
        raise CheckpointError(f"The checkpoint's latents have {dim} dimensions; the authors' couplings halve them.")
    hidden, _ = shape_of(tensors, f"{BLOCK.format(0)}.1.s.0.main.0.weight", 2)
    places = [place for name in tensors if (place := PLACE.match(name))]
    blocks, layers = {place["block"] for place in places}, {place["layer"] for place in places} - {None}
    return Sizes(dim, len(blocks), hidden, depth=max(len(layers) - 2, 0))
