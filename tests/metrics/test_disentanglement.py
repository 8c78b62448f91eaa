"""Measures of disentanglement in worlds whose answer is known, after the dummy data of disentanglement_lib."""

import math

import pytest
import torch

from iin_lightning import progress
from iin_lightning.errors import FactorError
from iin_lightning.metrics.disentanglement import (
    completeness,
    disentanglement,
    disentanglement_scores,
    factor_importance,
    gap,
    modularity,
)

MEASURES = ("mig", "sap", "modularity", "disentanglement", "completeness")
N_ITEMS, DIM = 800, 8


@pytest.fixture(scope="module")
def world():
    """Three factors of 8 dimensions: noise, a class (clouds around 4 corners) and a colour (a linear map of RGB)."""
    generator = torch.Generator().manual_seed(0)
    digit, color = torch.arange(N_ITEMS) % 4, torch.rand(N_ITEMS, 3, generator=generator)
    corners, painting = torch.randn(4, DIM, generator=generator), torch.randn(3, DIM, generator=generator)
    noise = torch.randn(2, N_ITEMS, DIM, generator=generator)
    factors = {
        "residual": noise[0],
        "digit": 2 * corners[digit] + 0.3 * noise[1],
        "color": 4 * (color - 0.5) @ painting,
    }
    return factors, {"digit": digit, "color": color}


def rotated(factors, seed):
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(3 * DIM, 3 * DIM, generator=generator)).Q
    return dict(zip(factors, (torch.cat(list(factors.values()), 1) @ rotation).split(DIM, 1)))


@pytest.mark.parametrize("probe", ["linear", "kernel"])
def test_perfect_factors_have_one(world, probe):
    scores = disentanglement_scores(*world, probe)
    assert all(scores[name].value > 0.95 for name in MEASURES), scores
    assert scores["informativeness"].value > 0.95
    assert scores["information/digit/digit"].value == pytest.approx(math.log(4), abs=0.02)
    assert scores["information/digit/color"].value < 0.03 > scores["information/color/digit"].value


def test_perfect_factors_under_other_names_have_one(world):
    factors, concepts = world
    names = {"residual": factors["color"], "digit": factors["residual"], "color": factors["digit"]}
    assert disentanglement_scores(names, concepts, "linear")["mig"].value > 0.95


def test_a_random_rotation_has_about_zero(world):
    factors, concepts = world
    scores = [disentanglement_scores(rotated(factors, seed), concepts, "linear") for seed in range(3)]
    assert all(sum(each[name].value for each in scores) / 3 < 0.2 for name in MEASURES), scores
    assert all(each["informativeness"].value > 0.95 for each in scores), "but all is still there"


def test_a_duplicated_concept_is_seen(world):
    factors, concepts = world
    doubled = factors | {"residual": torch.cat([factors["residual"], factors["digit"].flip(1)], 1)}
    scores = disentanglement_scores(doubled, concepts, "linear")
    assert scores["mig"].value == pytest.approx(0.5, abs=0.05), "the digit has no gap, the colour a whole one"
    assert scores["sap"].value == pytest.approx(0.5, abs=0.05)
    assert scores["completeness"].value < 0.75
    assert scores["modularity"].value > 0.95 < scores["disentanglement"].value, "each factor still tells of one concept"


def test_a_third_copy_is_seen_though_two_would_do(world):
    factors, concepts = world
    share, score = factor_importance(factors | {"copy": factors["digit"], "again": factors["digit"]}, concepts)
    assert score[0].value == 1
    assert share[:, 0].tolist() == pytest.approx([0, 1 / 3, 0, 1 / 3, 1 / 3], abs=0.05)


def test_two_concepts_in_one_factor_are_seen(world):
    factors, concepts = world
    crowded = {"residual": factors["residual"], "digit": torch.cat([factors["digit"], factors["color"]], 1)}
    scores = disentanglement_scores(crowded, concepts, "linear")
    assert scores["modularity"].value < 0.1 > scores["disentanglement"].value
    assert scores["mig"].value > 0.95 < scores["completeness"].value


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "noise"])
def test_factors_that_tell_nothing_have_zero(world, constant):
    factors, concepts = world
    generator = torch.Generator().manual_seed(1)
    noise = {name: torch.randn(z.shape, generator=generator) for name, z in factors.items()}
    empty = {name: torch.zeros(z.shape) for name, z in factors.items()} if constant else noise
    scores = disentanglement_scores(empty, concepts)
    assert all(scores[name].value == 0 for name in MEASURES), scores
    assert scores["informativeness"].value < 0.05
    assert all(number.value < 0.01 for name, number in scores.items() if name.startswith("information/")), scores


def test_a_seed_gives_one_answer(world):
    assert disentanglement_scores(*world, seed=3) == disentanglement_scores(*world, seed=3)


def test_probes_say_how_far_they_are(world, monkeypatch):
    heard = {}
    monkeypatch.setattr(progress, "listeners", [lambda what, *said: heard.setdefault(what, []).append(said[:2])])
    factors, concepts = world
    disentanglement_scores(factors, concepts, "linear")
    count = len(factors) * len(concepts)
    every = [(done, count) for done in range(1, count + 1)]
    assert heard == {"Probing factors": every, "Shuffling factors": every}


def test_labels_that_say_nothing_are_not_told_by_the_image():
    """Ten versions of each image, which the factors know well, and labels that are drawn for images by chance."""
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(100).repeat(10)
    shown = {name: torch.randn(100, DIM, generator=generator)[images] for name in ("residual", "digit", "size")}
    factors = {name: z + 0.1 * torch.randn(z.shape, generator=generator) for name, z in shown.items()}
    digit, size = torch.randint(4, (100,), generator=generator)[images], torch.rand(100, 1, generator=generator)[images]
    scores = disentanglement_scores(factors, {"digit": digit, "size": size}, images=images)
    assert all(scores[name].value == 0 for name in MEASURES), scores
    assert all(number.value < 0.1 for name, number in scores.items() if name.startswith("information/")), scores
    # What differs between versions is read within images.
    factors["change"] = torch.arange(10).repeat_interleave(100)[:, None] + 0.1 * torch.randn(
        1000, 1, generator=generator
    )
    changed = (torch.arange(1000) >= 500).long()
    scores = disentanglement_scores(factors, {"digit": digit, "change": changed}, "linear", images=images)
    assert scores["mig"].value == pytest.approx(0.5, abs=0.1), "the change has a gap, the digit is not told"


def test_importance_falls_on_whole_factors(world):
    share, score = factor_importance(*world, "linear")
    torch.testing.assert_close(share, torch.tensor([[0, 0], [1, 0], [0, 1]]).double(), atol=0.01, rtol=0)
    assert [number.value for number in score] == pytest.approx([1, 1], abs=0.02)


def test_formulas():
    perfect = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    even = torch.full((3, 2), 1 / 3)
    nothing = torch.zeros(3, 2)
    for measure in (gap, modularity, disentanglement, completeness):
        assert measure(perfect) == pytest.approx(1, abs=1e-6)
        assert measure(even) == pytest.approx(0, abs=1e-6)
        assert measure(nothing) == 0
    # One factor for all of concept 1 and half of concept 2, the other half in another.
    shared = torch.tensor([[1.0, 0.5], [0.0, 0.5]])
    assert completeness(shared) == pytest.approx(0.5)
    entropy = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert disentanglement(shared) == pytest.approx(0.75 * (1 - entropy) + 0.25)
    assert modularity(shared) == pytest.approx((1 * (1 - 0.25) + 0.5 * 1) / 1.5)
    assert gap(shared) == pytest.approx(0.5)


def test_one_concept_has_nothing_to_be_mixed_with(world):
    factors, concepts = world
    scores = disentanglement_scores(factors, {"digit": concepts["digit"]}, "linear")
    assert scores["mig"].value > 0.95
    assert "modularity" not in scores
    assert "disentanglement" not in scores
    assert modularity(torch.ones(2, 1)).isnan()
    assert disentanglement(torch.ones(2, 1)).isnan()


def test_one_factor_cannot_be_compared(world):
    factors, concepts = world
    for chosen, asked in (({"residual": factors["residual"]}, concepts), (factors, {})):
        with pytest.raises(FactorError, match=r"two or more factors .* model=sup"):
            disentanglement_scores(chosen, asked)
