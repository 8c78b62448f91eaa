"""Invariance as numbers, in worlds where they are known."""

import math

import pytest
import torch
from torch import nn

from iin_lightning.analysis import bootstrap
from iin_lightning.analysis.response import (
    changed_share,
    explained_variance,
    mutual_information,
    outputs_of,
    prediction_entropy,
    redrawn_outputs,
    variance_ratio,
    version_response,
)
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.errors import ConfigError, FactorError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.flows.base import Chain
from iin_lightning.interpreter import Interpreter
from iin_lightning.seeding import generator

DIMS = {"residual": 2, "digit": 2, "color": 1}
N = 5
A, B = 300, 400  # draws, examples


class Plain(Encoder):
    """Images that are latents, and no network at all."""

    latent_dim, output = N, "logits"

    def encode(self, x):
        return DiagonalGaussian.deterministic(x)

    def decode(self, z):
        return z


@pytest.fixture
def interpreter():
    """T is the identity: latents are factors."""
    return Interpreter(Plain(), Chain([]), Factors(DIMS, N))


@pytest.fixture
def z():
    return torch.randn(B, N, generator=generator("examples"))


def redraw(interpreter, z, name, respond):
    return redrawn_outputs(interpreter, z, name, A, respond, generator("draws", name))


def test_redrawing_changes_one_factor_to_draws_that_all_examples_share(interpreter, z):
    seen = []
    redrawn_outputs(interpreter, z, "digit", 40, lambda latents: seen.append(latents) or latents, generator(0))
    latents = torch.cat(seen).unflatten(0, (40, B))
    factors = interpreter.factors.split(latents)
    before = interpreter.factors.split(z)
    for name in ("residual", "color"):
        assert torch.equal(factors[name], before[name].expand(40, -1, -1))
    assert torch.equal(factors["digit"], factors["digit"][:, :1].expand(-1, B, -1))
    assert len(factors["digit"][:, 0].unique(dim=0)) == 40


def test_draws_are_those_of_the_prior_or_of_examples(interpreter, z):
    drawn = torch.randn(2000, 1, generator=generator(0))
    redrawn = redrawn_outputs(interpreter, z[:2], "color", 2000, lambda latents: latents[:, 3:], generator(0))
    # With two logits the difference of log-softmax is that of the logits.
    difference = redrawn[..., 1] - redrawn[..., 0]
    torch.testing.assert_close(difference, drawn - z[:2, 3], rtol=0, atol=1e-5)
    like = torch.tensor([[3.0], [-7.0]])
    redrawn = redrawn_outputs(interpreter, z[:2], "color", 30, lambda latents: latents[:, 3:], generator(0), like)
    found = (redrawn[..., 1] - redrawn[..., 0] + z[:2, 3]).round(decimals=3)
    assert sorted(found.unique().tolist()) == [-7, 3]


def whitened(rows, columns, *key):
    """Draws whose mean is 0 and whose covariance is the identity, not about but exactly."""
    x = torch.randn(rows, columns, dtype=torch.float64, generator=generator(*key))
    return torch.linalg.qr(x - x.mean(0)).Q * (rows - 1) ** 0.5


def test_a_linear_network_has_the_explained_variances_of_its_weights():
    weights = torch.randn(N, 4, dtype=torch.float64, generator=generator("weights"))
    factors = Factors(DIMS, N)
    z = whitened(B, N, "examples")
    for name in factors:
        rest, moved = z.clone(), factors.expand(factors.mask([name]))
        rest[:, moved] = 0
        fresh = whitened(A, DIMS[name], "draws", name) @ weights[moved]
        share = (weights[moved].square().sum() / weights.square().sum()).item()
        estimate = explained_variance(fresh[:, None] + rest @ weights, z @ weights)
        assert estimate.value == pytest.approx(share, rel=1e-9)
        assert estimate.low < share < estimate.high
        assert estimate.high - estimate.low < 0.5 * share


def test_what_factors_do_together_counts_for_each_of_them():
    u, v = whitened(B, 1, "u"), whitened(B, 1, "v")
    fresh = whitened(A, 1, "draws")
    # Var(uv) = 1, and E[Var(uv | v)] = E[v^2] Var(u) = 1 for either factor: their indices sum to 2.
    estimate = explained_variance(fresh[:, None] * v, u * v)
    assert estimate.value == pytest.approx(((B - 1) / B / (u * v).var()).item(), rel=1e-9)
    assert estimate.low < 1 < estimate.high


def test_an_output_of_one_factor_is_explained_by_it_and_by_nothing_else(interpreter, z):
    def respond(latents):
        return torch.stack([latents[:, 4], -latents[:, 4]], 1)  # color

    outputs = outputs_of(z, respond)
    color, digit = (redraw(interpreter, z, name, respond) for name in ("color", "digit"))
    assert explained_variance(color, outputs).value == pytest.approx(1, rel=0.15)
    assert changed_share(color, outputs).value == pytest.approx(0.5, abs=0.05)
    # Ignored: 0 to the last bit, and so is every resample.
    for estimate in (explained_variance(digit, outputs), changed_share(digit, outputs), mutual_information(digit)):
        assert tuple(estimate) == (0, 0, 0)


def test_a_class_that_one_factor_decides_without_noise_has_all_the_information(interpreter, z):
    classes = 4
    edges = torch.distributions.Normal(0.0, 1.0).icdf(torch.arange(1, classes) / classes)

    def respond(latents):
        return 50.0 * nn.functional.one_hot(torch.bucketize(latents[:, 4].contiguous(), edges), classes)

    outputs = outputs_of(z, respond)
    color, residual = (redraw(interpreter, z, name, respond) for name in ("color", "residual"))
    information = mutual_information(color)
    assert information.value == pytest.approx(math.log(classes), abs=0.03)
    assert information.low <= information.value <= information.high
    assert prediction_entropy(color) == pytest.approx(information.value, abs=1e-6)
    assert changed_share(color, outputs).value == pytest.approx(1 - 1 / classes, abs=0.05)
    assert tuple(mutual_information(residual)) == (0, 0, 0)
    assert prediction_entropy(residual) == pytest.approx(math.log(classes), abs=0.03)


def test_what_another_factor_or_the_network_leaves_open_is_no_information(interpreter, z):
    # The class is the sign of color for one half of the examples, and a coin's for the other half.
    def respond(latents):
        sure = torch.where(latents[:, 0] > 0, 100.0, 0.0)
        return torch.stack([sure * latents[:, 4].sign(), torch.zeros(len(latents))], 1)

    z[:, 0] = torch.where(torch.arange(B) % 2 == 0, 1.0, -1.0)
    found = mutual_information(redraw(interpreter, z, "color", respond))
    # p(Y | color) is 3/4 or 1/4.
    assert found.value == pytest.approx(math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25), abs=0.02)


def test_a_ratio_of_variances_is_the_ratio_of_the_weights_squared(z):
    rest = z[:, :1]
    strong, weak = (
        rest + weight * torch.randn(A, 1, 1, generator=generator("ratio", name))
        for name, weight in (("digit", 5.0), ("color", 0.5))
    )
    ratio = variance_ratio(strong, weak)
    assert ratio.low < 100 < ratio.high
    assert ratio.value == pytest.approx(100, rel=0.3)
    blind = variance_ratio(strong, rest.expand(A, -1, -1))
    assert blind.value == math.inf


def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(bootstrap, "REPEATS", 100)
    n, worlds = 60, 40
    a, b = torch.randn(2, 3, 4, generator=generator("weights"))

    def measure(n, seed):
        key = generator("world", seed)
        factor, own, rest = (torch.randn(n, 3, generator=key) for _ in range(3))
        redrawn = ((factor @ a)[:, None] + rest @ b).log_softmax(-1)
        outputs = (own @ a + rest @ b).log_softmax(-1)
        return (
            explained_variance(redrawn, outputs, seed),
            changed_share(redrawn, outputs, seed),
            mutual_information(redrawn, seed),
        )

    truth = [estimate.value for estimate in measure(1000, -1)]
    hits = torch.tensor(
        [
            [estimate.low <= true <= estimate.high for estimate, true in zip(measure(n, seed), truth)]
            for seed in range(worlds)
        ]
    )
    # 95 % of 40 are 38 ± 1.4, and the truth itself has an error.
    assert (hits.sum(0) >= 32).all()
    assert (hits.sum(0) < worlds).any(), "intervals are not simply too wide"


def test_bad_input_is_named(interpreter, z):
    with pytest.raises(FactorError, match="did you mean color"):
        redrawn_outputs(interpreter, z, "colour", 4, interpreter.decode, generator(0))
    with pytest.raises(ConfigError, match="draws=1 of a factor have no variance: take 2"):
        redrawn_outputs(interpreter, z, "color", 1, interpreter.decode, generator(0))
    with pytest.raises(ShapeError, match=r"got \(4, 3, 2\) and \(4, 2\): take more"):
        explained_variance(torch.zeros(4, 3, 2), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match="at least 2 draws and 2 examples"):
        mutual_information(torch.zeros(4, 1, 2))


def evenly(versions):
    """Of versions that are all there are, and equally many."""
    return version_response(versions, torch.full(versions.shape[:1], 1 / len(versions)), versions.flatten(0, 1))


def test_a_network_that_ignores_the_change_is_invariant_and_one_that_sees_nothing_else_is_explained():
    images = torch.randn(1, 50, 3).expand(2, -1, -1).log_softmax(-1)
    assert all(value == 0 for value, *_ in evenly(images).values())
    versions = torch.randn(4, 1, 3).mul(5).expand(-1, 50, -1).log_softmax(-1)
    found = evenly(versions)
    assert found["explained_variance"].value == pytest.approx(1, abs=0.01)
    assert found["explained_variance_of_probabilities"].value == pytest.approx(1, abs=0.01)


def test_it_agrees_with_a_perfect_factor_that_is_drawn_from_other_items():
    """An image's offset plus its versions': what a translator that finds the change exactly would measure.

    With further versions, in which other concepts were changed, most items have this one unchanged. Not normalised, so
    that what a change does is the same for all items.
    """
    key = torch.Generator().manual_seed(0)
    images, change = torch.randn(400, 4, generator=key), 2 * torch.randn(3, 1, 4, generator=key)
    other = 2 * torch.randn(3, 1, 4, generator=key)
    change -= change[0].clone()  # that of the original is none
    versions = images + change
    items = torch.cat([versions, images + other]).flatten(0, 1)
    number = torch.cat([torch.arange(3), torch.zeros(3).long()]).repeat_interleave(400)
    offset = change[number, 0]
    drawn = number[torch.randint(len(number), (300,), generator=key)]
    redrawn = items - offset + change[drawn]
    shares = number.bincount() / len(number)
    found = version_response(versions, shares, items)
    for value, reference in (
        (found["explained_variance"], explained_variance(redrawn, items)),
        (found["changed_predictions"], changed_share(redrawn, items)),
    ):
        assert value.value == pytest.approx(reference.value, abs=0.05)
        assert value.low < value.value < value.high


@pytest.mark.parametrize(("versions", "shares", "outputs"), [((1, 5, 3), 1, (9, 3)), ((3, 5, 3), 2, (9, 3))])
def test_too_little_to_compare_is_named(versions, shares, outputs):
    with pytest.raises(ShapeError, match="at least 2 versions"):
        version_response(torch.zeros(versions), torch.full((shares,), 1 / shares), torch.zeros(outputs))
