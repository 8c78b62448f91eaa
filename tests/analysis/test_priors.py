import pytest
import torch

from iin_lightning.analysis.priors import fit_prior
from iin_lightning.errors import ConfigError
from iin_lightning.seeding import generator


def two_clusters(n=3000):
    key = generator(0)
    z = torch.randn(n, 4, generator=key) * torch.tensor([1.0, 0.5, 2.0, 1.0])
    z[:, 0] += torch.where(torch.arange(n) % 2 == 0, 6.0, -6.0)
    return z


@pytest.mark.parametrize("kind", ["standard", "gaussian", "mixture"])
def test_samples_are_a_function_of_the_seed(kind):
    prior = fit_prior(kind, two_clusters())
    assert torch.equal(prior.sample(50, 1), prior.sample(50, 1))
    assert not torch.equal(prior.sample(50, 1), prior.sample(50, 2))


def test_a_gaussian_has_the_mean_and_the_covariance_of_the_latents():
    z = two_clusters()
    samples = fit_prior("gaussian", z).sample(40000, 0)
    torch.testing.assert_close(samples.mean(0), z.mean(0), rtol=0, atol=0.15)
    torch.testing.assert_close(samples.T.cov(), z.T.cov(), rtol=0.05, atol=0.3)


def test_a_mixture_leaves_the_gap_between_clusters_empty_and_a_gaussian_fills_it():
    z = two_clusters()
    inside = {k: (fit_prior(k, z).sample(4000, 0)[:, 0].abs() < 2).float().mean() for k in ("gaussian", "mixture")}
    assert inside["gaussian"] > 0.2
    assert inside["mixture"] < 0.01


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="no prior 'flow'; allowed are: standard"):
        fit_prior("flow", two_clusters())
    with pytest.raises(ConfigError, match="30 latents of 4 dimensions are too few for 10 full covariances"):
        fit_prior("mixture", two_clusters(30))
