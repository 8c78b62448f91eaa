"""The posterior of z against torch.distributions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from iin_lightning.encoders import DiagonalGaussian
from iin_lightning.seeding import Noise


def test_the_kl_is_that_of_torch_distributions():
    mean, logvar = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    posterior = DiagonalGaussian.from_logvar(mean, logvar)
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(posterior.kl(), expected)


def test_samples_have_its_mean_and_scale():
    mean, logvar = torch.tensor([[-3.0, 0.0, 2.0]]), torch.tensor([[-2.0, 0.0, 1.0]])
    posterior = DiagonalGaussian.from_logvar(mean.expand(20_000, 3), logvar.expand(20_000, 3))
    z = posterior.sample(Noise(0))
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.std(0), torch.exp(0.5 * logvar[0]), atol=0.05, rtol=0)


def test_noise_fixes_the_sample():
    posterior = DiagonalGaussian.from_logvar(torch.zeros(2, 3), torch.zeros(2, 3))
    first, second, other = (posterior.sample(Noise(seed)) for seed in (1, 1, 2))
    assert first.equal(second)
    assert not first.equal(other)


def test_a_point_mass_samples_its_mean_and_has_no_kl():
    mean = torch.randn(4, 3, requires_grad=True)
    posterior = DiagonalGaussian.deterministic(mean)
    assert posterior.sample().equal(mean)
    assert posterior.kl().equal(torch.zeros(4))
    (posterior.sample().sum() + posterior.kl().sum()).backward()
    torch.testing.assert_close(mean.grad, torch.ones(4, 3))


@pytest.mark.parametrize(("logvar", "scale"), [(-1e4, torch.exp(torch.tensor(-15.0))), (1e4, 148.4132)])
def test_extreme_variances_are_clamped_and_stay_finite(logvar, scale):
    logvar = torch.full((1, 2), logvar, requires_grad=True)
    posterior = DiagonalGaussian.from_logvar(torch.zeros(1, 2), logvar)
    torch.testing.assert_close(posterior.scale, torch.full((1, 2), float(scale)))
    posterior.kl().sum().backward()
    assert posterior.kl().isfinite().all()
    assert logvar.grad.isfinite().all()
