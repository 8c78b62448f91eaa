"""Negative log-likelihoods of latents: single (Eq. 12 of the paper), in pairs (Eq. 7-9), and in groups of any size.

Symbols: z (B, N) is a latent, z̃ = T(z) its translation and logdet (B,) = log|det T'(z)|; a pair is (z_a, z_b); ρ in
[0, 1) is the correlation of a factor that both examples of a pair share (the paper's σ_ab).

All values are in nats, exact with every constant, summed over dimensions, a number for each example of the batch. The
paper prints both losses without the 1/2 of the Gaussian, and Eq. 12 with the sign of the first term turned round; the
functions here follow from its density (Eq. 1), and they are what the authors' own code minimises.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.factors import Factors, GroupBatch, PairBatch
from iin_lightning.layers.collective import gather_rows, rank

Translate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What a loss needs of T: z (B, N) -> z̃ (B, N), log|det T'(z)| (B,)."""


class Density(Protocol):
    """The log-density of factors that a loss asks for."""

    def log_prob(self, z_tilde: Tensor) -> Tensor:
        """Return nats (B,) of factors z̃ (B, N)."""


def standard_normal_nll(z_tilde: Tensor, logdet: Tensor) -> Tensor:
    """Return the negative log-likelihood (B,) of latents whose translations z̃ (B, N) are standard normal (Eq. 12).

    ``-log p(z) = 1/2 |z̃|^2 + N/2 log 2π - logdet``

    Example:
        >>> standard_normal_nll(torch.zeros(1, 2), torch.zeros(1))  # log 2π
        tensor([1.8379])
    """
    constant = z_tilde.shape[1] * math.log(2 * math.pi)
    return 0.5 * (z_tilde.square().sum(1) + constant) - logdet


def pair_nll(
    z_tilde_a: Tensor, z_tilde_b: Tensor, logdet_a: Tensor, logdet_b: Tensor, shared: Tensor, *, rho: float
) -> Tensor:
    """Return the negative log-likelihood (B,) of pairs whose shared dimensions are correlated (Eq. 7-9).

    ``-log p(z_a) - log p(z_b | z_a)``: z̃_a is standard normal, and in each dimension i

    ``z̃_b,i | z̃_a,i ~ N(ρ z̃_a,i, 1 - ρ^2)`` where shared, ``N(0, 1)`` where not,

    so that (z̃_a,i, z̃_b,i) is a bivariate normal with unit variances and correlation ρ or 0. ``shared`` is a bool mask
    (B, N) of *dimensions*; `Factors.expand` makes it of factors.

    Raises:
        ConfigError: ρ is outside [0, 1).

    Example:
        >>> a, b = torch.randn(2, 4, 3)
        >>> zero = torch.zeros(4)
        >>> apart = pair_nll(a, b, zero, zero, torch.zeros(4, 3, dtype=torch.bool), rho=0.975)
        >>> torch.allclose(apart, standard_normal_nll(a, zero) + standard_normal_nll(b, zero))
        True
    """
    _check_rho(rho)
    variance = 1 - rho**2
    deviation = z_tilde_b - rho * z_tilde_a * shared
    precision = torch.ones_like(deviation).masked_fill(shared, 1 / variance)
    log_variance = math.log(variance) * shared.sum(1).to(torch.promote_types(deviation.dtype, torch.float32))
    constant = z_tilde_b.shape[1] * math.log(2 * math.pi)
    nll_b = 0.5 * ((precision * deviation.square()).sum(1) + log_variance + constant) - logdet_b
    return standard_normal_nll(z_tilde_a, logdet_a) + nll_b


def group_nll(z_tilde: Tensor, logdet: Tensor, groups: Tensor, factors: Factors, *, rho: float) -> Tensor:
    """Return the negative log-likelihood of a batch in which the examples of a group are equally correlated.

    In each dimension of factor k the n examples x_i of a group are jointly normal with variances 1 and correlations ρ
    (examples without a group: standard normal), so that with S the sum of x_i over the group, and d = N_k,

    ``-log p(x_1, ..., x_n) = 1/2 [(sum_i |x_i|^2 - ρ |S|^2 / (1 + (n-1) ρ)) / (1 - ρ)``
    ``+ d ((n-1) log(1-ρ) + log(1 + (n-1) ρ))] + n d/2 log 2π``.

    Groups of two are the pairs of Eq. 7-9, groups of one are Eq. 1. ``groups`` is long (B, K+1), see `GroupBatch`.
    The result (B,) sums to the nats of the batch: each example carries its share of what its group has in common.

    Raises:
        ConfigError: ρ is outside [0, 1).

    References:
        Esser, Rombach and Ommer, CVPR 2020, arXiv 2004.13166, Eq. 2, applied to more than two examples.

    Example:
        >>> factors, z = Factors({"residual": 2, "digit": 1}, 3), torch.randn(2, 3)
        >>> zero, shared = torch.zeros(1), torch.tensor([[False, False, True]])
        >>> pair = pair_nll(z[:1], z[1:], zero, zero, shared, rho=0.9)
        >>> batch = group_nll(z, torch.zeros(2), torch.tensor([[-1, 7], [-1, 7]]), factors, rho=0.9)
        >>> torch.allclose(batch.sum(), pair.sum())
        True
    """
    _check_rho(rho)
    nll = -logdet
    for part, group in zip(factors.split(z_tilde).values(), groups.T):
        # A B x B table of who is with whom costs the same for ten classes and for thousands, and no count of them
        # leaves the device.
        alone = torch.eye(len(group), dtype=torch.bool, device=group.device)
        together = (((group == group[:, None]) & (group >= 0)) | alone).to(part)
        with torch.autocast(part.device.type, enabled=False):  # 1 / (1 - rho) would multiply what bf16 rounds off
            sums = together @ part
        n = together.sum(1)
        common = 1 + (n - 1) * rho
        square = (part.square().sum(1) - rho / common * (part * sums).sum(1)) / (1 - rho)
        log_variance = ((n - 1) * math.log1p(-rho) + common.log()) / n
        nll = nll + 0.5 * (square + part.shape[1] * (log_variance + math.log(2 * math.pi)))
    return nll


class MarginalLikelihood(nn.Module):
    """The unsupervised loss: negative log-likelihood of single latents, ``-log p(z̃) - logdet``.

    Args:
        density: of z̃; None: N(0, 1), see `standard_normal_nll`.
    """

    batches = "singles"

    def __init__(self, density: Density | None = None) -> None:
        super().__init__()
        self._of = (density,)  # in a tuple: its weights are the translator's, and no second copy of them is in a state

    def forward(self, translator: Translate, batch: Tensor) -> Tensor:
        """Return nats (B,) of latents (B, N)."""
        (density,), (z_tilde, logdet) = self._of, translator(batch)
        return standard_normal_nll(z_tilde, logdet) if density is None else -density.log_prob(z_tilde) - logdet


class PairLikelihood(nn.Module):
    """The paper's supervised loss: negative log-likelihood of pairs of latents, see `pair_nll`.

    Raises:
        ConfigError: ``rho`` is outside [0, 1).
        ShapeError: a batch does not fit the factors.

    Example:
        >>> loss = PairLikelihood(Factors({"residual": 2, "digit": 1}, latent_dim=3))
        >>> z = torch.randn(4, 3)
        >>> same_digit = torch.tensor([[False, True]]).expand(4, -1)
        >>> loss(lambda z: (z, torch.zeros(len(z))), PairBatch(z, z, same_digit)).shape
        torch.Size([4])
    """

    batches = "pairs"

    def __init__(self, factors: Factors, rho: float = 0.975) -> None:
        super().__init__()
        _check_rho(rho)
        self.factors, self.rho = factors, rho

    def forward(self, translator: Translate, batch: PairBatch) -> Tensor:
        """Return nats (B,) of pairs of latents (B, N)."""
        z_a, z_b, shared = batch
        expected = (len(z_a), self.factors.latent_dim)
        if z_a.shape != expected or z_b.shape != expected or len(shared) != len(z_a):
            raise ShapeError(
                f"{self.factors} needs pairs of latents (B, {self.factors.latent_dim}) with a mask "
                f"(B, {len(self.factors)}), got {tuple(z_a.shape)}, {tuple(z_b.shape)} and {tuple(shared.shape)}."
            )
        # Both halves in the same pass keep the matrix products large.
        z_tilde, logdet = translator(torch.cat([z_a, z_b]))
        (z_tilde_a, z_tilde_b), (logdet_a, logdet_b) = z_tilde.chunk(2), logdet.chunk(2)
        return pair_nll(z_tilde_a, z_tilde_b, logdet_a, logdet_b, self.factors.expand(shared), rho=self.rho)

    def extra_repr(self) -> str:
        """Show the factors and ρ."""
        return f"{self.factors}, rho={self.rho}"


class BatchLikelihood(PairLikelihood):
    """The default supervised loss: negative log-likelihood of whole batches, see `group_nll`.

    Where a pair compares two examples, a batch compares each example with all others of its class, over all processes
    and in the same pass. Held-out batches are pairs, for which it is `PairLikelihood`.

    Example:
        >>> loss = BatchLikelihood(Factors({"residual": 2, "digit": 1}, latent_dim=3))
        >>> groups = torch.tensor([[-1, 7], [-1, 7], [-1, 2], [-1, -1]])  # two sevens, a two, and an unknown digit
        >>> loss(lambda z: (z, torch.zeros(len(z))), GroupBatch(torch.randn(4, 3), groups)).shape
        torch.Size([4])
    """

    batches = "groups"

    def forward(self, translator: Translate, batch: GroupBatch | PairBatch) -> Tensor:
        """Return nats (B,) of latents, or of pairs of latents."""
        if isinstance(batch, PairBatch):
            return super().forward(translator, batch)
        z, groups = batch
        if z.shape[1:] != (self.factors.latent_dim,) or groups.shape != (len(z), len(self.factors)):
            raise ShapeError(
                f"{self.factors} needs latents (B, {self.factors.latent_dim}) with groups (B, {len(self.factors)}), "
                f"got {tuple(z.shape)} and {tuple(groups.shape)}."
            )
        z_tilde, logdet = translator(z)
        z_tilde, groups = gather_rows(z_tilde), gather_rows(groups)  # of all processes
        nll = group_nll(z_tilde, logdet.new_zeros(len(z_tilde)), groups, self.factors, rho=self.rho)
        return nll.narrow(0, rank() * len(z), len(z)) - logdet


def _check_rho(rho: float) -> None:
    if not 0 <= rho < 1:
        raise ConfigError(f"The correlation rho of shared factors lies in [0, 1), got {rho}; the paper has 0.975.")
