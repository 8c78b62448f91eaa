"""One block of a translator: normalise, mix the dimensions, and transform either half by the other."""

from functools import partial

import torch

from iin_lightning.flows.actnorm import ActNorm
from iin_lightning.flows.base import Chain
from iin_lightning.flows.conditioner import Conditioner, ResidualConditioner
from iin_lightning.flows.coupling import AffineCoupling
from iin_lightning.flows.permutation import Permutation
from iin_lightning.flows.rotation import Rotation


class RotationBlock(Chain):
    """ActNorm, a learned rotation, and a coupling for either half, which start as the identity.

    Args:
        dim: N >= 2.
        hidden: width of the coupling networks.
        depth: number of their residual blocks.
        generator: where the first rotation is drawn from.

    Raises:
        ShapeError: ``dim`` is below 2.
        ConfigError: impossible widths.
    """

    def __init__(self, dim: int, hidden: int, depth: int, generator: torch.Generator) -> None:
        networks = partial(ResidualConditioner, hidden=hidden, depth=depth)
        super().__init__(
            {
                "actnorm": ActNorm(dim),
                "rotation": Rotation(dim, generator),
                "coupling_1": AffineCoupling(dim, "second", networks),
                "coupling_2": AffineCoupling(dim, "first", networks),
            }
        )


class ShuffleBlock(Chain):
    """The paper's: ActNorm, a coupling for either half, and a fixed shuffle.

    Args:
        dim: N >= 2.
        hidden: width of the coupling networks.
        depth: number of their hidden-to-hidden layers.
        generator: where the permutation is drawn from.

    Raises:
        ShapeError: ``dim`` is below 2.
        ConfigError: impossible widths.
    """

    def __init__(self, dim: int, hidden: int, depth: int, generator: torch.Generator) -> None:
        networks = partial(Conditioner, hidden=hidden, depth=depth)
        super().__init__(
            {
                "actnorm": ActNorm(dim),
                "coupling_1": AffineCoupling(dim, "second", networks),
                "coupling_2": AffineCoupling(dim, "first", networks),
                "permutation": Permutation.random(dim, generator),
            }
        )
