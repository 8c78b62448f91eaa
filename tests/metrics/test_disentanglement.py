"""Leakage and disentanglement in worlds whose answer is known, after the dummy data of disentanglement_lib."""

import math

import pytest
import torch

from iin_lightning.errors import FactorError
from iin_lightning.metrics.disentanglement import (
    completeness,
    disentanglement,
    disentanglement_scores,
    factor_importance,
    gap,
    leakage,
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


def test_perfect_factors_have_one(world):
    scores = disentanglement_scores(*world)
    assert all(scores[name].value > 0.95 for name in MEASURES), scores
    assert scores["informativeness"].value > 0.95
    assert scores["information/digit/digit"].value == pytest.approx(math.log(4), abs=0.02)
    assert scores["information/digit/color"].value < 0.03 > scores["information/color/digit"].value


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
    share, score = factor_importance(
        factors | {"copy": factors["digit"], "again": factors["digit"]}, concepts, "linear"
    )
    assert score[0].value == 1
    assert share[:, 0].tolist() == pytest.approx([0, 1 / 3, 0, 1 / 3, 1 / 3], abs=0.05)


def test_two_concepts_in_one_factor_are_seen(world):
    factors, concepts = world
    crowded = {"residual": factors["residual"], "digit": torch.cat([factors["digit"], factors["color"]], 1)}
    scores = disentanglement_scores(crowded, concepts, "linear")
    assert scores["modularity"].value < 0.1 > scores["disentanglement"].value
    assert scores["mig"].value > 0.95 < scores["completeness"].value


def test_factors_that_tell_nothing_have_zero(world):
    factors, concepts = world
    generator = torch.Generator().manual_seed(1)
    noise = {name: torch.randn(z.shape, generator=generator) for name, z in factors.items()}
    scores = disentanglement_scores(noise, concepts, "linear")
    assert all(scores[name].value == 0 for name in MEASURES), scores
    assert scores["informativeness"].value < 0.05
    assert all(number.value < 0.01 for name, number in scores.items() if name.startswith("information/")), scores


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
    # A single concept has nothing to be mixed with.
    assert modularity(torch.ones(2, 1)).isnan()
    assert disentanglement(torch.ones(2, 1)).isnan()


def test_one_factor_cannot_be_compared(world):
    factors, concepts = world
    for chosen, asked in (({"residual": factors["residual"]}, concepts), (factors, {})):
        with pytest.raises(FactorError, match=r"two or more factors .* model=sup"):
            disentanglement_scores(chosen, asked)


def test_perfect_factors_leak_nothing(world):
    scores = leakage(*world, "linear")
    assert scores["digit/own"].value > 0.98
    assert scores["digit/chance"].value == pytest.approx(0.25, abs=0.01)
    assert scores["digit/others"].value == pytest.approx(0.25, abs=0.06)
    assert scores["color/own"].value > 0.97
    assert scores["color/chance"].value == 0
    assert scores["color/others"].value == pytest.approx(0, abs=0.06)
    assert scores["digit/own_information"].value > 0.95 < scores["color/own_information"].value
    assert scores["digit/others_information"].value < 0.02 > scores["color/others_information"].value


def test_a_residual_that_keeps_the_digit_is_seen(world):
    factors, concepts = world
    told = torch.eye(4)[concepts["digit"]][:, :2]
    scores = leakage(factors | {"residual": torch.cat([factors["residual"], told], 1)}, concepts, "linear")
    assert scores["digit/others"].value == pytest.approx(0.75, abs=0.07), "two of four digits are told, two are guessed"
    assert scores["color/others_information"].value < 0.03


def test_a_concept_needs_a_factor_of_its_name(world):
    factors, concepts = world
    for name in ("digits", "residual"):
        with pytest.raises(FactorError, match=rf"no factor '{name}' .* digit, color"):
            leakage(factors, {name: concepts["digit"]})
