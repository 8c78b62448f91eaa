"""Round trip: how exactly the translator gives back what it was given."""

import torch
from torch import Tensor
from torchmetrics import Metric

from iin_lightning.flows.base import Bijector


class RoundTrip(Metric):
    """The worst |T^-1(T(z)) - z| over all latents and dimensions, in the units of z.

    Example:
        >>> from iin_lightning.flows.permutation import Permutation
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
