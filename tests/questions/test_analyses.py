"""Every analysis on every kind of model: an answer that is written down, the same for the same seed, or a reason."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from tests.explored import interpreter

from iin_lightning import progress
from iin_lightning.cli.paths import conf_folder
from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.errors import IINError
from iin_lightning.factors import Factors
from iin_lightning.flows import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.answer import Written, answer
from iin_lightning.questions.subject import Subject

ANALYSES = sorted(path.stem for path in (conf_folder() / "analysis").glob("*.yaml"))
KINDS = ("sup", "unsup", "classifier", "network")
# Small enough for a test, and what only a user knows.
OPTIONS = {
    "directions": {"shown": 2, "count": 20, "attributes": ["digit:1", "digit:2"]},
    "edit": {"direction": "digit:1", "count": 2},
    "embed": {"method": "pca", "count": 60, "steps": 6, "walks": 4, "neighbours": 3},
    "interpolate": {"pairs": 6, "shown": 2, "steps": 5, "reference": 40},
    "reconstruct": {"count": 20, "shown": 4},
    "sample": {"count": 20, "shown": 8, "priors": ["standard"]},
    "submanifold": {"steps": 3, "reference": 40},
    "swap": {"targets": 2, "sources": 2, "pairs": 20},
    "walk": {"steps": 5, "walks": 4, "draws": 5},
}
REFUSED = {
    ("unsup", "swap"): "concepts",
    ("classifier", "edit"): "no image decoder",
    ("classifier", "interpolate"): "no image decoder",
    ("classifier", "sample"): "no image decoder",
    ("classifier", "submanifold"): "no image decoder",
    ("classifier", "swap"): "no image decoder",
    **{("network", name): "not an interpreter" for name in ANALYSES if name != "dimensions"},
}

# What is done, and how often; 0 for what nobody can count.
LONG = {
    "directions": {"Finding directions": 2, "Reading effects of plain directions": 2, "Walking": 2},
    "edit": {"Finding directions": 1},
    "embed": {"Fitting PCA": 0, "Walking": 3},
    "interpolate": {"Encoding images": 1, "Measuring latents": 1, "Decoding": 2},
    "reconstruct": {"Reconstructing": 1, "Reconstructing through T": 1},
    "sample": {"Measuring samples": 2},
    "submanifold": {"Encoding test images": 80, "Decoding": 1},
    "swap": {"Swapping": 4},
    "walk": {"Estimating intervals": 3, "Walking": 3, "Walking in digit": 1, "Drawing digit anew": 1},
}


def called(name, title):
    return "_".join(filter(None, (name, title)))


def ask(name, **changes):
    options = OmegaConf.merge(
        OmegaConf.load(conf_folder() / "analysis" / f"{name}.yaml"), OPTIONS.get(name, {}), changes
    )
    return instantiate(options)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Models of random weights of each kind: what is asked does not depend on how well it is answered."""
    data = ColorMNISTMini(views=1, limit=80)
    images = data.source("train").draw(torch.arange(60), None)
    sup, classifier = (interpreter(kind, images) for kind in ("autoencoder", "classifier"))
    mixture = Translator(8, n_blocks=2, hidden=8, components=3)
    mixture.initialize(sup.encode(images))
    unsup = Interpreter(sup.encoder.encoder, mixture, Factors({"residual": 8}, 8)).eval()
    models = {"sup": sup, "unsup": unsup, "classifier": classifier, "network": sup.encoder.encoder}
    judge = Classifier(n_classes=10, image_size=32, latent_dim=8, width=4, norm="batch").eval()

    def build(kind, folder, paths=()):
        return Subject(folder, models[kind], data, lambda concept: judge, paths=paths, out=folder)

    return build


class Answered(NamedTuple):
    """An answer, the folder that it is written to, and what was heard of how far it was, by what was done."""

    written: Written
    folder: Path
    heard: dict[str, tuple]


@pytest.fixture(scope="module")
def answered(subjects, tmp_path_factory):
    """The answer of an analysis on a kind of model, given once."""

    @cache
    def give(kind, name):
        folder, heard = tmp_path_factory.mktemp(f"{kind}-{name}"), {}
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(progress, "listeners", [lambda what, *said: heard.update({what: said})])
            return Answered(answer(subjects(kind, folder), name, ask(name)), folder, heard)

    return give


@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_analysis_answers_or_says_why_not(kind, name, subjects, answered, tmp_path):
    if (reason := REFUSED.get((kind, name))) is not None:
        with pytest.raises(IINError, match=reason):
            answer(subjects(kind, tmp_path), name, ask(name))
        return
    written, folder, _ = answered(kind, name)
    assert json.loads((folder / "results.json").read_text())["analysis"][name]
    assert written.numbers
    for title, figure in written.answer.figures.items():
        assert (folder / "analysis" / f"{called(name, title)}.png").stat().st_size > 1000
        assert (folder / "analysis" / f"{called(name, title)}.pdf").stat().st_size > 1000
        assert max(figure.get_size_inches()) < 12
    for title, rows in written.answer.tables.items():
        assert len((folder / "analysis" / f"{called(name, title)}.csv").read_text().splitlines()) == len(rows) + 1 > 1


@pytest.mark.parametrize("name", LONG)
def test_what_takes_long_says_how_far_it_is(name, answered):
    heard = answered("sup", name).heard
    assert {what: heard.get(what, ())[:2] for what in LONG[name]} == {
        what: (total, total) for what, total in LONG[name].items()
    }


@pytest.mark.parametrize("name", ANALYSES)
def test_the_same_seed_gives_the_same_figures_byte_for_byte_and_another_seed_others(name, subjects, answered, tmp_path):
    def again(folder, **changes):
        answer(subjects("sup", folder), name, ask(name, **changes))
        return content(folder)

    def content(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}

    first = content(answered("sup", name).folder)
    assert again(tmp_path / "second") == first
    if name != "dimensions":  # which asks all pairs
        assert again(tmp_path / "third", seed=1) != first


def test_own_images_are_edited_and_read_or_named(subjects, tmp_path):
    own, letter = tmp_path / "mine.png", tmp_path / "letter.png"
    Image.new("RGBA", (50, 40), (200, 30, 30, 255)).save(own)
    written = answer(subjects("sup", tmp_path, (own,)), "edit", ask("edit", direction="digit:3", alpha=2.0))
    edited = [path for path in written.pictures.values() if "mine" in path.name]
    assert edited
    assert all(Image.open(path).size == (32, 32) for path in edited)
    letter.write_text("Dear reader")
    with pytest.raises(IINError, match=r"letter\.png\] cannot be read as an image"):
        answer(subjects("sup", tmp_path, (letter,)), "swap", ask("swap"))


def test_two_answers_of_one_analysis_stand_side_by_side(subjects, tmp_path):
    for name, changes in (("walk", {}), ("walk_data", {"law": "data"})):
        answer(subjects("classifier", tmp_path), name, ask("walk", **changes))
    assert set(json.loads((tmp_path / "results.json").read_text())["analysis"]) == {"walk", "walk_data"}
    assert {"walk.png", "walk_data.png"} <= {path.name for path in (tmp_path / "analysis").iterdir()}


def test_own_images_of_one_name_do_not_overwrite_each_other(subjects, tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "mine.png")
        Image.new("L", (32, 32), 200).save(paths[-1])
    written = answer(subjects("classifier", tmp_path, tuple(paths)), "walk", ask("walk"))
    assert set(written.pictures) == {"walk_mine_1", "walk_mine_2"}
