"""Intervals for numbers that are computed from a table of draws by examples, both of them samples.

Weights (1 + R, n) say what each of n items counts: in the first row all the same, in the others as often as it was
drawn again with replacement. A statistic of weights of draws and of examples gives replicates (1 + R,).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.seeding import generator

REPEATS = 1000
BLOCK = 50  # replicates that are computed at once
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


def resample(count: int, *key: int | str) -> Tensor:
    """Draw weights (1 + R, count) in float64, whose rows sum to 1; the same key draws the same items again.

    Example:
        >>> weights = resample(4, 0, "examples")
        >>> weights.shape, weights[0].tolist(), weights.sum(1).unique().tolist()
        (torch.Size([1001, 4]), [0.25, 0.25, 0.25, 0.25], [1.0])
    """
    drawn = torch.randint(count, (REPEATS, count), generator=generator("bootstrap", *key))
    weights = torch.zeros(1 + REPEATS, count, dtype=torch.float64)
    weights[0] = 1 / count
    weights[1:].scatter_add_(1, drawn, torch.full(drawn.shape, 1 / count, dtype=torch.float64))
    return weights


def blocks(draws: Tensor, examples: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some rows of both weights at a time, so that memory does not grow with the number of replicates."""
    return zip(draws.split(BLOCK), examples.split(BLOCK))


def estimate(replicates: Tensor, highest: float = math.inf) -> Estimate:
    """Return a number in [0, ``highest``], the first of the replicates (1 + R,), and the interval of their middle 95 %.

    The interval is moved so that the mean of the replicates is the number: entropies and variances of a resample are
    biased, and the plain percentiles of a mutual information can leave it outside.

    References:
        Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007: draws and examples resampled together.

    Example:
        >>> squares = torch.randn(400).square()
        >>> found = estimate(resample(400, 0, "squares").float() @ squares)
        >>> found.low < 1 < found.high
        True
    """
    value, resampled = replicates[0], replicates[1:]
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=resampled.dtype)
    low, high = (resampled + (value - resampled.mean())).quantile(tails).clamp(0.0, highest).tolist()
    return Estimate(value.clamp(min=0.0).item(), low, high)  # rounding may leave it below 0
