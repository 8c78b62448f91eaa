"""Gaussianity and independence: whether z̃ = T(z) is N(0, 1), as the likelihood asks for, on items T has not seen.

Symbols: z̃ (n, N) are the factors of n items side by side, dimension by dimension standard normal and independent if T
is perfect. Statistics are in float64; likelihoods and correlations of groups are in nats.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.special import digamma
from sklearn.metrics import roc_auc_score
from torch import Tensor

from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.factors import Factors


class Moments(NamedTuple):
    """Mean, standard deviation, skewness and excess kurtosis of each dimension (N,): 0, 1, 0 and 0 of N(0, 1)."""

    mean: Tensor
    std: Tensor
    skewness: Tensor
    kurtosis: Tensor


def moments(z_tilde: Tensor) -> Moments:
    """Moments of the dimensions of z̃ (n, N), n >= 2; one that does not vary has skewness and kurtosis 0 (scipy warns).

    Example:
        >>> moments(torch.tensor([[-1.0], [1.0]])).std
        tensor([1.], dtype=torch.float64)
    """
    found = stats.describe(_items(z_tilde).numpy(), ddof=0)
    mean, variance, *shape = map(torch.from_numpy, (found.mean, found.variance, found.skewness, found.kurtosis))
    return Moments(mean, variance.sqrt(), *(values.nan_to_num(0.0) for values in shape))


def kolmogorov_smirnov(z_tilde: Tensor) -> Tensor:
    """Largest difference between the distribution function of each dimension and that of N(0, 1).

    ``D_i = sup_x |P_n(z̃_i <= x) - Φ(x)|``; samples of N(0, 1) exceed 1.36 / sqrt(n) in one dimension of twenty.

    Args:
        z_tilde: z̃ (n, N), n >= 2.

    Returns:
        (N,) in [0, 1].

    Example:
        >>> kolmogorov_smirnov(torch.full((4, 1), 9.0))
        tensor([1.], dtype=torch.float64)
    """
    z = _items(z_tilde).numpy()
    # The asymptotic method: the p-value, which is not asked for, is otherwise what costs time.
    return torch.from_numpy(np.atleast_1d(stats.ks_1samp(z, stats.norm.cdf, axis=0, method="asymp").statistic))


def correlation_matrix(z_tilde: Tensor) -> Tensor:
    """Pearson's correlations (N, N) of the dimensions of z̃ (n, N); one that does not vary has none with others.

    Example:
        >>> correlation_matrix(torch.tensor([[0.0, 1.0, 5.0], [1.0, 3.0, 5.0]]))[0].round(decimals=6).tolist()
        [1.0, 1.0, 0.0]
    """
    z = _items(z_tilde)
    z = z - z.mean(0)
    z = (z / z.norm(dim=0)).nan_to_num(0.0)
    return (z.T @ z).fill_diagonal_(1.0)


class Correlation(NamedTuple):
    """Root mean square correlation of two dimensions, in [0, 1].

    Attributes:
        within: of one factor; 0 if every factor has one dimension.
        between: of two factors; 0 if there is one factor.
        chance: what n items of independent dimensions have, 1 / sqrt(n - 1).
    """

    within: float
    between: float
    chance: float


def correlation(z_tilde: Tensor, factors: Factors) -> Correlation:
    """How strongly dimensions are correlated within factors and between them.

    Args:
        z_tilde: z̃ (n, N), n >= 2.
        factors: which dimensions are of one factor.

    Raises:
        ShapeError: z̃ does not fit the factors, or n < 2.

    Example:
        >>> z = torch.randn(1000, 1).repeat(1, 3) * torch.tensor([1.0, -2.0, 0.5])
        >>> result = correlation(z, Factors({"residual": 2, "digit": 1}, 3))
        >>> round(result.within, 3), round(result.between, 3)
        (1.0, 1.0)
    """
    matrix = _fitting(z_tilde, factors)
    owner = torch.arange(len(factors)).repeat_interleave(torch.tensor(list(factors.values())))
    same = owner[:, None] == owner
    within = matrix[same & ~torch.eye(len(matrix), dtype=torch.bool)]
    return Correlation(_rms(within), _rms(matrix[~same]), 1 / math.sqrt(len(z_tilde) - 1))


class TotalCorrelation(NamedTuple):
    """Dependence of the dimensions under a Gaussian, in nats: ``total = between + Σ_F within F``.

    Attributes:
        total: of all dimensions, ``-1/2 log det R``, where R is their correlation matrix.
        between: of the factors as wholes, ``1/2 (Σ_F log det R_F - log det R)``; 0 if they are independent.
        chance: what n items of N independent dimensions have in total on average, about N (N - 1) / (4 n):
            ``1/2 Σ_i ψ((n - 1) / 2) - ψ((n - i) / 2)`` for i = 1, ..., N.
    """

    total: float
    between: float
    chance: float


def total_correlation(z_tilde: Tensor, factors: Factors) -> TotalCorrelation:
    """Mutual information of all dimensions, and of all factors, were they jointly Gaussian.

    Args:
        z_tilde: z̃ (n, N) with more items than dimensions.
        factors: which dimensions are of one factor.

    Returns:
        Nats, each at least 0; infinity if dimensions determine one another.

    Raises:
        ShapeError: z̃ does not fit the factors, or n <= N, where every sample has linear dependences.

    References:
        Watanabe, Information Theoretical Analysis of Multivariate Correlation, IBM Journal 1960.

    Example:
        >>> a, b, c = torch.randn(3, 20000)
        >>> z = torch.stack([a, (a + b) / 2**0.5, c], dim=1)  # two of three dimensions correlate with 1/sqrt(2)
        >>> result = total_correlation(z, Factors({"residual": 2, "digit": 1}, 3))
        >>> abs(result.total - 0.3466) < 0.05, result.between < 0.01  # 1/2 log 2, inside the residual
        (True, True)
    """
    matrix = _fitting(z_tilde, factors)
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
    return TotalCorrelation(max(-0.5 * whole, 0.0), max(between, 0.0), chance)


def factor_nll(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Negative log-likelihood (n,) of each factor of n items under N(0, 1), in nats per dimension, in float64.

    ``1/2 |z̃_F|² / N_F + 1/2 log 2π``: 1.4189 if the factor is standard normal. log |det T'| is not in it, as it
    belongs to all factors together.

    Args:
        parts: name -> z̃_F (n, N_F), as ``Factors.split`` gives them.

    Example:
        >>> factor_nll({"residual": torch.zeros(3, 2)})
        {'residual': tensor([0.9189, 0.9189, 0.9189], dtype=torch.float64)}
    """
    constant = 0.5 * math.log(2 * math.pi)
    return {name: 0.5 * part.double().square().mean(1) + constant for name, part in parts.items()}


def typicality_auroc(inside: Tensor, outside: Tensor, reference: Tensor) -> float:
    """How well items of another data set are told by their untypical likelihood: area under the ROC curve.

    An item scores ``|-log p(z) - E_ref[-log p(z)]|``: a flow may find strangers *more* likely than what it was trained
    on, but the typical likelihood is that of the training items.

    Args:
        inside: -log p (n,) of held-out items of the data set that T was trained on, in nats.
        outside: -log p (m,) of items of another one; infinity and NaN are as untypical as can be.
        reference: -log p (r,) of items that T was trained on.

    Returns:
        In [0, 1]: 1 if all strangers are told, 0.5 if none.

    References:
        Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality, 2019,
        arXiv 1906.02994.

    Example:
        >>> typicality_auroc(torch.tensor([9.0, 11.0]), torch.tensor([2.0, 30.0]), torch.tensor([10.0]))
        1.0
    """
    untypical = (torch.cat([inside, outside]).double() - reference.double().mean()).abs().cpu()
    untypical = untypical.nan_to_num(nan=torch.finfo(torch.float64).max)  # the largest number in place of infinity, too
    return float(roc_auc_score((torch.arange(len(untypical)) >= len(inside)).numpy(), untypical.numpy()))


def gaussianity(z_tilde: Tensor, factors: Factors) -> dict[str, float]:
    """How Gaussian and how independent the dimensions of z̃ are, in a few numbers.

    Args:
        z_tilde: z̃ (n, N) with more items than dimensions.
        factors: which dimensions are of one factor.

    Returns:
        ``mean``, ``std``, ``skewness``, ``kurtosis``: root mean square over dimensions of the deviation from N(0, 1);
        ``ks`` and ``ks_worst``: mean and largest Kolmogorov-Smirnov statistic, and ``ks_chance``, which samples of
        N(0, 1) exceed in one dimension of twenty; ``correlation/...`` and ``total_correlation/...``: see
        `Correlation` and `TotalCorrelation`; ``nll/{factor}``: see `factor_nll`.

    Raises:
        ShapeError: z̃ does not fit the factors, or n <= N.

    Example:
        >>> result = gaussianity(torch.randn(2000, 3), Factors({"residual": 2, "digit": 1}, 3))
        >>> result["ks_worst"] < 2 * result["ks_chance"], round(result["nll/digit"], 1)
        (True, 1.4)
    """
    deviation = moments(z_tilde)
    ks = kolmogorov_smirnov(z_tilde)
    groups: dict[str, Any] = {
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
        **{f"{group}/{name}": value for group, values in groups.items() for name, value in values._asdict().items()},
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


def _fitting(z_tilde: Tensor, factors: Factors) -> Tensor:
    """The correlation matrix, if z̃ fits the factors."""
    factors.split(z_tilde)
    return correlation_matrix(z_tilde)


def _logdet(matrix: Tensor) -> float:
    """Log det of a correlation matrix; minus infinity where it is singular."""
    eigenvalues = torch.linalg.eigvalsh(matrix)
    # z̃ was float32: a part of the variance below the square of its rounding is none.
    singular = eigenvalues[0] <= len(matrix) * torch.finfo(torch.float32).eps ** 2
    return -math.inf if singular else eigenvalues.log().sum().item()


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().nan_to_num(0.0).item()
