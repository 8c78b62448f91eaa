"""Factor transfer in worlds whose answer is known."""

import pytest
import torch
from torch import nn

from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.factors import Factors
from iin_lightning.flows.linear import Permutation
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.transfer import ClassJudge, DifferenceJudge, FactorTransfer, judges_for, stroke_color

# The world: an "image" 3x1x4 whose first three pixels hold the digit (one-hot, red), its last one a colour.
FACTORS = Factors({"residual": 1, "digit": 3, "color": 8}, 12)
CONCEPTS = ("digit", "color")


class World(Encoder):
    """z is the image, reordered so that the factors are its parts; so the identity is a perfect translator."""

    latent_dim, output = 12, "image"
    order = torch.tensor([4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])

    def encode(self, x):
        z = x.flatten(1)[:, self.order]
        return DiagonalGaussian(z, torch.zeros_like(z))

    def decode(self, z):
        return z[:, self.order.argsort()].unflatten(1, (3, 1, 4))


class Digits(nn.Module):
    def forward(self, x):
        return x[:, 0, 0, :3]


class Always(nn.Module):
    def forward(self, x):
        return torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)


def images(digits, colors):
    x = torch.full((len(digits), 3, 1, 4), -1.0)
    x[torch.arange(len(digits)), 0, 0, digits] = -0.5
    x[:, :, 0, 3] = colors * 2 - 1
    return x


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    digits = torch.arange(12) % 3
    colors = torch.rand(12, 3, generator=generator) / 2 + 0.5
    labels = torch.stack([digits, torch.arange(12)], 1)
    x = images(digits, colors)
    other = torch.arange(12).roll(1)
    return x, labels, x[other], labels[other], torch.stack([torch.arange(12), other], 1)


def score(interpreter, batches):
    judges = {"digit": ClassJudge(Digits()), "color": DifferenceJudge(lambda x: x[:, :, 0, 3] / 2)}
    metric = FactorTransfer(FACTORS, judges, CONCEPTS)
    for size in (slice(0, 5), slice(5, 12)):
        metric.update(interpreter, *(part[size] for part in batches))
    return {name: score.value for name, score in metric.compute().items()}


class Shuffled(World):
    """The same world, but the digit's and the colour's dimensions sit in each other's factor."""

    order = torch.tensor([4, 3, 5, 6, 0, 1, 2, 7, 8, 9, 10, 11])


def test_perfect_factors_transfer_and_keep(batches):
    scores = score(Interpreter(World(), Permutation(torch.arange(12)), FACTORS), batches)
    assert scores["digit/digit"] == 1
    assert scores["digit/color"] == scores["digit/residual"] == scores["digit/reconstruction"] == 1
    assert scores["color/color"] == pytest.approx(0, abs=1e-6)
    assert scores["color/digit"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rare", [1, 6])
def test_no_answer_that_does_not_look_at_the_source_is_better_than_chance(batches, rare):
    """Of sources, which differ from their targets: where glasses are rare, most sources of a swap wear them."""
    labels = (torch.arange(12) < rare).long()
    x, source = images(labels, batches[0][:, :, 0, 3] / 2 + 0.5), 1 - labels
    pairs = torch.stack([torch.arange(12), torch.arange(12)], 1)
    columns = [torch.stack([digits, digits], 1) for digits in (labels, source)]
    found = []
    for answer in (Digits(), Always()):
        metric = FactorTransfer(FACTORS, {"digit": ClassJudge(answer)}, CONCEPTS)
        interpreter = Interpreter(World(), Permutation(torch.arange(12)), FACTORS)
        metric.update(interpreter, x, columns[0], images(source, torch.ones(12, 3)), columns[1], pairs)
        found.append(metric.compute())
    right, constant = found
    assert str(right["digit/digit"]) == "1.000 ± 0.000"
    assert constant["digit/digit"].value == right["digit/chance"].value == 0.5


def test_a_trait_goes_with_the_residual(batches):
    """The trait is the residual's one pixel, which every image has a value of its own for."""
    pixel = World.order[0]

    def trait(x):
        return x.flatten(1)[:, pixel]

    for part in (batches[0], batches[2]):
        part.flatten(1)[:, pixel] = torch.rand(12)
    elsewhere = World()
    elsewhere.order = torch.tensor([0, 4, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])
    scores = []
    for world in (World(), elsewhere):
        interpreter = Interpreter(world, Permutation(torch.arange(12)), FACTORS)
        metric = FactorTransfer(FACTORS, judges_for({}, {}, {"trait": trait}), CONCEPTS)
        metric.update(interpreter, *batches)
        scores.append({name: score.value for name, score in metric.compute().items()})
    right, wrong = scores
    assert {right[f"trait/{case}"] for case in ("residual", "digit", "color", "reconstruction", "images")} == {0}
    assert wrong["trait/residual"] > 0.1
    assert right["trait/chance"] > 0.1


def test_concepts_in_the_wrong_factor_are_seen(batches):
    scores = score(Interpreter(Shuffled(), Permutation(torch.arange(12)), FACTORS), batches)
    assert scores["digit/digit"] == 0, "the digit stays when its factor is swapped"
    assert scores["digit/color"] == 0, "and goes with the colour"
    assert scores["digit/reconstruction"] == scores["digit/images"] == 1
    assert scores["color/color"] > 0.05


def test_the_stroke_color_leaves_out_background_and_faint_edges():
    image = -torch.ones(1, 3, 32, 32)
    image[0, :, 10:16, 10:14] = torch.tensor([0.2, -0.4, 1.0])[:, None, None]
    image[0, :, 16:18, 10:14] = torch.tensor([-0.8, -0.9, -0.2])[:, None, None]
    assert stroke_color(image)[0].tolist() == pytest.approx([0.6, 0.3, 1.0])


def test_logits_are_read_by_the_network_itself_and_have_no_colour():
    kinds = {"digit": "class", "color": "color"}
    assert set(judges_for(kinds, {"digit": Digits()})) == {"digit", "color"}
    assert set(judges_for(kinds, {})) == {"color"}
    assert set(judges_for(kinds, {}, predicted="digit")) == {"digit"}
