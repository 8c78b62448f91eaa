"""Networks from outside on the command line: they come trained, are cut where one says, and a run folder holds them."""

import json
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from tests.data import fakes
from tests.encoders.networks import Small

from iin_lightning import serialization
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.paths import conf_folder
from iin_lightning.encoders import Cut
from iin_lightning.errors import ConfigError, IINError
from iin_lightning.factors import Factors
from iin_lightning.interpreter import Interpreter
from iin_lightning.runs.build import build_factors, check_encoder, input_warnings, latent_warnings, warn_once
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.run import run
from iin_lightning.runs.store import Store

SMALL = (
    "trainer=smoke",
    "trainer.accelerator=cpu",
    "data=color_mnist",
    "data.val_fraction=0.5",
    "data.limit=48",
    "encoder.size=64",
    "flow.n_blocks=2",
    "flow.hidden=8",
    "model.batch_size=16",
)
USER = "encoder.network.target=tests.encoders.networks:Small"
NETWORKS = ["torchvision/squeezenet1_0", "torchvision/regnet_y_400mf", "torchvision/vit_b_32"]


def outcome(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_is_an_option_without_a_yaml_of_its_own(name):
    config = compose_train(f"encoder={name}", "encoder.layer=features", "model=unsup")
    assert config.encoder.network.name == name.partition("/")[2]
    assert config.encoder.network.weights == "default"
    assert config.encoder.layer == "features"
    assert config.first_stage == {"recipe": None, "path": None}
    assert not (conf_folder() / "encoder" / f"{name}.yaml").exists()


def test_timms_names_are_options_with_their_tags():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    config = compose_train("encoder=timm/resnet50.a1_in1k")
    assert config.encoder.network._target_.endswith("Timm")
    assert config.encoder.network.name == "resnet50.a1_in1k"
    assert config.encoder.layer is None


@pytest.mark.parametrize("name", ["resnt50", "resnet50_"])
def test_a_mistyped_name_gets_the_nearest(name):
    with pytest.raises(ConfigError, match="did you mean resnet50"):
        compose_train(f"encoder=torchvision/{name}")


def test_one_factor_can_be_the_whole_latent():
    config = compose_train("model=unsup", "encoder=torchvision/resnet18")
    data = instantiate(config.data)
    assert build_factors(config, 512, data) == Factors({"residual": 512}, 512)
    config.model.factors = {"residual": 8}  # as older runs say it
    assert build_factors(config, 8, data) == Factors({"residual": 8}, 8)


def configured(*overrides):
    return compose_train("data=color_mnist_mini", "data.limit=40", "encoder=module", USER, *overrides)


def as_it_comes(config):
    return Store(Path(config.paths.models), pytest.fail, config.seed).get(Recipe.of(config).encoder)


def test_what_is_fresh_in_a_network_comes_from_the_seed():
    same, again, other = (as_it_comes(configured(f"seed={seed}")) for seed in (1, 1, 2))
    assert serialization.fingerprint(same) == serialization.fingerprint(again) != serialization.fingerprint(other)


def test_a_pca_is_fitted_once_for_a_network_its_data_and_a_seed(tmp_path, capsys):
    def fitted(*overrides):
        config = configured("encoder.layer=stem", "encoder.reduce=pca:3", f"paths.models={tmp_path}", *overrides)
        return as_it_comes(config), capsys.readouterr().out

    first, said = fitted()
    assert "Fitting pca:3" in said
    second, said = fitted()
    assert not said
    assert serialization.fingerprint(first) == serialization.fingerprint(second)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    rest = first.complement(x)
    torch.testing.assert_close(first.resume(first.encode(x).mean, rest), first.network(first.preprocess(x)))
    for change in ("seed=1", "data.limit=60", "encoder.network.arguments={width: 7}"):
        assert "Fitting pca:3" in fitted(change)[1], change


def test_a_network_that_z_alone_cannot_draw_with_is_refused_before_anything_is_trained():
    class Skips(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return torch.tanh(x + self.inner(x))

    images = torch.rand(2, 3, 8, 8) * 2 - 1
    with pytest.raises(ConfigError, match="more than this layer"):
        check_encoder(Cut(Skips(), "inner", image_size=8, output="image"), images)
    check_encoder(Cut(torch.nn.Sequential(Skips(), torch.nn.Tanh()), "0", image_size=8, output="image"), images)


UNTRAINED = {
    "a module without weights": (
        ["encoder=module", USER],
        "its constructor gives it.*encoder.network.weights=<file>$",
    ),
    "random ones": (
        ["encoder=torchvision/squeezenet1_0", "encoder.network.weights=null"],
        "random weights: name trained ones.*, or default",
    ),
    "a last layer": (
        ["encoder=module", USER, "encoder.network.weights={weights}", "encoder.network.n_classes=data"],
        "The last layer for 10 classes is fresh.*first_stage.recipe=head",
    ),
    "nothing": (["encoder=module", USER, "encoder.network.weights={weights}"], None),
    "what is trained now": (
        ["encoder=module", USER, "encoder.network.weights={weights}", "encoder.network.n_classes=data", "model=head"],
        None,
    ),
}


@pytest.mark.parametrize("case", UNTRAINED)
def test_random_weights_are_said(tmp_path, caplog, case):
    arguments, text = UNTRAINED[case]
    weights = tmp_path / "weights.pt"
    torch.save(Small(classes=7).state_dict(), weights)
    warn_once.cache_clear()
    config = compose_train("data=color_mnist_mini", *(one.format(weights=weights) for one in arguments))
    as_it_comes(config)
    said = [record.message for record in caplog.records if record.name.startswith("iin_lightning")]
    assert len(said) == (text is not None)
    assert text is None or re.search(text, said[0].rstrip(".")), said


@pytest.mark.parametrize(
    ("side", "arguments", "text"),
    [
        (128, ["encoder.size=96"], r"reads images of 96 .* files have 128, .* shrunk to 64.*: say data.size=96\.$"),
        (128, ["encoder.size=96", "data=gray", "data@data.base=image_folder"], r"say data\.base\.size=96\.$"),
        (128, ["encoder.size=96", "data.size=96"], None),
        (128, ["encoder.size=64"], None),
        (64, ["encoder.size=96"], None),
        (128, ["encoder.size=96", "data=color_mnist_mini"], None),
    ],
)
def test_images_that_are_shrunk_before_a_network_blows_them_up_are_said(tmp_path, side, arguments, text):
    for name in ("a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png"):
        fakes.write_image(tmp_path / name, side, side)
    arguments = ["data=image_folder", "encoder=module", USER, *arguments]
    chosen = [one for one in arguments if one.startswith("data=")][-1]
    root = {"data=gray": "data.base.root", "data=image_folder": "data.root"}.get(chosen)
    rooted = [f"{root}={tmp_path}"] if root else []
    config = compose_train(*(one for one in arguments if not one.startswith("data=")), chosen, *rooted)
    said = input_warnings(config, as_it_comes(config), instantiate(config.data))
    assert len(said) == (text is not None)
    assert text is None or re.search(text, said[0]), said


def test_latents_behind_a_relu_are_said():
    z = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    assert re.search(
        r"^48% of the latents are exactly 0.*encoder.layer=.*model.latent_noise", *latent_warnings(z.relu(), 0.0)
    )
    assert not latent_warnings(z, 0.0)
    assert not latent_warnings(z.relu(), 0.6)


def test_an_encoder_that_must_be_trained_still_says_so():
    config = compose_train("encoder=autoencoder", "first_stage.recipe=null")
    with pytest.raises(ConfigError, match=r"neither how to train it \(first_stage.recipe\)"):
        as_it_comes(config)


@pytest.mark.commands
def test_any_network_is_explained_as_it_comes(command, workplace):
    folder = workplace / "runs" / "outside"
    arguments = [
        "model=sup",
        "encoder=torchvision/squeezenet1_1",
        "encoder.network.weights=null",
        "encoder.reduce=pool",
    ]
    printed = command(*SMALL, *arguments, f"hydra.run.dir={folder}").stdout
    assert "first (" not in printed, "it comes trained"
    result = outcome(folder)
    assert result["factors"] == {"residual": 256, "digit": 128, "color": 128}
    assert not any("transfer" in name for name in result["metrics"]), "its 1000 classes are no digits"
    assert "Factor transfer is left out: the network tells 1000 classes" in (folder / "run.log").read_text()
    interpreter = Interpreter.from_pretrained(folder / "model")
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    split = interpreter.encoder.encoder
    logits = split.network(split.preprocess(x))
    torch.testing.assert_close(interpreter.swap(x, x.flip(0), []), logits, atol=1e-4, rtol=0)


@pytest.mark.commands
def test_a_head_is_trained_first_and_then_explained_by_its_own_predictions(command, workplace):
    folder = workplace / "runs" / "head"
    arguments = [
        *("model=sup", "encoder=torchvision/mobilenet_v3_small", "encoder.network.weights=null"),
        *("encoder.network.n_classes=data", "encoder.reduce=pca:4", "first_stage.recipe=head"),
        f"paths.models={folder}/models",
    ]
    printed = command(*SMALL, *arguments, f"hydra.run.dir={folder}").stdout
    assert "Training the encoder first" in printed
    assert outcome(folder)["factors"] == {"residual": 2, "digit": 1, "color": 1}
    assert "test/transfer/digit/digit" in outcome(folder)["metrics"]
    (first,) = (folder / "models").glob("colormnist-head-*/results.json")
    result = outcome(first.parent)
    assert result["trained"] == ["model.classifier.3.weight", "model.classifier.3.bias"]
    assert result["steps"] == 4
    assert "test/accuracy" in result["metrics"]
    # The one that was trained is the one that is explained, and it is the fresh one but for its head.
    (fresh,) = (folder / "models").glob("colormnist-pca-*/model")
    states = [serialization.load(place).state_dict() for place in (fresh, first.parent / "model")]
    moved = {name for name, value in states[0].items() if not torch.equal(value, states[1][name])}
    assert moved == {f"network.{name}" for name in result["trained"]}
    explained = Interpreter.from_pretrained(folder / "model").encoder.encoder
    assert isinstance(explained, Cut)
    assert all(torch.equal(value, states[1][name]) for name, value in explained.state_dict().items())


BAD = {
    "a head for an autoencoder": (["model=head"], "comes trained: choose encoder=torchvision/<name>"),
    "a head of other classes": (
        ["model=head", "encoder=module", USER],
        "has 4 classes and digit has 10: add encoder.network.n_classes=data",
    ),
    "a layer": (["model=sup", "encoder=module", USER, "encoder.layer=hed"], "no layer 'hed'.*did you mean head"),
    "a reduction": (["model=sup", "encoder=module", USER, "encoder.reduce=pca"], "no reduction 'pca'"),
    "a folder of an interpreter that is none": (
        ["model=sup", "encoder=interpreter", "first_stage.path=nowhere"],
        "nowhere is no model folder",
    ),
    "to train what a folder holds": (
        ["model=autoencoder", "encoder=interpreter", "first_stage.path=nowhere"],
        "is explained as it is",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(case, tmp_path):
    arguments, text = BAD[case]
    config = compose_train(*arguments, f"paths.models={tmp_path}", "name=bad", "data.limit=40")
    with pytest.raises(Exception, match=re.compile(text, re.DOTALL)) as caught:
        run(Recipe.of(config), tmp_path / "run")
    error = caught.value
    while not isinstance(error, IINError):
        error = error.__cause__
        assert error is not None
    assert not list(tmp_path.glob("*.lock")), "nothing was trained"
