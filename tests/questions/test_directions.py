"""Directions and edits of a model whose latent is its image, in a world where two attributes go together."""

import pytest
import torch
from torch import nn

from iin_lightning.data.base import Source, digest
from iin_lightning.data.module import DataModule
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.errors import ConfigError
from iin_lightning.factors import Factors
from iin_lightning.flows.base import Bijector
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.answer import scalars
from iin_lightning.questions.directions import directions, edit
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import generator

SIDE = 4
COUNTS = {"train": 600, "val": 50, "test": 120}
CONCEPTS = ("Left", "Top", "corner", "Never")


class Lights(Source):
    """Grey images: the left column is bright with Left, the upper row with Top, and a pixel tells the corner."""

    concepts = CONCEPTS

    def __init__(self, split):
        key = generator("lights", split)
        n = COUNTS[split]
        left = torch.rand(n, generator=key) < 0.5
        top = torch.where(torch.rand(n, generator=key) < 0.8, left, ~left)
        corner = torch.arange(n) % 3
        self.labels = torch.stack([left.long(), top.long(), corner, torch.zeros(n).long()], dim=1)
        self.labels[::10, 0] = -1  # nobody has looked
        images = 0.2 * torch.randn(n, 1, SIDE, SIDE, generator=key)
        images[:, 0, 1:, 0] += left.float()[:, None] - 0.5
        images[:, 0, 0, 1:] += top.float()[:, None] - 0.5
        images[torch.arange(n), 0, 2, 1 + corner] += 1
        self.images = images / 2

    def draw(self, indices, generator):
        return self.images[indices]

    def content(self):
        return digest(self.images)


class Data(DataModule):
    concepts = CONCEPTS
    kinds = dict.fromkeys(CONCEPTS, "class")
    classes = {name: (f"not {name}", name) for name in ("Left", "Top", "Never")} | {"corner": "abc"}
    image_shape = (1, SIDE, SIDE)

    def load(self, split):
        return Lights(split)


class Pixels(Encoder):
    latent_dim = SIDE**2
    output = "image"

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, x):
        return DiagonalGaussian.deterministic(x.flatten(1))

    def decode(self, z):
        return z.unflatten(1, (1, SIDE, SIDE))


class Whitening(Bijector):
    """The linear map that makes these latents as standard as it can."""

    def __init__(self):
        super().__init__()
        z = Lights("train").images.flatten(1)
        values, vectors = torch.linalg.eigh(z.T.cov())
        self.mean, self.whiten = z.mean(0), vectors @ (values**-0.5).diag() @ vectors.T

    def forward(self, x):
        return (x - self.mean) @ self.whiten, torch.zeros(len(x))

    def inverse(self, y):
        return y @ self.whiten.inverse() + self.mean, torch.zeros(len(y))


class Head(Pixels):
    """A classifier that tells Left."""

    output = "logits"

    def decode(self, z):
        score = 8 * z.unflatten(1, (SIDE, SIDE))[:, 1:, 0].mean(1)
        return torch.stack([-score, score], dim=1)


class Judge(nn.Module):
    """Sees what the images are made of, through the noise."""

    def __init__(self, concept):
        super().__init__()
        self.concept = concept
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        if self.concept == "corner":
            return 8 * images[:, 0, 2, 1:]
        part = images[:, 0, 1:, 0] if self.concept == "Left" else images[:, 0, 0, 1:]
        score = 8 * part.mean(1)
        return torch.stack([-score, score], dim=1)


@pytest.fixture
def subject(tmp_path):
    def build(network=Pixels, paths=()):
        interpreter = Interpreter(network(), Whitening(), Factors.unsupervised(SIDE**2)).eval()
        return Subject(tmp_path, interpreter, Data(), Judge, tmp_path, paths, concept="Left")

    return build


OPTIONS = {
    "attributes": None,
    "method": "mean",
    "keep": None,
    "alphas": [-1.0, 0.0, 1.0],
    "alpha": 1.0,
    "reader": "judge",
    "shown": 2,
    "count": 100,
    "seed": 0,
}
EDIT = {"direction": "Top", "alpha": 2.0, "keep": [], "method": "mean", "steps": 3, "count": 2, "seed": 0}


def test_what_goes_together_is_moved_together_unless_it_is_kept(subject):
    found = directions(subject(), **OPTIONS)
    numbers = found.numbers
    assert numbers["moved"] == ["Left", "Top", "corner=a", "corner=b", "corner=c"]
    assert numbers["left_out"] == {"Never": "0 examples have it, 600 lack it"}
    assert numbers["with"]["Left"] + numbers["without"]["Left"] == 540, "some are unknown"
    assert numbers["with"]["corner=a"] == 200
    assert numbers["kept"]["corner=a"] == "Left, Top"
    assert min(numbers["recognised"].values()) > 0.95
    assert sum(numbers["held_out_with"][f"corner={name}"] for name in "abc") == numbers["held_out"] == 100
    left, top = 0, 1
    plain, projected = (torch.tensor(numbers["effects"][kind]) for kind in ("plain", "projected"))
    assert plain[top, left] > 0.2
    assert projected[top, left] < plain[top, left] - 0.1
    assert (plain.diagonal() > 0.2).all()
    assert numbers["side_effect"]["plain"]["Top"] > 0.1
    assert numbers["own_effect"]["plain"]["Top"] == pytest.approx(plain[top, top].item())
    assert set(found.figures) == {"cosines", "effects", "", "2"}
    rows = found.tables["effects"]
    assert len(rows) == 25
    assert rows[5]["direction"] == "Top"
    assert rows[5]["attribute"] == "Left"
    assert rows[5]["plain"] == pytest.approx(plain[top, left].item())
    assert len(scalars(numbers)) < 60, "matrices are no rows of a table on the screen"


def test_classes_that_exclude_each_other_are_not_kept(subject):
    found = directions(subject(), **OPTIONS | {"attributes": ["corner:a", "corner=b"]})
    assert found.numbers["moved"] == ["corner=a", "corner=b"]
    assert list(found.numbers["effects"]) == ["plain"]
    assert found.numbers["side_effect"] == {"plain": {}}
    nothing = directions(subject(), **OPTIONS | {"attributes": ["Top"], "keep": []})
    assert list(nothing.numbers["effects"]) == ["plain"]
    assert set(nothing.figures) == {"effects", ""}


def test_what_is_kept_is_read_too(subject):
    found = directions(subject(), **OPTIONS | {"attributes": ["Top"], "keep": ["Left"], "reader": "probe"})
    assert found.numbers["attributes"] == ["Top", "Left"]
    assert found.numbers["moved"] == ["Top"]
    (plain,), (projected,) = (found.numbers["effects"][kind] for kind in ("plain", "projected"))
    assert abs(projected[1]) < plain[1]


def test_a_network_without_images_reads_its_own_classes_and_probes_the_rest(subject):
    found = directions(subject(Head), **OPTIONS | {"attributes": ["Left", "Top"]})
    assert set(found.figures) == {"cosines", "effects"}
    assert min(found.numbers["recognised"].values()) > 0.95
    same = directions(subject(), **OPTIONS | {"attributes": ["Left", "Top"]})
    # Judge and head tell Left by the same rule; Top is told by a regression of the latents.
    assert found.numbers["effects"]["plain"][0][0] == pytest.approx(same.numbers["effects"]["plain"][0][0], abs=1e-6)
    assert found.numbers["effects"]["plain"][1][1] > 0.2


def test_what_logits_tell_is_known_or_found_among_the_labels(subject):
    model = subject(Head)
    z, labels = model.pick_latents(100, 0)
    logits = model.interpreter.decode(z)
    assert predicted_concept(model, logits, labels) == "Left"
    # What is known is believed, whatever is hit; else it is what is hit best, of as many classes as logits.
    model.concept = "Top"
    assert predicted_concept(model, logits, labels) == "Top"
    for named in ("corner", None):
        model.concept = named
        assert predicted_concept(model, logits, labels) == "Left"
    model.concept = None
    assert predicted_concept(model, logits[:, [0, 1, 1]], labels) == "corner"
    assert predicted_concept(model, logits[:, [0, 1, 1, 1]], labels) is None


def test_an_edit_moves_the_reconstruction_along(subject):
    model = subject()
    found = edit(model, **EDIT)
    assert list(found.images) == ["test_0_Top_+2", "test_1_Top_+2"]
    original = model.pick(2, 0)
    for image, before in zip(found.images.values(), original):
        assert (image - before)[0, 0, 1:].mean() > 0.5, "the upper row is brighter"
        assert (image - before)[0, 1:, 0].mean() > 0.2, "and so is the left column"
    assert found.numbers["lost_by_reconstruction"] < 1e-6
    kept = edit(model, **EDIT | {"keep": ["Left"]})
    for image, before in zip(kept.images.values(), original):
        assert abs((image - before)[0, 1:, 0].mean()) < 0.2
    assert set(found.figures) == {""}


def test_alpha_0_gives_the_reconstruction(subject):
    model = subject()
    found = edit(model, **EDIT | {"alpha": 0.0, "direction": "corner:b", "keep": None})
    reconstructions = model.interpreter.reconstruct(model.pick(2, 0))
    assert list(found.images) == ["test_0_corner-b_+0", "test_1_corner-b_+0"]
    assert all(torch.equal(image, other) for image, other in zip(found.images.values(), reconstructions))
    assert found.numbers["changed"] == 0


@pytest.mark.parametrize(
    ("analysis", "options", "text"),
    [
        (directions, {"attributes": ["Lefd"]}, "did you mean Left"),
        (directions, {"attributes": []}, "names none; allowed are: Left, Top"),
        (directions, {"attributes": ["Never"]}, "0 examples have 'Never' and 600 lack it"),
        (directions, {"keep": ["Right"]}, "There is no direction 'Right'"),
        (directions, {"reader": "jury"}, "allowed are: judge, probe"),
        (edit, {"direction": None}, r"analysis\.direction=<name>; allowed are: Left, Top"),
        (edit, {"direction": "corner:d"}, "There is no direction 'corner=d'"),
        (edit, {"steps": 1}, "at least 2"),
    ],
)
def test_what_does_not_go_says_why(subject, analysis, options, text):
    with pytest.raises(ConfigError, match=text):
        analysis(subject(), **(OPTIONS if analysis is directions else EDIT) | options)


def test_data_without_classes_have_no_directions(subject):
    model = subject()
    model.data.classes = {}
    with pytest.raises(ConfigError, match="these data have no concept with classes"):
        directions(model, **OPTIONS)
    with pytest.raises(ConfigError, match="no image decoder"):
        edit(subject(Head), **EDIT)
