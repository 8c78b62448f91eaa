"""Probes where it is known what can be read."""

import math

import pytest
import torch

from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError
from iin_lightning.metrics.probes import fit_probe

PROBES = ["linear", "kernel"]


def items(n=800, dim=4, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_the_kernel_reads_what_lies_in_no_direction():
    z = items(1200)
    radius = (z.square().sum(1) > 3.36).long()  # half of all
    assert fit_probe(z, radius, "linear").read(z).share.value < 0.02
    assert fit_probe(z, radius, "kernel").read(z).share.value > 0.6
    quantity = z.square()[:, :1]
    assert fit_probe(z, quantity, "linear").read(z).share.value < 0.05
    assert fit_probe(z, quantity, "kernel").read(z).share.value > 0.6


def test_the_information_is_a_lower_bound_of_that_of_a_gaussian_world():
    # Two classes at -1 and 1 in one dimension, noise 1: I(c; z) = 0.3368 nats by quadrature of 1/2 Σ_c KL(p_c | p).
    label = torch.arange(20_000) % 2
    z = (2.0 * label - 1)[:, None] + items(20_000, 1)
    for probe in PROBES:
        readout = fit_probe(z, label, probe).read(z)
        assert readout.information.value == pytest.approx(0.3368, abs=0.01)
        assert readout.share.value == pytest.approx(0.3368 / math.log(2), abs=0.02)
        assert readout.accuracy.value == pytest.approx(0.8413, abs=0.01)  # Φ(1)
        assert readout.score.value == pytest.approx(2 * 0.8413 - 1, abs=0.02)


def test_the_information_of_a_gaussian_quantity():
    c = items(20_000, 2)
    z = 0.8 * c + 0.6 * items(20_000, 2, seed=1)
    readout = fit_probe(z, c, "linear").read(z)
    assert readout.share.value == pytest.approx(0.64, abs=0.01)
    assert readout.information.value == pytest.approx(-math.log(1 - 0.64), abs=0.02)  # two parts of half of that


def test_rare_classes_count_as_much_as_frequent_ones():
    label = (torch.arange(2000) % 20 == 0).long()  # one of twenty
    z = (3.0 * label)[:, None] + items(2000, 1)
    readout = fit_probe(z, label, "linear").read(z)
    assert readout.chance == 0.95
    assert readout.accuracy.value > 0.95
    assert readout.score.value == pytest.approx(2 * 0.9332 - 1, abs=0.12), "both classes at the midpoint: Φ(1.5)"
    silent = fit_probe(items(2000, 1, seed=5), label, "linear").read(items(2000, 1, seed=5))
    assert silent.accuracy.value == silent.chance, "always the frequent one"
    assert silent.score.value < 0.15
    assert silent.share.value < 0.02


@pytest.mark.parametrize(("share", "versions"), [(0.01, 4), (0.004, 1)])
def test_a_rare_class_is_told_if_there_is_a_sign_of_it(share, versions):
    images = torch.arange(1000).repeat(versions)
    label = (torch.arange(1000) < 1000 * share).long()[images]
    z = [items(1000, 3, seed)[images] + 0.1 * items(1000 * versions, 3, seed + 100) for seed in range(12)]
    by_chance = [fit_probe(x, label, "linear", seed, images).tells(x) for seed, x in enumerate(z)]
    assert sum(by_chance) <= 1
    signs = [x + 5.0 * label[:, None] for x in z[:5]]
    assert all(fit_probe(x, label, "linear", seed, images).tells(x) for seed, x in enumerate(signs))


def test_what_is_read_has_the_error_of_its_spread():
    """Over worlds of four versions an image: of a class, and of a quantity."""
    images = torch.arange(500).repeat(4)
    for make in (lambda c: (c > 0).long(), lambda c: c):
        found = []
        for seed in range(40):
            concept = items(500, 1, seed)[:, 0]
            z = (concept[:, None] + items(500, 1, seed + 1000))[images] + 0.1 * items(2000, 1, seed + 2000)
            found.append(fit_probe(z, make(concept)[images], "linear", seed, images).read(z))
        for field in ("information", "share", "score", "accuracy"):
            numbers = [getattr(readout, field) for readout in found]
            spread = torch.tensor([number.value for number in numbers]).std().item()
            error = torch.tensor([number.error for number in numbers]).square().mean().sqrt().item()
            assert 0.7 * spread < error < 1.6 * spread, field  # halves that hold all classes alike vary less


def test_what_tells_nothing_is_read_as_nothing():
    z, label = torch.zeros(200, 3), torch.arange(200) % 5
    readout = fit_probe(z, label).read(z)
    assert readout.information.value == pytest.approx(0, abs=1e-6)
    assert readout.score.value == 0
    assert readout.accuracy.value == readout.chance == pytest.approx(0.2)
    readout = fit_probe(z, items(200, 3)).read(z)
    assert readout.information.value == pytest.approx(0, abs=1e-6)
    assert readout.accuracy.value == pytest.approx(0, abs=0.05)


def test_labels_may_be_any_whole_numbers_and_quantities_may_have_dead_parts():
    z = items(300)
    label = (z[:, 0] > 0).long()
    same = fit_probe(z, label, "linear").read(z)
    assert fit_probe(z, 90 * label - 7, "linear").read(z) == same
    assert fit_probe(z, label.bool(), "linear").read(z) == same
    quantity = fit_probe(z, z[:, 0], "linear").read(z)
    assert quantity.share.value > 0.99
    with_dead = torch.stack([z[:, 0], torch.full((300,), 0.5)], 1)
    assert fit_probe(z, with_dead, "linear").read(z) == quantity


def test_the_halves_are_the_same_for_all_factors_and_hold_all_classes():
    label = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    halves = [fit_probe(items(7, seed=seed), label, "linear", seed=4).held_out for seed in range(2)]
    assert halves[0].tolist() == halves[1].tolist()
    assert set(label[halves[0]].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("z", "concept", "probe", "error", "text"),
    [
        (items(8), torch.arange(8) % 2, "trees", ConfigError, "allowed are: kernel, linear"),
        (items(8), torch.tensor([0, 0, 0, 0, 1, 1, 1, 5]), "linear", ConfigError, r"\[5\] have a single image"),
        (items(8), torch.ones(8, 3), "linear", ConfigError, "0 of 3 parts vary"),
        (items(8), torch.arange(9) % 2, "linear", ShapeError, r"\(8, 4\) .* \(9,\)"),
        (items(8), torch.ones(8, 2).long(), "linear", ShapeError, "one column of the labels at a time"),
        (items(8).log(), torch.arange(8) % 2, "linear", NonFiniteError, "of 8 items, which are not finite"),
    ],
)
def test_what_cannot_be_read_says_why(z, concept, probe, error, text):
    with pytest.raises(error, match=text):
        fit_probe(z, concept, probe)
