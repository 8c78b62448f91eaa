"""Frechet distances: closed forms, laws, and torch-fidelity's number on the same features."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.metrics.distances import GaussianStatistics, frechet_distance


def features(n, dim, seed=0):
    """Not normal, not centred, correlated."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(7))
    return (torch.randn(n, dim, generator=generator) @ mixing / dim**0.5 + 0.1 * seed).relu() + 0.3


def statistics(x, size=1000):
    state = GaussianStatistics(x.shape[1])
    for part in x.split(size):
        state.update(part)
    return state


def distance(a, b):
    a, b = statistics(a).compute(), statistics(b).compute()
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance).item()


def random_covariance(dim, rank=None):
    root = torch.randn(dim, rank or dim, dtype=torch.float64)
    return root @ root.T


@pytest.mark.parametrize("dim", [1, 2, 30])
def test_axis_aligned_gaussians_have_the_closed_form(dim):
    torch.manual_seed(0)
    mean_a, mean_b = torch.randn(2, dim, dtype=torch.float64)
    std_a, std_b = torch.rand(2, dim, dtype=torch.float64)
    expected = (mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()
    found = frechet_distance(mean_a, std_a.square().diag(), mean_b, std_b.square().diag())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rank", [3, 20])
def test_it_is_symmetric_zero_for_equals_and_finite_where_covariances_are_singular(rank):
    torch.manual_seed(2)
    mean_a, mean_b = torch.randn(2, 20, dtype=torch.float64)
    cov_a, cov_b = random_covariance(20, rank), random_covariance(20, rank)
    forth, back = frechet_distance(mean_a, cov_a, mean_b, cov_b), frechet_distance(mean_b, cov_b, mean_a, cov_a)
    assert forth.dtype == torch.float64
    assert forth > 0
    torch.testing.assert_close(forth, back, rtol=1e-10, atol=0)
    assert 0 <= frechet_distance(mean_a, cov_a, mean_a, cov_a) < 1e-12 * cov_a.trace()
    # Disjoint supports: nothing is shared, so the distance is the sum of the traces.
    a, b = torch.diag(torch.tensor([1.0, 2.0, 0.0, 0.0])), torch.diag(torch.tensor([0.0, 0.0, 4.0, 0.0]))
    assert frechet_distance(torch.zeros(4), a, torch.zeros(4), b).item() == pytest.approx(7, abs=1e-12)


def test_statistics_are_those_of_numpy_in_double_precision():
    # A mean far from 0 is where single precision fails.
    x = features(500, 6) + 300
    mean, covariance, n = statistics(x, size=64).compute()
    np.testing.assert_allclose(mean, x.double().numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-8, atol=1e-10)
    assert (n, mean.dtype, covariance.dtype) == (500, torch.float64, torch.float64)


def test_two_ranks_make_one():
    x = features(100, 5)
    one, two = statistics(x[:37]), statistics(x[37:])
    one.merge_state(two)
    merged, whole = one.compute(), statistics(x).compute()
    assert merged.n == 100
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("n", "dim", "tolerance"), [(400, 16, 1e-12), (20, 24, 1e-6)])
def test_it_is_the_number_of_torch_fidelity(n, dim, tolerance):
    a, b = features(n, dim, seed=1), features(n, dim, seed=2)
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(a.double()), fid_features_to_statistics(b.double()), False
    )
    with pytest.warns(UserWarning, match="20 features in 24") if n <= dim else nullcontext():
        assert distance(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=tolerance)


def test_features_that_are_none_are_refused():
    state = GaussianStatistics(3)
    with pytest.raises(ShapeError, match=r"\(B, 3\)"):
        state.update(torch.zeros(4, 2))
    with pytest.raises(NonFiniteError, match="for 1 of 4 images"):
        state.update(torch.tensor([[0.0] * 3] * 3 + [[0.0, torch.inf, torch.nan]]))
    assert state.count == 0
