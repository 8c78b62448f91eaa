"""Eq. 11: the numbers of the authors' code, and worlds whose dimensions were planted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from iin_lightning.analysis.dimensions import (
    dimension_shares,
    factor_dimensions,
    factor_scores,
    score_errors,
    whole_dimensions,
)
from iin_lightning.data.base import ORIGIN
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.pairs import sharing_pairs
from iin_lightning.errors import ConfigError, FactorError, ShapeError
from iin_lightning.factors import RESIDUAL

GOLDEN = Path(__file__).parents[1] / "assets" / "golden" / "e_dim_callback.npz"
METHODS = ["covariance", "correlation"]
PLANTED = {"digit": 12, "color": 6}
N = 24


def planted(dims=PLANTED, n=20_000, rho=1.0, scale=1.0, seed=0):
    """Pairs that agree, up to ``rho``, in the dimensions of one concept, which lie side by side in a latent of 24."""
    generator = torch.Generator().manual_seed(seed)
    pairs, start = {}, 0
    for name, dim in dims.items():
        a, b = torch.randn(2, n, N, generator=generator)
        shared = slice(start, start + dim)
        b[:, shared] = rho * a[:, shared] + (1 - rho**2) ** 0.5 * b[:, shared]
        pairs[name] = (a * scale, b * scale)
        start += dim
    return pairs


def golden(case):
    with np.load(GOLDEN) as arrays:
        return {key.removeprefix(f"{case}/"): arrays[key] for key in arrays.files if key.startswith(f"{case}/")}


@pytest.mark.parametrize("case", ["two", "four", "one", "resid0", "shifted", "neg"])
def test_the_authors_numbers(case):
    theirs = golden(case)
    a, b, factors = (torch.from_numpy(theirs[key]) for key in ("za", "zb", "factors"))
    order = [k for k in range(int(theirs["n_factors"])) if k != theirs["residual_index"]]
    pairs = {f"concept {k}": (a[factors == k], b[factors == k]) for k in order}
    # Pairs that differ in a concept (negative numbers) have no score there, but their variance counts.
    latents = torch.cat([a, b])
    columns = [int(theirs["residual_index"]), *order]
    assert latents.double().var(0, correction=0).sum().item() == pytest.approx(theirs["var"].item(), rel=1e-6)
    scores = factor_scores(pairs, latents=latents)
    assert list(scores) == [RESIDUAL, *pairs]
    assert list(scores.values()) == pytest.approx(theirs["scores"][columns].tolist(), rel=1e-5)
    shares = dimension_shares(scores)
    assert list(shares.values()) == pytest.approx(theirs["softmaxed"][columns].tolist(), rel=1e-6)
    # They round down and give what is left to the last of their factors, we to those that lost most.
    dim = a.shape[1]
    floors = (torch.tensor(list(shares.values())) * dim).floor().int()
    last = columns.index(len(columns) - 1)
    floors[last] = 0
    floors[last] = dim - floors.sum()
    assert floors.tolist() == theirs["dims"][columns].tolist()
    ours = factor_dimensions(pairs, latents=latents)
    assert sum(ours.values()) == dim
    others = [k for k in range(len(columns)) if k != last]
    assert all(0 <= list(ours.values())[k] - floors[k] <= 1 for k in others)
    if case != "neg":
        assert factor_scores(pairs) == pytest.approx(scores), "without further latents it is the pairs that vary"


@pytest.mark.parametrize("method", METHODS)
def test_planted_dimensions_are_the_scores(method):
    scores = factor_scores(planted(), method)
    assert {name: round(score * N) for name, score in scores.items()} == {RESIDUAL: N, **PLANTED}
    # 24 softmax(1, 1/2, 1/4) = 11.54, 7.00, 5.45
    assert factor_dimensions(planted(), method) == {RESIDUAL: 12, "digit": 7, "color": 5}
    swapped = {name: (b, a) for name, (a, b) in planted().items()}
    assert factor_scores(swapped, method) == pytest.approx(scores), "a and b are exchangeable"
    # What the network does not hold has the softmax of zero.
    assert factor_dimensions(planted({"digit": 0, "color": 0}), method) == {RESIDUAL: 14, "digit": 5, "color": 5}


@pytest.mark.parametrize("method", METHODS)
def test_errors_are_how_much_scores_vary_from_sample_to_sample(method):
    scale = torch.linspace(0.2, 2, N)
    worlds = [planted(n=300, rho=0.8, scale=scale, seed=seed) for seed in range(100)]
    scores = torch.tensor([list(factor_scores(pairs, method).values())[1:] for pairs in worlds])
    errors = torch.tensor([list(score_errors(pairs, method).values())[1:] for pairs in worlds])
    torch.testing.assert_close(errors.mean(0), scores.std(0), rtol=0.2, atol=0)


# A binary concept of a frequency p moves the latent along a direction of its own, so that it makes up its share of the
# variance, which is the score that Eq. 11 is to find, however rare it is and whatever else is planted.
WORLDS = {
    "a weak and a strong one": [(0.5, 0.1), (0.5, 0.4)],
    "three, some rare": [(0.48, 0.2), (0.4, 0.2), (0.068, 0.2)],
}


@pytest.mark.parametrize("versions", [1, 3])
@pytest.mark.parametrize("world", WORLDS)
def test_pairs_of_a_world_of_concepts_have_the_planted_shares(world, versions):
    generator, n = torch.Generator().manual_seed(0), 20_000
    concepts = WORLDS[world]
    frequency, share = torch.tensor(concepts).T
    labels = (torch.rand(n, len(concepts), generator=generator) < frequency).long()
    unit = (labels - frequency) / (frequency * (1 - frequency)).sqrt()  # of variance 1
    rest = torch.randn(n, N, generator=generator) * ((1 - share.sum()) / N).sqrt()
    direction = torch.eye(len(concepts), N) * share.sqrt()[:, None]
    z, names = rest + unit @ direction, [f"concept {k}" for k in range(len(concepts))]
    if versions > 1:  # of one image, hardly different: they must not count as examples that share the concept
        z = (z[:, None] + 0.01 * torch.randn(n, versions, N, generator=generator)).flatten(0, 1)
        labels = torch.cat([labels, torch.arange(n)[:, None]], dim=1).repeat_interleave(versions, dim=0)
        names.append(ORIGIN)
    pairs = sharing_pairs(LatentCache(z, torch.zeros_like(z), labels, tuple(names)), count=n)
    scores = factor_scores(pairs, latents=z)
    assert list(scores.values())[1:] == pytest.approx(share.tolist(), abs=0.01)


def test_covariance_does_not_see_rotations_and_correlation_no_scales():
    pairs = planted(n=500, rho=0.9, scale=torch.linspace(0.1, 3, N))
    rotation = torch.linalg.qr(torch.randn(N, N)).Q
    rotated = {name: (a @ rotation, b @ rotation) for name, (a, b) in pairs.items()}
    assert factor_scores(rotated) == pytest.approx(factor_scores(pairs), rel=1e-4)
    plain = planted(n=500, rho=0.9)
    assert factor_scores(pairs, "correlation") == pytest.approx(factor_scores(plain, "correlation"), rel=1e-4)
    assert factor_scores(pairs)["digit"] < factor_scores(plain)["digit"] - 0.1, "its dimensions are the small ones"


def test_a_dead_dimension_is_shared_by_nobody():
    a, b = planted(n=100)["digit"]
    a[:, 0] = b[:, 0] = 3.0
    for method in METHODS:
        assert factor_scores({"digit": (a, b)}, method)["digit"] == pytest.approx(11 / N, abs=0.05)
    dead = torch.ones(5, N)
    assert factor_scores({"digit": (dead, dead)})["digit"] == 0


def test_rounding_keeps_the_sum_whatever_the_shares():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        k = int(torch.randint(1, 9, (), generator=generator))
        shares = (5 * torch.randn(k, generator=generator, dtype=torch.float64)).softmax(0).tolist()
        dim = k + int(torch.randint(0, 60, (), generator=generator))
        rounded = whole_dimensions({str(i): share for i, share in enumerate(shares)}, dim)
        assert sum(rounded.values()) == dim
        assert min(rounded.values()) >= 1
        lifted = sum(share * dim < 1 for share in shares)
        assert all(abs(d - share * dim) < 1 + lifted for d, share in zip(rounded.values(), shares))
    largest_remainders = whole_dimensions({"a": 0.47, "b": 0.36, "c": 0.17}, 10)  # quota 4.7, 3.6, 1.7
    assert list(largest_remainders.values()) == [5, 3, 2]
    assert list(whole_dimensions({"a": 0.62, "b": 0.37, "c": 0.005, "d": 0.005}, 5).values()) == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("pairs", "method", "error", "text"),
    [
        ({"digit": (torch.rand(4, 3),) * 2}, "variance", ConfigError, "allowed are: covariance, correlation"),
        ({}, "covariance", FactorError, "got none"),
        ({"residual": (torch.rand(4, 3),) * 2}, "covariance", FactorError, "residual is what they leave over"),
        ({"digit": (torch.rand(4, 3), torch.rand(5, 3))}, "correlation", ShapeError, r"\(4, 3\) and \(5, 3\)"),
        ({"digit": (torch.rand(4, 1),) * 2}, "covariance", FactorError, "2 factors residual, digit .* latent has 1"),
    ],
)
def test_what_cannot_be_estimated_says_why(pairs, method, error, text):
    with pytest.raises(error, match=text):
        factor_dimensions(pairs, method)
