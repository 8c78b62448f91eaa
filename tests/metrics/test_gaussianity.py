"""Gaussianity and independence where the answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.metrics.gaussianity import (
    correlation,
    correlation_matrix,
    gaussianity,
    kolmogorov_smirnov,
    moments,
    total_correlation,
)

FACTORS = Factors({"residual": 3, "digit": 2, "color": 1}, 6)


def normal(n=4000, dim=6, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def correlated(matrix, n=50_000):
    torch.manual_seed(0)
    return MultivariateNormal(torch.zeros(len(matrix)), matrix).sample((n,))


def test_a_standard_normal_is_told_as_one():
    scores = gaussianity(normal(), FACTORS)
    assert all(scores[name] < 0.06 for name in ("mean", "std", "skewness"))
    assert scores["kurtosis"] < 0.15
    assert scores["ks"] < scores["ks_chance"] < 0.03
    for case in ("within", "between"):
        assert scores[f"correlation/{case}"] == pytest.approx(scores["correlation/chance"], rel=0.6)
    assert scores["total_correlation/total"] == pytest.approx(scores["total_correlation/chance"], rel=0.6)
    expected = 0.5 + 0.5 * math.log(2 * math.pi)
    assert all(scores[f"nll/{name}"] == pytest.approx(expected, abs=0.03) for name in FACTORS)


def test_moments_of_known_distributions():
    torch.manual_seed(0)
    uniform, exponential = torch.rand(100_000), torch.empty(100_000).exponential_()
    found = moments(torch.stack([uniform, exponential, 2 * normal(100_000, 1)[:, 0] + 1], 1))
    assert found.mean.tolist() == pytest.approx([0.5, 1, 1], abs=0.02)
    assert found.std.tolist() == pytest.approx([12**-0.5, 1, 2], abs=0.02)
    assert found.skewness.tolist() == pytest.approx([0, 2, 0], abs=0.1)
    assert found.kurtosis.tolist() == pytest.approx([-1.2, 6, 0], abs=0.6)


def test_a_dead_dimension_gives_numbers():
    z = normal(500)
    z[:, 2] = 0.3
    with pytest.warns(RuntimeWarning, match="nearly identical"):
        scores = gaussianity(z, FACTORS)
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["ks_worst"] > 0.6
    assert correlation_matrix(z)[2].tolist() == [0, 0, 1, 0, 0, 0]


def test_kolmogorov_smirnov_has_its_closed_form():
    # A shift by m moves the distribution function by at most 2 Φ(m/2) - 1.
    n = 20_000
    quantiles = torch.from_numpy(stats.norm.ppf((np.arange(n) + 0.5) / n))
    shifted = kolmogorov_smirnov(torch.stack([quantiles, quantiles + 1, quantiles - 0.2], 1))
    expected = [0, 2 * stats.norm.cdf(0.5) - 1, 2 * stats.norm.cdf(0.1) - 1]
    assert shifted.tolist() == pytest.approx(expected, abs=1e-4)


def test_correlations_are_told_apart_by_where_they_are():
    matrix = torch.eye(6)
    matrix[3, 4] = matrix[4, 3] = 0.8  # within digit, the one pair of its dimensions
    found = correlation(correlated(matrix), FACTORS)
    assert found["within"] == pytest.approx(0.8 / math.sqrt(4), abs=0.01), "4 pairs of dimensions are of one factor"
    assert found["between"] == pytest.approx(found["chance"], rel=0.6)
    matrix = torch.eye(6)
    matrix[0, 5] = matrix[5, 0] = 0.8  # residual and color
    found = correlation(correlated(matrix), FACTORS)
    assert found["between"] == pytest.approx(0.8 / math.sqrt(11), abs=0.01), "11 are of two"
    assert found["within"] == pytest.approx(found["chance"], rel=0.6)
    alone = correlation(normal(100), Factors.unsupervised(6))
    assert alone["between"] == 0


def test_total_correlation_has_its_closed_form_and_its_parts():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=generator)
    covariance = root @ root.T + torch.eye(6)
    found = total_correlation(correlated(covariance), FACTORS)
    scale = covariance.diagonal().rsqrt()
    matrix = (covariance * scale[:, None] * scale).double()
    assert found["total"] == pytest.approx(-0.5 * matrix.logdet().item(), rel=0.02)
    blocks = [matrix[:3, :3], matrix[3:5, 3:5]]
    within = sum(-0.5 * block.logdet().item() for block in blocks)
    assert found["total"] - found["between"] == pytest.approx(within, abs=0.01)


def test_total_correlation_of_chance():
    found = [total_correlation(normal(40, seed=seed), FACTORS) for seed in range(200)]
    assert np.mean([each["total"] for each in found]) == pytest.approx(found[0]["chance"], rel=0.05)


def test_dimensions_that_determine_one_another_are_infinitely_dependent():
    z = normal(100)
    z[:, 5] = z[:, 0] - z[:, 1]
    found = total_correlation(z, FACTORS)
    assert found["total"] == found["between"] == math.inf
    assert total_correlation(normal(100), Factors.unsupervised(6))["between"] == 0


@pytest.mark.parametrize("function", [correlation, total_correlation, gaussianity])
def test_what_does_not_fit_says_why(function):
    with pytest.raises(ShapeError, match="splits 6 dimensions"):
        function(normal(dim=5), FACTORS)
    with pytest.raises(ShapeError, match="two or more items"):
        function(normal(1), FACTORS)
    with pytest.raises(NonFiniteError, match="1 of 9 are not"):
        function(normal(9).index_fill(0, torch.tensor([3]), math.nan), FACTORS)
    with pytest.raises(ShapeError, match="more than 6 items, got 6"):
        total_correlation(normal(6), FACTORS)
