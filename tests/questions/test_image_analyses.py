"""Walks, squares, swaps, samples and reconstructions of a user's own images, and what cannot be asked."""

import pytest
import torch
from torchvision.utils import save_image

from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.encoders import Autoencoder, Classifier
from iin_lightning.errors import ConfigError, FactorError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.interpolate import interpolate, submanifold
from iin_lightning.questions.judges import choose_judge
from iin_lightning.questions.reconstruct import reconstruct
from iin_lightning.questions.sample import sample
from iin_lightning.questions.subject import Subject
from iin_lightning.questions.swap import swap

WALK = {"pairs": 4, "shown": 2, "steps": 5, "reference": 10, "concept": None, "seed": 0}
SWAP = {"targets": 2, "sources": 3, "factors": None, "pairs": 5, "seed": 0}
SAMPLE = {"count": 8, "shown": 4, "columns": 2, "priors": [], "concept": None, "seed": 0}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for number, image in enumerate(images):
        save_image(image, folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def subject(mnist_root, tmp_path):
    """Untrained: what is asked and drawn does not depend on how well it is answered."""
    data = ColorMNIST(root=mnist_root, download=False, val_fraction=0.5, views=1)

    def build(*paths, network=None, dims=None):
        torch.manual_seed(0)
        network = network or Autoencoder(image_size=32, latent_dim=8, width=4, norm="batch")
        translator = Translator(8, n_blocks=2, hidden=8)
        translator.initialize(torch.randn(64, 8, generator=torch.Generator().manual_seed(3)))
        factors = Factors(dims or {"residual": 4, "digit": 3, "color": 1}, 8)
        model = Interpreter(network, translator, factors).eval()
        return Subject(tmp_path, model, data, cache=tmp_path / "cache", paths=paths)

    return build


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_own_images_are_walked_one_after_the_other(subject, own):
    found = interpolate(subject(*own[:3]), **WALK)
    assert found.numbers["of"].startswith("2 walks of 5 steps, 10 held-out images")
    assert len(found.tables[""]) == 2 * 2 * 5
    first, second = ([row for row in found.tables[""] if row["pair"] == pair] for pair in range(2))
    for a, b in zip(first[4::5], second[::5]):  # the end of one walk is the start of the next
        assert a["t"] == 1
        assert b["t"] == 0
        assert a["log_likelihood"] == pytest.approx(b["log_likelihood"], abs=1e-4)
    with pytest.raises(ConfigError, match=r"has 1: give two or more by .images="):
        interpolate(subject(own[0]), **WALK)
    with pytest.raises(ConfigError, match=r"analysis\.steps=2 must be at least 3"):
        interpolate(subject(), **WALK | {"steps": 2})


def test_all_own_images_are_drawn_and_of_test_images_as_many_as_asked(subject, own):
    def pictures(found):
        return [axes for axes in found.figures[""].axes if axes.images]

    few, all_own = (interpolate(subject(*paths), **WALK | {"shown": 1}) for paths in ((), own))
    (one,), (three,) = pictures(few), pictures(all_own)
    assert [len(one.images), len(three.images)] == [2, 6], "straight in one space and the other"


def test_of_two_images_there_is_no_standard_error(subject, own):
    numbers = interpolate(subject(*own[:2]), **WALK).numbers["z"]
    assert "shift_image" in numbers
    assert not [name for name in numbers if name.endswith("_error")]


def test_a_square_has_own_images_at_its_corners_or_samples(subject, own):
    asked = subject(*own)
    found = submanifold(asked, steps=3, reference=10, seed=0)
    rows = {(row["row"], row["column"]): row["log_likelihood"] for row in found.tables[""]}
    likely = asked.interpreter.log_prob(asked.pick(4, 0)) / 8
    close(torch.tensor([rows[at] for at in ((0, 0), (0, 2), (2, 0), (2, 2))]), likely)
    other = submanifold(subject(), steps=3, reference=10, seed=0)
    assert other.tables[""] != found.tables[""]
    with pytest.raises(ConfigError, match=r"it needs 4, and images= names 3"):
        submanifold(subject(*own[:3]), steps=3, reference=10, seed=0)


def test_own_images_are_targets_and_sources_of_one_another(subject, own):
    found = swap(subject(*own[:3]), **SWAP)
    assert found.numbers["of"] == "6 pairs"
    axes = found.figures[""].axes
    assert [a.get_title().split()[0] for a in axes if a.images] == ["digit", "color", "residual"]
    pictures = [a.images[0].get_array() for a in axes if a.images]
    assert pictures[0].shape[:2] == (4 * 34 + 2, 4 * 34 + 2)
    errors = found.numbers["errors_of_factors_after_swap_of"]
    assert list(errors) == ["digit", "color", "residual", "nothing"]
    one = swap(subject(*own[:3]), **SWAP | {"factors": ["color"]})
    assert one.numbers["errors_of_factors_after_swap_of"]["color"] == errors["color"]


def test_what_cannot_be_swapped_says_why(subject, own):
    with pytest.raises(ConfigError, match="without concepts, its only factor is the residual"):
        swap(subject(dims={"residual": 8}), **SWAP)
    with pytest.raises(FactorError, match="did you mean color"):
        swap(subject(), **SWAP | {"factors": ["colour"]})
    with pytest.raises(ConfigError, match="has 1 image: give two or more"):
        swap(subject(own[0]), **SWAP)
    with pytest.raises(ConfigError, match=r"analysis\.targets=24 .* of the 24 test images: take fewer targets"):
        swap(subject(), **SWAP | {"targets": 24})


def test_a_prior_with_too_few_latents_is_left_out_with_the_reason(subject):
    found = sample(subject(), **SAMPLE | {"priors": ["standard", "mixture"]})
    numbers = found.numbers
    assert {"translator", "standard", "held_out"} < set(numbers)
    assert "mixture" not in numbers
    assert "too few" in numbers["left_out"]["mixture"]
    assert len([axes for axes in found.figures[""].axes if axes.images]) == 2
    with pytest.raises(ConfigError, match="did you mean standard"):
        sample(subject(), **SAMPLE | {"priors": ["standart"]})


def test_the_translator_changes_nothing_of_an_autoencoder_or_a_classifier(subject, own):
    pictured = reconstruct(subject(*own), count=9, shown=1, seed=0)
    assert pictured.numbers["of"] == "4 images"
    assert pictured.numbers["change_by_translator_largest"] < 1e-3 < pictured.numbers["reconstruction_l1"]
    assert pictured.figures[""].axes[0].images[0].get_array().shape[1] == 4 * 34 + 2
    network = Classifier(n_classes=10, image_size=32, latent_dim=8, width=4, norm="batch")
    told = reconstruct(subject(network=network), count=9, shown=1, seed=0)
    assert told.numbers["same_prediction"] == 1
    assert not told.figures


def test_a_judge_is_named_or_found(subject):
    assert choose_judge(subject(), None) is None  # a bare model folder says of none how to train it
    with pytest.raises(ConfigError, match="did you mean digit"):
        choose_judge(subject(), "digits")
    with pytest.raises(ConfigError, match="bare model folder"):
        choose_judge(subject(), "digit")
