"""Gaussianity and independence: whether z̃ = T(z) is N(0, 1), as the likelihood asks for, on items T has not seen.

Symbols: z̃ (n, N) are the factors of n >= 2 items side by side, dimension by dimension standard normal and independent
if T is perfect. Statistics are in float64, correlations of groups in nats.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.special import digamma
from torch import Tensor

from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.metrics.likelihood import factor_nll


class Moments(NamedTuple):
    """Mean, standard deviation, skewness and excess kurtosis of each dimension (N,): 0, 1, 0 and 0 of N(0, 1)."""

    mean: Tensor
    std: Tensor
    skewness: Tensor
    kurtosis: Tensor


def moments(z_tilde: Tensor) -> Moments:
    """Return the moments of the dimensions of z̃; a dimension that does not vary has skewness and kurtosis 0."""
    found = stats.describe(_items(z_tilde).numpy(), ddof=0)
    mean, variance, *shape = map(torch.from_numpy, (found.mean, found.variance, found.skewness, found.kurtosis))
    return Moments(mean, variance.sqrt(), *(values.nan_to_num(0.0) for values in shape))


def kolmogorov_smirnov(z_tilde: Tensor) -> Tensor:
    """Return ``D_i = sup_x |P_n(z̃_i <= x) - Φ(x)|`` of each dimension (N,), in [0, 1].

    Samples of N(0, 1) exceed 1.36 / sqrt(n) in one dimension of twenty.
    """
    z = _items(z_tilde).numpy()
    # The asymptotic method: the p-value, which is not asked for, is otherwise what costs time.
    return torch.from_numpy(np.atleast_1d(stats.ks_1samp(z, stats.norm.cdf, axis=0, method="asymp").statistic))


def correlation_matrix(z_tilde: Tensor) -> Tensor:
    """Return Pearson's correlations (N, N); a dimension that does not vary has none with others."""
    z = _items(z_tilde)
    z = z - z.mean(0)
    z = (z / z.norm(dim=0)).nan_to_num(0.0)
    return (z.T @ z).fill_diagonal_(1.0)


def correlation(z_tilde: Tensor, factors: Factors) -> dict[str, float]:
    """Return root mean square correlations of two dimensions, in [0, 1].

    ``within`` a factor, 0 if every factor has one dimension; ``between`` two factors, 0 if there is one factor; and by
    ``chance``, which n items of independent dimensions have: 1 / sqrt(n - 1).
    """
    factors.split(z_tilde)  # which knows whether z̃ fits
    matrix = correlation_matrix(z_tilde)
    owner = torch.arange(len(factors)).repeat_interleave(torch.tensor(list(factors.values())))
    same = owner[:, None] == owner
    within = matrix[same & ~torch.eye(len(matrix), dtype=torch.bool)]
    return {"within": _rms(within), "between": _rms(matrix[~same]), "chance": 1 / math.sqrt(len(z_tilde) - 1)}


def total_correlation(z_tilde: Tensor, factors: Factors) -> dict[str, float]:
    """Return the mutual information of dimensions in nats, were they Gaussian: ``between`` factors, and in ``total``.

    With R their correlation matrix, the total is ``-1/2 log det R`` (Watanabe, IBM Journal 1960), and between factors
    as wholes it is ``1/2 (Σ_F log det R_F - log det R)``; infinity if dimensions determine one another. ``chance`` is
    what n items of N independent dimensions have in total on average, about N (N - 1) / (4 n): ``1/2 Σ_i ψ((n - 1) / 2)
    - ψ((n - i) / 2)`` for i = 1, ..., N.

    Raises:
        ShapeError: z̃ does not fit the factors, or n <= N, where every sample has linear dependences.
    """
    factors.split(z_tilde)
    matrix = correlation_matrix(z_tilde)
    n, dim = z_tilde.shape
    if n <= dim:
        raise ShapeError(
            f"The total correlation of {dim} dimensions needs more than {dim} items, got {n}: take more of the split."
        )
    ends = np.cumsum(list(factors.values())).tolist()
    blocks = [matrix[end - size : end, end - size : end] for end, size in zip(ends, factors.values())]
    whole, parts = _logdet(matrix), sum(_logdet(block) for block in blocks)
    between = 0.5 * (parts - whole) if math.isfinite(whole) else math.inf
    chance = 0.5 * float(np.sum(digamma((n - 1) / 2) - digamma((n - np.arange(1, dim + 1)) / 2)))
    return {"total": max(-0.5 * whole, 0.0), "between": max(between, 0.0), "chance": chance}


def gaussianity(z_tilde: Tensor, factors: Factors) -> dict[str, float]:
    """Return how Gaussian and how independent the dimensions of n > N items z̃ are, in a few numbers.

    ``mean``, ``std``, ``skewness``, ``kurtosis``: root mean square over dimensions of the deviation from N(0, 1);
    ``ks`` and ``ks_worst``: mean and largest Kolmogorov-Smirnov statistic, and ``ks_chance``, which samples of N(0, 1)
    exceed in one dimension of twenty; ``correlation/...``, ``total_correlation/...`` and ``nll/{factor}``: see the
    functions.

    Raises:
        ShapeError: z̃ does not fit the factors, or n <= N.
    """
    deviation = moments(z_tilde)
    ks = kolmogorov_smirnov(z_tilde)
    groups = {
        "correlation": correlation(z_tilde, factors),
        "total_correlation": total_correlation(z_tilde, factors),
    }
    return {
        "mean": _rms(deviation.mean),
        "std": _rms(deviation.std - 1),
        "skewness": _rms(deviation.skewness),
        "kurtosis": _rms(deviation.kurtosis),
        "ks": ks.mean().item(),
        "ks_worst": ks.max().item(),
        "ks_chance": 1.36 / math.sqrt(len(z_tilde)),
        **{f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()},
        **{f"nll/{name}": value.mean().item() for name, value in factor_nll(factors.split(z_tilde)).items()},
    }


def _items(z_tilde: Tensor) -> Tensor:
    if z_tilde.dim() != 2 or len(z_tilde) < 2:
        raise ShapeError(f"Statistics of z̃ need two or more items (n, N), got {tuple(z_tilde.shape)}.")
    bad = int((~torch.isfinite(z_tilde)).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"Statistics of z̃ need finite items, {bad} of {len(z_tilde)} are not: see what T got for them."
        )
    return z_tilde.detach().cpu().double()


def _logdet(matrix: Tensor) -> float:
    """Return log det of a correlation matrix; minus infinity where it is singular."""
    eigenvalues = torch.linalg.eigvalsh(matrix)
    # z̃ was float32: a part of the variance below the square of its rounding is none.
    singular = eigenvalues[0] <= len(matrix) * torch.finfo(torch.float32).eps ** 2
    return -math.inf if singular else eigenvalues.log().sum().item()


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().nan_to_num(0.0).item()
