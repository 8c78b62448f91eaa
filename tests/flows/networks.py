"""Bijections of every kind, fresh and as training leaves them."""

from collections.abc import Callable
from functools import partial

import torch

from iin_lightning.flows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Conditioner,
    PaperTranslator,
    Permutation,
    ResidualConditioner,
    Rotation,
    RotationBlock,
    ShuffleBlock,
    Translator,
)
from iin_lightning.flows.coupling import Networks


def mlp(hidden: int, depth: int) -> Networks:
    """The paper's networks of a coupling, as its constructor takes them."""
    return partial(Conditioner, hidden=hidden, depth=depth)


def residual(hidden: int, depth: int) -> Networks:
    return partial(ResidualConditioner, hidden=hidden, depth=depth)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


BIJECTORS: dict[str, Callable[[int], Bijector]] = {
    "actnorm": ActNorm,
    "coupling_first": lambda n: AffineCoupling(n, "first", mlp(16, 1)),
    "coupling_second": lambda n: AffineCoupling(n, "second", mlp(16, 0)),
    "coupling_residual": lambda n: AffineCoupling(n, "first", residual(16, 2)),
    "permutation": lambda n: Permutation.random(n, generator()),
    "rotation": lambda n: Rotation(n, generator()),
    "rotation_block": lambda n: RotationBlock(n, 16, 1, generator()),
    "shuffle_block": lambda n: ShuffleBlock(n, 16, 2, generator()),
    "chain": lambda n: Chain([ActNorm(n), Chain([AffineCoupling(n, "second", mlp(16, 1))]), ActNorm(n)]),
    "translator": lambda n: Translator(n, n_blocks=3, hidden=32),
    "paper": lambda n: PaperTranslator(n, n_blocks=3, hidden=32),
    "reversible": lambda n: Translator(n, n_blocks=3, hidden=32, reversible=True),
}


def trained(name: str, dim: int) -> Bijector:
    """A bijection as training would leave it: nothing is zero, nothing waits for a first batch.

    With twice the noise, three blocks stretch some directions 300-fold, which float32 cannot undo to 1e-4,
    whatever the code.
    """
    torch.manual_seed(dim)
    bijector = BIJECTORS[name](dim).train()
    bijector(torch.randn(64, dim))
    with torch.no_grad():
        for parameter in bijector.parameters():
            fan_in = 10 if parameter.ndim == 1 else parameter.shape[-2]
            parameter.add_(0.5 * torch.randn_like(parameter) / fan_in**0.5)
    return bijector.eval()
