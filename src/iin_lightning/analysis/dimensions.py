"""Dimensions: how many of a latent's a concept deserves (Eq. 11, Tab. 1), before any translator is trained.

Symbols: (z^a, z^b) are the latents, each (n, N), of n pairs that share concept F; s_F in [-1, 1] is the score of the
concept and s_0 = 1 that of the residual; N_F is the dimension of its factor, and all N_F sum to N.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from iin_lightning.errors import ConfigError, FactorError, ShapeError, choices
from iin_lightning.factors import RESIDUAL

Method = Literal["covariance", "correlation"]
Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""Concept -> (z^a, z^b), each (n, N); n may differ from concept to concept."""


def factor_dimensions(pairs: Pairs, method: Method = "covariance", latents: Tensor | None = None) -> dict[str, int]:
    """Return the dimensions of the factors for the concepts whose pairs are given, at least 1 each, the residual first.

    ``N_F = N exp(s_F) / Σ_k exp(s_k)``, made whole by `whole_dimensions`; ``Factors(result, N)`` takes them. The
    softmax flattens: a concept that E does not hold (s_F = 0) still gets 1/e of the residual's dimensions, and a
    concept that fills E as many as the residual. ``method`` and ``latents``: see `factor_scores`.

    Raises:
        ConfigError, ShapeError: see `factor_scores`.
        FactorError: no concept, a concept called residual, or more factors than dimensions.

    Example:
        >>> a, b = torch.randn(2, 500, 12)
        >>> same_digit = torch.cat([a[:, :6], b[:, 6:]], dim=1)  # half of the dimensions hold the digit
        >>> factor_dimensions({"digit": (a, same_digit), "color": (a, b)})
        {'residual': 6, 'digit': 4, 'color': 2}
    """
    scores = factor_scores(pairs, method, latents)
    return whole_dimensions(dimension_shares(scores), next(iter(pairs.values()))[0].shape[1])


def factor_scores(pairs: Pairs, method: Method = "covariance", latents: Tensor | None = None) -> dict[str, float]:
    """Score how much of the latent examples have in common if they share a concept: s_F, and s_0 = 1 of the residual.

    ``correlation``: ``s_F = 1/N Σ_i Cov(z^a_i, z^b_i) / sqrt(Var(z^a_i) Var(z^b_i))``. Eq. 11 as printed lacks the 1/N;
    its scores reach N, and the softmax over them gives all dimensions to the residual.

    ``covariance``: ``s_F = Σ_i Cov(z^a_i, z^b_i) / Σ_i Var(z_i)``, which the authors' code computes. a and b are
    exchangeable, so both have the mean of the concept's pairs; the variance is that of ``latents`` (m, N), or of all
    the pairs. Dimensions count by their variance, so the score does not change when the latent space is rotated; that
    of ``correlation`` does not change when a dimension is scaled.

    Where each dimension belongs to one concept or to none and all vary alike, s_F is the concept's part of the N.

    Raises:
        ConfigError: the method does not exist.
        FactorError: no concept, or a concept called residual.
        ShapeError: latents that are not pairs (n, N) with n >= 2, or not all of one N.

    Example:
        >>> z = torch.randn(100, 4)
        >>> scores = factor_scores({"digit": (z, z), "color": (z, z.roll(1, 0))}, "correlation")
        >>> round(scores["digit"], 3), abs(scores["color"]) < 0.2
        (1.0, True)
    """
    if method not in get_args(Method):
        raise ConfigError(f"No method {method!r} estimates dimensions; {choices(method, get_args(Method))}.")
    _check(pairs)
    if method == "correlation":
        concepts = {name: _mean_correlation(a.double(), b.double()) for name, (a, b) in pairs.items()}
    else:
        every = torch.cat([z for pair in pairs.values() for z in pair]) if latents is None else latents
        variance = every.double().var(0, correction=0).sum()
        # A latent that never varies tells of nothing.
        concepts = {
            name: (_shared_covariance(a.double(), b.double()) / variance).nan_to_num(0.0)
            for name, (a, b) in pairs.items()
        }
    return {RESIDUAL: 1.0} | {name: score.item() for name, score in concepts.items()}


def score_errors(pairs: Pairs, method: Method = "covariance") -> dict[str, float]:
    """Return standard errors of `factor_scores` over independent pairs, by the delta method; that of the residual is 0.

    ``covariance``: ``std_i(c_i - s_F v_i) / (sqrt(n) mean_i v_i)`` with ``c_i = Σ_j z^a_ij z^b_ij`` and ``v_i = 1/2 Σ_j
    (z^a_ij)² + (z^b_ij)²`` about the common mean. ``correlation``: the same of each dimension, standardised, averaged
    over dimensions before the deviation is taken.

    Example:
        >>> a, b = torch.randn(2, 10_000, 1)
        >>> round(score_errors({"digit": (a, b)}, "correlation")["digit"], 3)  # 1 / sqrt(10,000)
        0.01
    """
    scores = factor_scores(pairs, method)
    errors = {RESIDUAL: 0.0}
    for name, pair in pairs.items():
        a, b = (z.double() - z.double().mean(0) for z in pair)
        if method == "correlation":
            a, b = (z / z.std(0, correction=0).clamp(min=1e-12) for z in (a, b))
        slope = (a * b).mean(0) if method == "correlation" else scores[name]
        terms = (a * b - slope * (a.square() + b.square()) / 2).sum(1)
        variance = (a.square() + b.square()).mean(0).sum() / 2  # of standardised dimensions their number
        errors[name] = (terms.std() / (len(a) ** 0.5 * variance)).nan_to_num(0.0).item()
    return errors


def dimension_shares(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the softmax of the scores: which part of the N dimensions each factor is due."""
    shares = torch.tensor(list(scores.values()), dtype=torch.float64).softmax(0)
    return dict(zip(scores, shares.tolist()))


def whole_dimensions(shares: Mapping[str, float], latent_dim: int) -> dict[str, int]:
    """Round shares, which sum to 1, to whole dimensions, each at least 1, that sum to N and stay close to the shares.

    Every factor gets the whole part of its quota, N times its share, and the largest remainders get what is left. The
    paper and its code give all that is left to the residual (in the code: to the last factor), so that it has up to K
    dimensions more than here and each concept at most one less.

    Raises:
        FactorError: more factors than dimensions.

    Example:
        >>> whole_dimensions({"residual": 0.55, "digit": 0.45, "color": 0.0}, 10)
        {'residual': 5, 'digit': 4, 'color': 1}
    """
    if latent_dim < len(shares):
        raise FactorError(
            f"The {len(shares)} factors {', '.join(shares)} need a dimension each, but the latent has {latent_dim}: "
            f"leave out concepts, or take encoder.latent_dim of at least {len(shares)}."
        )
    quota = {name: share * latent_dim for name, share in shares.items()}
    dims = {name: max(int(value), 1) for name, value in quota.items()}
    while (missing := latent_dim - sum(dims.values())) > 0:
        dims[max(dims, key=lambda name: quota[name] - dims[name])] += 1
    for _ in range(
        -missing
    ):  # factors that were lifted to 1 took too much: those furthest above their quota give it back
        dims[max((name for name in dims if dims[name] > 1), key=lambda name: dims[name] - quota[name])] -= 1
    return dims


def _mean_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over dimensions of Pearson's correlation; a dimension that does not vary counts as uncorrelated."""
    a, b = a - a.mean(0), b - b.mean(0)
    return ((a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt()).nan_to_num(0.0).mean()


def _shared_covariance(a: Tensor, b: Tensor) -> Tensor:
    """Covariance of a and b about their common mean, summed over dimensions."""
    mean = (a.mean(0) + b.mean(0)) / 2
    return ((a - mean) * (b - mean)).mean(0).sum()


def _check(pairs: Pairs) -> None:
    if not pairs or RESIDUAL in pairs:
        raise FactorError(
            f"Dimensions are estimated from pairs for one or more concepts, got {list(pairs) or 'none'}; the "
            f"{RESIDUAL} is what they leave over and has no pairs."
        )
    dim = next(iter(pairs.values()))[0].shape[-1]
    for name, (a, b) in pairs.items():
        if a.dim() != 2 or a.shape != b.shape or len(a) < 2 or a.shape[1] != dim:
            raise ShapeError(
                f"Concept {name!r} needs two or more pairs of latents (n, {dim}), got {tuple(a.shape)} and "
                f"{tuple(b.shape)}."
            )
