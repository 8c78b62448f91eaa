"""Directions and their effects in worlds whose answer was planted: z̃ ~ N(0, 1), attributes are half spaces of it."""

import math

import pytest
import torch

from iin_lightning.analysis.chunks import CHUNK
from iin_lightning.analysis.directions import (
    FEWEST,
    along,
    answers,
    attributes_in,
    compatible,
    cosines,
    examples,
    fit_directions,
    project,
)
from iin_lightning.analysis.effects import effects, linear_judge, recognised, side_effects
from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import PaperTranslator
from iin_lightning.interpreter import Interpreter

METHODS = ["mean", "svm", "logistic"]
N = 8
APART = 2 * math.sqrt(2 / math.pi)  # the means of the two halves of N(0, 1)
# Who has a beard is more often a man, cosine 0.6; smiling has nothing to do with either.
NORMALS = torch.zeros(3, N)
NORMALS[0, 0], NORMALS[1, 0], NORMALS[1, 1], NORMALS[2, 5] = 1.0, 0.6, 0.8, -1.0
NAMES = ["Male", "Beard", "Smiling"]


def world(n=20_000, threshold=0.0, seed=0):
    z_tilde = torch.randn(n, N, generator=torch.Generator().manual_seed(seed))
    having = (z_tilde @ NORMALS.T > threshold).long()
    return z_tilde, dict(zip(NAMES, having.T))


def judge(z_tilde):
    """See the true attributes, a little unsure near their boundaries."""
    return torch.sigmoid(6 * z_tilde @ NORMALS.T)


@pytest.mark.parametrize("method", METHODS)
def test_planted_directions_come_back_and_alpha_means_the_same_for_all_methods(method):
    directions = fit_directions(*world(), method)
    assert list(directions) == NAMES
    for name, normal in zip(NAMES, NORMALS):
        vector = directions[name].vector
        assert torch.cosine_similarity(vector, normal, dim=0) > 0.995
        assert vector.norm().item() == pytest.approx(APART, rel=0.03)
        assert directions[name].having + directions[name].lacking == 20_000
    agreement = cosines(torch.stack([directions[name].vector for name in NAMES]))
    assert torch.allclose(agreement, NORMALS @ NORMALS.T, atol=0.03)
    z_tilde, attributes = world(threshold=1.9)
    rare = fit_directions(z_tilde, {"Beard": attributes["Beard"]}, method)["Beard"]
    assert rare.having < 0.04 * len(z_tilde)
    assert torch.cosine_similarity(rare.vector, NORMALS[1], dim=0) > 0.98


def test_the_mean_is_equation_14_over_z_tilde_towards_having():
    z_tilde = torch.tensor([[3.0, 0.0]] * FEWEST + [[1.0, 4.0]] * FEWEST)
    answer = torch.tensor([1] * FEWEST + [0] * FEWEST)
    direction = fit_directions(z_tilde, {"Young": answer})["Young"]
    assert direction.vector.tolist() == pytest.approx([2.0, -4.0])
    opposite = fit_directions(z_tilde, {"Old": 1 - answer})["Old"]
    assert torch.equal(opposite.vector, -direction.vector)


@pytest.mark.parametrize("method", ["mean", "logistic"])
def test_examples_of_which_nobody_knows_are_not_looked_at(method):
    z_tilde, attributes = world(n=400)
    answer = attributes["Smiling"].clone()
    answer[::3] = -1
    known = answer >= 0
    with_unknown = fit_directions(z_tilde, {"Smiling": answer}, method)["Smiling"]
    without = fit_directions(z_tilde[known], {"Smiling": answer[known]}, method)["Smiling"]
    assert torch.equal(with_unknown.vector, without.vector)
    assert (with_unknown.having, with_unknown.lacking) == examples(answer)
    assert sum(examples(answer)) == known.sum()


@pytest.mark.parametrize("method", METHODS)
def test_projected_is_orthogonal_to_the_others_and_as_far_along_its_own(method):
    directions = fit_directions(*world(n=2000), method)
    projected = project(directions, "Beard", ["Male", "Smiling"])
    for name in ("Male", "Smiling"):
        assert projected @ directions[name].vector == pytest.approx(0, abs=1e-5)
    own = directions["Beard"].vector
    assert projected @ own == pytest.approx((own @ own).item(), rel=1e-5)
    assert torch.equal(project(directions, "Beard", []), own)
    # Saying the same as another, an attribute adds nothing to what is kept.
    directions["Masculine"] = directions["Male"]
    twice = project(directions, "Beard", ["Male", "Masculine", "Smiling"])
    assert torch.allclose(twice, projected, atol=1e-5)
    for name, others, text in (("Smilin", [], "did you mean Smiling"), ("Male", ["Male"], "cannot change and be kept")):
        with pytest.raises(ConfigError, match=text):
            project(directions, name, others)


def test_beard_also_makes_men_unless_gender_is_kept():
    directions = fit_directions(*world())
    z_tilde, _ = world(n=3000, seed=1)
    plain = effects(z_tilde, torch.stack([directions[name].vector for name in NAMES]), judge)
    others = {name: [other for other in NAMES if other != name] for name in NAMES}
    steps = torch.stack([project(directions, name, others[name]) for name in NAMES])
    projected = effects(z_tilde, steps, judge)
    male, beard, smiling = range(3)
    assert plain.mean[beard, male] > 0.2
    assert projected.mean[beard, male].abs() < 0.03
    assert projected.mean[male, beard].abs() < 0.03
    assert plain.mean[beard, smiling].abs() < 0.03
    # The effect on itself stays what it was, and the step is longer, 1 / sin of the angle.
    assert projected.mean[beard, beard].item() == pytest.approx(plain.mean[beard, beard].item(), abs=0.03)
    assert steps[beard].norm() / directions["Beard"].vector.norm() == pytest.approx(1 / 0.8, rel=0.05)
    before, after = (side_effects(found.mean, NAMES, NAMES) for found in (plain, projected))
    assert before["Beard"] > 0.2
    assert after["Beard"] < 0.06
    assert before["Smiling"] < 0.06


def test_effects_are_means_of_the_change_with_their_standard_errors():
    z_tilde = torch.randn(CHUNK + 7, 2)  # more than one chunk
    vectors = torch.tensor([[1.0, 0.0], [0.0, -2.0]])

    def read(part):
        return torch.sigmoid(torch.stack([part[:, 0], part.sum(1), part[:, 1] ** 3], dim=1))

    found = effects(z_tilde, vectors, read, alpha=1.5)
    for row, vector in enumerate(vectors):
        changes = read(z_tilde + 0.75 * vector) - read(z_tilde - 0.75 * vector)
        assert torch.allclose(found.mean[row], changes.mean(0), atol=1e-6)
        assert torch.allclose(found.error[row], changes.std(0) / len(changes) ** 0.5, atol=1e-6)


def test_alpha_0_is_the_reconstruction_to_the_last_bit():
    network = Autoencoder(image_size=16, latent_dim=N, width=4, norm="batch")
    interpreter = Interpreter(network, PaperTranslator(N, n_blocks=3, hidden=16), Factors.unsupervised(N)).eval()
    x = torch.rand(5, 3, 16, 16) * 2 - 1
    vector = torch.randn(N)
    walk = along(interpreter, x, vector, [-1.0, 0.0, 2.0])
    assert walk.shape == (3, 5, 3, 16, 16)
    assert torch.equal(walk[1], interpreter.reconstruct(x))
    moved = interpreter.translate(interpreter.encode(x)) + 2.0 * vector
    assert torch.equal(walk[2], interpreter.decode(interpreter.untranslate(moved)))
    assert not torch.equal(walk[2], walk[1])


def test_a_concept_with_more_classes_is_an_attribute_a_class():
    classes = {"digit": "0123", "Pale_Skin": ("not Pale Skin", "Pale Skin"), "pet": ("cat", "dog"), "all": ("one",)}
    attributes = attributes_in(classes)
    assert list(attributes) == ["digit=0", "digit=1", "digit=2", "digit=3", "Pale_Skin", "pet=dog"]
    labels = torch.tensor([[3, 0, 1], [0, 1, 0], [-1, -1, 1]])
    found = answers(labels, ["digit", "Pale_Skin", "pet"], attributes)
    assert found["digit=3"].tolist() == [1, 0, -1]
    assert found["digit=0"].tolist() == [0, 1, -1]
    assert found["Pale_Skin"].tolist() == [0, 1, -1]
    assert found["pet=dog"].tolist() == [1, 0, 1]
    assert compatible("digit=3", attributes) == ["Pale_Skin", "pet=dog"]


def test_one_against_the_rest_and_classes_that_span_one_another():
    means = 3 * torch.eye(4, N)
    label = torch.arange(4000) % 4
    z_tilde = means[label] + torch.randn(4000, N, generator=torch.Generator().manual_seed(0))
    attributes = answers(label[:, None], ["digit"], attributes_in({"digit": "0123"}))
    directions = fit_directions(z_tilde, attributes)
    rest = means[:3].mean(0)
    assert torch.allclose(directions["digit=3"].vector, means[3] - rest, atol=0.2)
    with pytest.raises(ConfigError, match=r"'digit=3' is made of those of digit=0, digit=1, digit=2"):
        project(directions, "digit=3", ["digit=0", "digit=1", "digit=2"])


def test_side_effects_leave_out_classes_that_exclude_each_other():
    mean = torch.tensor([[0.5, -0.5, 0.1], [-0.25, -0.25, 0.0], [0.0, 0.2, 0.0]])
    names = ["digit=0", "digit=1", "Bold"]
    found = side_effects(mean, names, names)
    assert found["digit=0"] == pytest.approx(0.2)
    assert found["digit=1"] == 0
    assert math.isnan(found["Bold"]), "it has no effect of its own"
    assert side_effects(mean[:2, :2], names[:2], names[:2]) == {}


def test_linear_judges_read_what_lies_in_the_latents():
    z, attributes = world(n=3000)
    attributes["Smiling"][::2] = -1
    read = linear_judge(z, attributes)
    held_out, truth = world(n=1000, seed=1)
    probabilities = read(held_out)
    assert probabilities.shape == (1000, 3)
    assert min(recognised(probabilities, truth).values()) > 0.99
    assert recognised(1 - probabilities, truth)["Male"] < 0.01
    chance = recognised(torch.rand(1000, 3, generator=torch.Generator().manual_seed(0)), truth)
    assert all(0.4 < area < 0.6 for area in chance.values())
    assert math.isnan(recognised(probabilities, {"Male": torch.ones(1000).long()})["Male"])


GOOD = torch.tensor([0, 1] * 10)


@pytest.mark.parametrize(
    ("z_tilde", "answer", "method", "error", "text"),
    [
        (torch.rand(20, 3), GOOD, "median", ConfigError, "allowed are: mean, svm, logistic"),
        (torch.rand(20, 3), (torch.arange(20) < 4).long(), "mean", ConfigError, "4 examples .* needs 5 or more"),
        (torch.rand(20, 3), GOOD[:19], "mean", ShapeError, r"each of 20 examples, got \(19,\)"),
        (torch.rand(20, 3), GOOD + 1, "mean", ShapeError, r"values \[1, 2\]"),
        (torch.full((20, 3), math.nan), GOOD, "svm", NonFiniteError, "20 of 20 examples"),
    ],
)
def test_what_gives_no_direction_says_why(z_tilde, answer, method, error, text):
    with pytest.raises(error, match=text):
        fit_directions(z_tilde, {"Bald": answer}, method)
