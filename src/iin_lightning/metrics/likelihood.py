"""Likelihood of latents: that of each factor, that of strangers, and the round trip through T that it stands on."""

from collections.abc import Mapping

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric

from iin_lightning.factors import Factors
from iin_lightning.flows.base import Bijector
from iin_lightning.losses.likelihood import standard_normal_nll
from iin_lightning.seeding import FIXED, generator

WIDE = 2.0  # standard deviations of the prior: further out than edits usually lead


def factor_nll(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return -log p of each factor z̃_F (n, N_F) under N(0, 1), in nats per dimension, in float64.

    It is 1.4189 if the factor is standard normal. log |det T'| is not in it, as it belongs to all factors together.
    """
    zero = torch.zeros(())
    return {name: standard_normal_nll(part.double(), zero) / part.shape[1] for name, part in parts.items()}


def typicality_auroc(inside: Tensor, outside: Tensor, reference: Tensor) -> float:
    """Return how well strangers (``outside``) are told by an untypical -log p (n,): area under the ROC curve.

    An item scores ``|-log p(z) - E_ref[-log p(z)]|``: a flow may find strangers *more* likely than what it was trained
    on, but the typical likelihood is that of the training items (``reference``). ``inside`` are held-out items of the
    data set that T was trained on. Infinity and NaN are as untypical as can be.

    References:
        Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality, 2019,
        arXiv 1906.02994.
    """
    untypical = (torch.cat([inside, outside]).double() - reference.double().mean()).abs().cpu()
    untypical = untypical.nan_to_num(nan=torch.finfo(torch.float64).max)  # the largest number in place of infinity, too
    return float(roc_auc_score((torch.arange(len(untypical)) >= len(inside)).numpy(), untypical.numpy()))


class RoundTrip(Metric):
    """Worst |T^-1(T(z)) - z| over all latents and dimensions, in the units of z; NaN if any trip ended in NaN."""

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
        """Return the worst."""
        return self.worst


@torch.no_grad()
def edited(translator: Bijector, z: Tensor, factors: Factors) -> Tensor:
    """Return latents (2B, N) as edits of z (B, N) make them, whose round trip may be worse than that of data.

    They are T^-1 of z̃ in which one factor is another latent's, each factor in turn, and of z̃ ~ N(0, 2²).
    """
    z_tilde = translator(z)[0]
    turn = torch.arange(len(z), device=z.device) % len(factors)
    swapped = torch.where(factors.expand(one_hot(turn, len(factors)).bool()), z_tilde.roll(1, 0), z_tilde)
    wide = WIDE * torch.randn(z.shape, generator=generator(FIXED, "wide")).to(z_tilde)
    return translator.inverse(torch.cat([swapped, wide]))[0]
