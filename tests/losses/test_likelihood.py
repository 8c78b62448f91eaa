"""The likelihoods are exact, and what they are for works: planted factors come back."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.factors import Factors, GroupBatch, PairBatch
from iin_lightning.flows import Translator
from iin_lightning.losses.likelihood import (
    BatchLikelihood,
    MarginalLikelihood,
    PairLikelihood,
    group_nll,
    pair_nll,
    standard_normal_nll,
)

FACTORS = Factors({"residual": 3, "a": 2, "b": 3}, latent_dim=8)
N = FACTORS.latent_dim
MASKS = {
    "shares one": [[False, True, False]],
    "shares several, differs in the residual only": [[False, True, True]],
    "shares several, differs in one concept only": [[True, False, True]],
    "shares the residual only": [[True, False, False]],
    "shares none": [[False, False, False]],
    "shares all": [[True, True, True]],
    "each pair its own": [[bool(i & 1), bool(i & 2), bool(i & 4)] for i in range(8)],
}


def latents(batch: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    a, b = torch.randn(2, batch, N, dtype=torch.float64)
    logdet_a, logdet_b = torch.randn(2, batch, dtype=torch.float64)
    return a, b, logdet_a, logdet_b


def bivariate_nll(a: Tensor, b: Tensor, shared: Tensor, rho: float) -> Tensor:
    """Dimension by dimension, the pair is one draw from a bivariate normal."""
    correlation = rho * shared.double()
    ones = torch.ones_like(correlation)
    covariance = torch.stack([ones, correlation, correlation, ones], dim=-1).unflatten(-1, (2, 2))
    normal = MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)
    return -normal.log_prob(torch.stack([a, b], dim=-1)).sum(1)


def planted_linear(z: Tensor) -> tuple[Tensor, Tensor]:
    """A translator whose log-determinant is known: doubling."""
    return 2 * z, torch.full((len(z),), z.shape[1] * math.log(2), dtype=z.dtype)


@pytest.mark.parametrize("rho", [0.0, 0.975, 0.9999])
@pytest.mark.parametrize("case", MASKS)
def test_pair_nll_equals_bivariate_normals(case, rho):
    a, b, logdet_a, logdet_b = latents()
    shared = FACTORS.expand(torch.tensor(MASKS[case]).expand(8, -1))
    expected = bivariate_nll(a, b, shared, rho) - logdet_a - logdet_b
    found = pair_nll(a, b, logdet_a, logdet_b, shared, rho=rho)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)  # no constant of it is in float32


def test_standard_normal_nll_equals_torch_distributions():
    z_tilde, _, logdet, _ = latents()
    normal = torch.distributions.Normal(torch.zeros(()).double(), 1)
    expected = -normal.log_prob(z_tilde).sum(1) - logdet
    torch.testing.assert_close(standard_normal_nll(z_tilde, logdet), expected)


def test_the_pair_likelihood_is_symmetric():
    a, b, logdet_a, logdet_b = latents()
    shared = FACTORS.expand(torch.tensor(MASKS["each pair its own"]))
    there = pair_nll(a, b, logdet_a, logdet_b, shared, rho=0.9)
    back = pair_nll(b, a, logdet_b, logdet_a, shared, rho=0.9)
    torch.testing.assert_close(there, back)


def test_float32_agrees_with_float64_near_full_correlation():
    a, b, logdet_a, logdet_b = latents()
    shared = torch.ones(8, N, dtype=torch.bool)
    exact = pair_nll(a, b, logdet_a, logdet_b, shared, rho=0.9999)
    single = pair_nll(a.float(), b.float(), logdet_a.float(), logdet_b.float(), shared, rho=0.9999)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 8])
def test_the_modules_give_one_value_an_example_through_one_pass(batch):
    a, b, _, _ = latents(batch)
    mask = torch.tensor(MASKS["each pair its own"])[:batch]
    sizes = []

    def translator(z: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(z))
        return planted_linear(z)

    pair = PairLikelihood(FACTORS, rho=0.9)(translator, PairBatch(a, b, mask))
    assert sizes == [2 * batch]
    expected = bivariate_nll(2 * a, 2 * b, FACTORS.expand(mask), 0.9) - 2 * N * math.log(2)
    torch.testing.assert_close(pair, expected)
    marginal = MarginalLikelihood()(planted_linear, a)
    normal = torch.distributions.Normal(torch.zeros(()).double(), 0.5)  # what doubling makes standard
    torch.testing.assert_close(marginal, -normal.log_prob(a).sum(1))


@pytest.mark.parametrize("rho", [0.0, 0.975, 0.9999])
def test_group_nll_equals_one_normal_of_the_whole_batch(rho):
    """Groups of one to four, examples of no group, and factors that group the batch in ways of their own."""
    z, _, logdet, _ = latents()
    groups = torch.tensor(
        [[-1, 3, 9], [-1, 3, 8], [5, 3, 9], [5, 3, -1], [-1, 0, -1], [-1, 0, 9], [-1, 7, 2], [5, 1, 2]]
    )
    expected = -logdet.sum()
    for part, group in zip(FACTORS.split(z).values(), groups.T):
        together = (group == group[:, None]) & (group >= 0)
        covariance = (rho * together.double()).fill_diagonal_(1)
        normal = MultivariateNormal(torch.zeros(8, dtype=torch.float64), covariance)
        expected = expected - normal.log_prob(part.T).sum()
    found = group_nll(z, logdet, groups, FACTORS, rho=rho)
    assert found.shape == (8,)
    torch.testing.assert_close(found.sum(), expected, rtol=1e-11, atol=0)


def test_group_nll_is_as_exact_under_mixed_precision():
    z, _, logdet, _ = latents()
    groups = torch.arange(8).remainder(2)[:, None].expand(8, 3)
    exact = group_nll(z.float(), logdet.float(), groups, FACTORS, rho=0.975)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(group_nll(z.float(), logdet.float(), groups, FACTORS, rho=0.975), exact)


@pytest.mark.parametrize("case", MASKS)
def test_groups_of_two_are_pairs(case):
    a, b, logdet_a, logdet_b = latents()
    mask = torch.tensor(MASKS[case]).expand(8, -1)
    pair = torch.arange(8)[:, None].expand(8, 3)
    groups = torch.cat([pair.where(mask, -1), pair.where(mask, -1)])
    found = group_nll(torch.cat([a, b]), torch.cat([logdet_a, logdet_b]), groups, FACTORS, rho=0.975)
    expected = pair_nll(a, b, logdet_a, logdet_b, FACTORS.expand(mask), rho=0.975)
    torch.testing.assert_close(found[:8] + found[8:], expected, rtol=1e-11, atol=0)
    by_loss = BatchLikelihood(FACTORS)(planted_linear, PairBatch(a, b, mask))  # as held-out data come
    torch.testing.assert_close(by_loss, PairLikelihood(FACTORS)(planted_linear, PairBatch(a, b, mask)))


@pytest.mark.parametrize("rho", [1.0, -0.1, math.nan])
def test_a_correlation_outside_the_interval_is_named(rho):
    with pytest.raises(ConfigError, match=rf"lies in \[0, 1\), got {rho}"):
        PairLikelihood(FACTORS, rho=rho)
    with pytest.raises(ConfigError, match="rho"):
        pair_nll(*latents(), torch.zeros(8, N, dtype=torch.bool), rho=rho)


@pytest.mark.parametrize(
    ("a", "b", "mask"),
    [((4, 7), (4, 7), (4, 3)), ((4, 8), (3, 8), (4, 3)), ((4, 8), (4, 8), (3, 3)), ((4, 8), (4, 8), (4, 2))],
)
def test_a_batch_that_does_not_fit_the_factors_is_named(a, b, mask):
    batch = PairBatch(torch.zeros(a), torch.zeros(b), torch.zeros(mask, dtype=torch.bool))
    with pytest.raises(ShapeError, match="residual"):
        PairLikelihood(FACTORS)(planted_linear, batch)


@pytest.mark.parametrize(("z", "groups"), [((4, 7), (4, 3)), ((4, 8), (3, 3)), ((4, 8), (4, 2)), ((4, 8, 1), (4, 3))])
def test_groups_that_do_not_fit_the_factors_are_named(z, groups):
    with pytest.raises(ShapeError, match="residual"):
        BatchLikelihood(FACTORS)(planted_linear, GroupBatch(torch.zeros(z), torch.zeros(groups).long()))


class LinearGaussianWorld:
    """Latents z = A f of standard normal factors f; pairs share one concept with correlation ρ.

    This is the model behind the pair loss with T = A^-1, so that the best reachable loss is the entropy of
    the pairs, and the factors are determined up to a rotation within each.
    """

    def __init__(self, seed: int, rho: float) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        u, v = (torch.linalg.qr(self.normal(N, N)).Q for _ in range(2))
        self.mixing = u @ torch.diag(torch.linspace(0.5, 2, N)) @ v
        self.rho = rho

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def pairs(self, batch: int) -> PairBatch:
        f_a, f_b = self.normal(batch, N), self.normal(batch, N)
        column = torch.randint(1, len(FACTORS), (batch,), generator=self.generator)
        shared = torch.nn.functional.one_hot(column, len(FACTORS)).bool()
        partner = self.rho * f_a + math.sqrt(1 - self.rho**2) * f_b
        f_b = torch.where(FACTORS.expand(shared), partner, f_b)
        return PairBatch(f_a @ self.mixing.T, f_b @ self.mixing.T, shared)

    def groups(self, batch: int) -> GroupBatch:
        """Examples of which sixteen each share a factor, its classes drawn as the residual's are not."""
        f = self.normal(batch, N)
        groups = torch.randint(batch // 16, (batch, len(FACTORS)), generator=self.generator)
        groups[:, 0] = -1
        parts = FACTORS.split(f)
        for name, group in zip(FACTORS.concepts, groups.T[1:]):
            common = self.normal(batch // 16, FACTORS[name])[group]
            parts[name] = math.sqrt(self.rho) * common + math.sqrt(1 - self.rho) * parts[name]
        return GroupBatch(FACTORS.merge(parts) @ self.mixing.T, groups)

    def entropy(self, shared: Tensor) -> Tensor:
        """Nats of a pair: that of 2N standard normals, less what is shared, more what A stretches."""
        saved = 0.5 * FACTORS.expand(shared).sum(1) * math.log(1 - self.rho**2)
        stretched = 2 * torch.linalg.slogdet(self.mixing).logabsdet
        return N * (1 + math.log(2 * math.pi)) + saved + stretched


def explained_variance(x: Tensor, y: Tensor) -> float:
    """R^2 of the best linear prediction of y from x."""
    x, y = x - x.mean(0), y - y.mean(0)
    rest = y - x @ torch.linalg.lstsq(x, y).solution
    return 1 - (rest.square().sum() / y.square().sum()).item()


@pytest.mark.parametrize("kind", [PairLikelihood, BatchLikelihood])
def test_planted_factors_come_back(kind):
    torch.manual_seed(0)
    world = LinearGaussianWorld(0, rho=0.975)
    translator = Translator(N, n_blocks=2, hidden=32, depth=1)
    translator.initialize(world.pairs(1000).a)
    loss, steps = kind(FACTORS, rho=0.975), 200
    adam = torch.optim.Adam(translator.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=1e-2, total_steps=steps)
    for _ in range(steps):
        adam.zero_grad()
        batch = world.groups(256) if kind is BatchLikelihood else world.pairs(128)
        loss(translator, batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(translator.parameters(), 10)
        adam.step()
        schedule.step()

    f = world.normal(4000, N)
    pairs = world.pairs(4000)
    with torch.no_grad():
        found = FACTORS.split(translator(f @ world.mixing.T)[0])
        gap = (loss(translator, pairs) - world.entropy(pairs.shared)).mean().item()
    for planted_name, planted in FACTORS.split(f).items():
        for name, part in found.items():
            explained = explained_variance(part, planted)
            if name == planted_name:
                assert explained > 0.95, (planted_name, name)
            else:
                assert explained < 0.05, (planted_name, name)
    # The sampling error of the mean of 4,000 pairs is about 0.05 nats.
    assert -0.2 < gap < 0.5
