"""What every answer says: which latents it is of, and whether the factors that it concludes from are learned."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.explored import interpreter
from tests.questions.test_analyses import ANALYSES
from tests.questions.test_analyses import ask as build

from iin_lightning.cli.paths import conf_folder
from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.explorer.explored import Explored
from iin_lightning.factors import Factors
from iin_lightning.flows.linear import Permutation
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.answer import LEARNED, NOT_YET, Learned, answer, ask
from iin_lightning.questions.results import storable, write
from iin_lightning.questions.subject import MEANS, SAMPLES, Subject
from iin_lightning.runs.build import check_encoder

METRICS = sorted(path.stem for path in (conf_folder() / "metric").glob("*.yaml"))
MEASURED = [name for name in METRICS if name not in ("typicality", "quality")]  # which ask for more than a model
WIDE = 30.0


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """The same autoencoder, whose posteriors are points or very wide."""
    data = ColorMNISTMini(views=1, limit=200)
    torch.manual_seed(0)
    judge = Classifier(n_classes=10, image_size=32, latent_dim=8, width=4, norm="batch").eval()

    def make(scale):
        model = interpreter("autoencoder", data.source("train").draw(torch.arange(100), None))
        network = model.encoder.encoder
        encode = network.encode

        def widened(x):
            mean = encode(x).mean
            return DiagonalGaussian(mean, torch.full_like(mean, scale))

        network.encode = widened
        folder = tmp_path_factory.mktemp("subject")
        return Subject(folder, model, data, lambda concept: judge, folder / "cache")

    return make(0.0), make(WIDE)


def measure(name):
    config = OmegaConf.load(conf_folder() / "metric" / f"{name}.yaml")
    config.probe = "linear"
    return instantiate(config[name])


@pytest.mark.parametrize("name", MEASURED)
def test_a_measure_is_of_the_latents_that_it_names(subjects, name):
    points, wide = (storable(measure(name)(subject)) for subject in subjects)
    assert (points == wide) == (points.get("latents", MEANS) == MEANS)


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_is_of_the_latents_that_it_names(subjects, name):
    few = {"attributes": ["digit:1"], "shown": 1} if name == "directions" else {}
    points, wide = (ask(subject, build(name, **few)) for subject in subjects)
    assert (repr(points.numbers) == repr(wide.numbers)) == (points.latents == MEANS)
    assert points.numbers["of"].endswith(SAMPLES if name in ("sample", "submanifold") else MEANS)


CONCLUDING = ("directions", "edit", "embed", "swap", "walk")


def told(subject, folder, digit):
    """The subject in a folder whose run measured the transfer of the digit, or no transfer."""
    scores = {"digit/digit": {"value": digit, "error": 0.01}, "digit/reconstruction": 0.91, "digit/chance": 0.1}
    scores["digit/images"] = 0.99
    if digit is not None:
        write({"metrics": {f"test/transfer/{key}": value for key, value in scores.items()}}, folder)
    return replace(subject, folder=folder, out=folder)


@pytest.mark.parametrize("name", ANALYSES)
def test_who_concludes_from_a_factor_shows_its_transfer(subjects, name, tmp_path):
    few = {"attributes": ["digit:1"], "shown": 1} if name == "directions" else {}
    found = ask(told(subjects[0], tmp_path, 0.09), build(name, **few))
    assert (LEARNED in found.numbers) == (name in CONCLUDING)
    if name in CONCLUDING:
        assert found.numbers[LEARNED]["digit"] == {"transfer": 0.09, "bound": 0.91, "chance": 0.1, "so": NOT_YET}
        for figure in found.figures.values():
            assert "transfer 0.09 of 0.91 (chance 0.1)" in " ".join(figure.texts[-1].get_text().split())


@pytest.mark.parametrize(("digit", "so"), [(0.09, NOT_YET), (0.8, "believed"), (None, "unknown")])
def test_what_is_not_learned_is_said(subjects, digit, so, tmp_path, capsys):
    found = answer(told(subjects[0], tmp_path, digit), "edit", build("edit")).answer
    said = capsys.readouterr().out
    assert {name: record["so"] for name, record in found.numbers[LEARNED].items()} == {"digit": so, "color": "unknown"}
    assert (NOT_YET in said) == (so == NOT_YET)
    assert ("metric=[transfer]" in said) == (so == "unknown")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["analysis"]["edit"][LEARNED]


@pytest.mark.parametrize(
    ("numbers", "believed"),
    [((0.51, 0.91, 0.1, 0.99), True), ((0.5, 0.91, 0.1, 0.99), False), ((0.05, 0.02, 0.3, 0.0), True),
     ((0.2, 0.02, 0.3, 0.0), False), ((0.6, 0.95, 0.5, 0.99), False), ((0.1, 0.1, 0.1, 0.99), False),
     ((0.9, math.nan, 0.1, 0.99), False), ((0.05, 0.08, 0.1, 0.99), False), ((0.4, 0.4, 0.3, 0.0), False),
     ((0.12, 0.12, 0.1, 0.99, 0.02), False)],
)  # fmt: skip
def test_a_factor_is_believed_from_half_way_between_chance_and_bound_on(numbers, believed):
    assert Learned(*numbers).believed is believed


class Outputs(Encoder):
    """z are eight pixels, and the network gives some of them, in the shape and under the name that it is told."""

    latent_dim = 8

    def __init__(self, output, shape=(2,)):
        super().__init__()
        self.output, self.shape = output, shape
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def encode(self, x):
        return DiagonalGaussian.deterministic(100 * x[:, 0, 16, 12:20] + x[:, 1, 16, 12:20])

    def decode(self, z):
        return z[:, [0, 7]].unflatten(1, self.shape)


@pytest.fixture
def regression(tmp_path):
    """Of its two values the residual is one and the colour the other."""
    model = Interpreter(Outputs("values"), Permutation(range(8)), Factors({"residual": 4, "color": 4}, 8))
    return Subject(tmp_path, model, ColorMNISTMini(views=1, limit=200))


@pytest.mark.parametrize("name", ANALYSES)
def test_values_are_not_read_as_classes(regression, name):
    few = {"attributes": ["digit:1"], "reader": "judge", "shown": 1} if name == "directions" else {}
    question = build(name, **few, **({"law": "data", "draws": 100} if name == "walk" else {}))
    if name in ("edit", "interpolate", "sample", "submanifold", "swap"):
        with pytest.raises(ConfigError, match="gives values"):
            question(regression)
        return
    found = question(regression)
    assert "same_prediction" not in found.numbers
    if name == "walk":
        shares = found.numbers["explained_variance"]
        assert (shares["residual"]["1"], shares["color"]["0"]) == (0, 0)
        assert shares["residual"]["0"] > 0.5
        assert shares["color"]["1"] > 0.5
        with pytest.raises(ConfigError, match=r"analysis\.concept"):
            build(name, concept="digit")(regression)


def test_values_have_no_transfer_and_no_page(regression):
    with pytest.raises(ConfigError, match="leakage"):
        measure("transfer")(regression)
    with pytest.raises(ConfigError, match="analysis=walk"):
        Explored("mine", regression, 4, 0)


@pytest.mark.parametrize(
    ("output", "shape", "cure"),
    [("logits", (2, 1, 1), "averages over places"), ("values", (2, 1, 1), "averages over places"),
     ("image", (2,), "encoder.output=values")],
)  # fmt: skip
def test_outputs_of_another_shape_are_refused(output, shape, cure):
    with pytest.raises(ShapeError, match=cure):
        check_encoder(Outputs(output, shape), torch.zeros(3, 3, 32, 32))
