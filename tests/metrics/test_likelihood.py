"""Likelihoods of factors and strangers where the answer is known."""

import math

import pytest
import torch

from iin_lightning.factors import Factors
from iin_lightning.metrics.likelihood import factor_nll, typicality_auroc

FACTORS = Factors({"residual": 3, "digit": 2, "color": 1}, 6)


def normal(n=4000, dim=6, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_nll_of_a_factor_is_that_of_torch_distributions():
    z = 1.5 * normal(50)
    expected = -torch.distributions.Normal(0, 1).log_prob(z)
    nll = {name: of_factor.mean().item() for name, of_factor in factor_nll(FACTORS.split(z)).items()}
    for name, part in FACTORS.split(expected).items():
        assert nll[name] == pytest.approx(part.mean().item(), rel=1e-5)


def test_strangers_are_told_whether_they_are_less_likely_or_more():
    dim = 64
    nll = {scale: 0.5 * (scale * normal(500, dim, seed)).square().sum(1) for seed, scale in enumerate([1.0, 0.5, 2.0])}
    reference, inside = nll[1.0][:250], nll[1.0][250:]
    assert typicality_auroc(inside, nll[2.0], reference) > 0.99
    assert typicality_auroc(inside, nll[0.5], reference) > 0.99, "these are all more likely"
    assert typicality_auroc(inside, 0.5 * normal(500, dim, 9).square().sum(1), reference) == pytest.approx(0.5, abs=0.1)
    assert typicality_auroc(inside, torch.tensor([math.inf, math.nan]), reference) == 1
