"""Round trip: how exactly the translator gives back what it was given."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric

from iin_lightning.factors import Factors
from iin_lightning.flows.base import Bijector
from iin_lightning.seeding import FIXED, generator

WIDE = 2.0  # standard deviations of the prior: further out than edits usually lead


class RoundTrip(Metric):
    """The worst |T^-1(T(z)) - z| over all latents and dimensions, in the units of z.

    Example:
        >>> from iin_lightning.flows.linear import Permutation
        >>> metric = RoundTrip()
        >>> metric.update(Permutation([2, 0, 1]), torch.randn(5, 3))
        >>> metric.compute().item()
        0.0
    """

    higher_is_better = False
    full_state_update = False
    worst: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("worst", torch.zeros(()), dist_reduce_fx="max")

    @torch.no_grad()
    def update(self, translator: Bijector, z: Tensor) -> None:
        """Take a batch of latents z (B,N)."""
        back = translator.inverse(translator(z)[0])[0]
        self.worst = torch.maximum(self.worst, (back - z).abs().max())

    def compute(self) -> Tensor:
        """See the class; NaN if any trip ended in NaN."""
        return self.worst


@torch.no_grad()
def edited(translator: Bijector, z: Tensor, factors: Factors) -> Tensor:
    """Latents as edits make them, whose round trip may be worse than that of data.

    Args:
        translator: T.
        z: (B, N), latents of data.
        factors: of z̃.

    Returns:
        (2B, N): T^-1 of z̃ in which one factor is another latent's, each factor in turn, and of z̃ ~ N(0, 2²).
    """
    z_tilde = translator(z)[0]
    turn = torch.arange(len(z), device=z.device) % len(factors)
    swapped = torch.where(factors.expand(one_hot(turn, len(factors)).bool()), z_tilde.roll(1, 0), z_tilde)
    wide = WIDE * torch.randn(z.shape, generator=generator(FIXED, "wide")).to(z_tilde)
    return translator.inverse(torch.cat([swapped, wide]))[0]
