"""A checkpoint of the authors: read whatever torch wrote it, recognised, their function in our networks; or refused."""

import argparse
import os
import re

import pytest
import torch
from tests.convert_from.conftest import renamed
from tests.encoders.theirs import close

from iin_lightning import serialization
from iin_lightning.convert_from import autoencoder, classifier, kind_of, read, translator
from iin_lightning.encoders import Autoencoder, Classifier
from iin_lightning.errors import CheckpointError, FactorError, NonFiniteError

CONVERT = {"autoencoder": autoencoder, "classifier": classifier, "translator": lambda state: translator(state)[0]}
DIMS = {"digit": 5, "color": 4, "residual": 7}  # in the checkpoint's order


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("gpu", [True, False], ids=["gpu", "cpu"])
def test_every_container_is_read(write, small, monkeypatch, legacy, gpu):
    if gpu:
        monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    state = small["autoencoder"]
    path = write(state, legacy=legacy)
    if gpu and legacy:  # torch 1.4 has storages of a GPU by their own names
        content = path.read_bytes()
        path.write_bytes(re.sub(rb"ctorch\n(\w+Storage\n)", rb"ctorch.cuda\n\1", content))
    checkpoint = read(path)
    assert (checkpoint.step, checkpoint.rest) == (120000, ("loss", "optimizer"))
    assert checkpoint.tensors.keys() == state.keys()
    for name, value in checkpoint.tensors.items():
        assert value.device.type == "cpu"
        assert value.equal(state[name])
    torch.save(state, path.with_name("weights.pt"))
    alone = read(path.with_name("weights.pt"))
    assert (alone.step, alone.rest, alone.tensors.keys()) == (None, (), state.keys())


class Code:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_a_pickle_with_code_does_not_run(tmp_path, monkeypatch, small, legacy):
    monkeypatch.chdir(tmp_path)
    content = {"model": small["autoencoder"], "config": Code()}
    torch.save(content, "model-1.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"holds posix.mkdir beside tensors.*could run code"):
        read(tmp_path / "model-1.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_checkpoint_gets_a_sentence(tmp_path, write, small):
    path = write(small["autoencoder"])
    for absent in (tmp_path, tmp_path / "model-2.ckpt"):
        with pytest.raises(CheckpointError, match="is no file: name a checkpoint"):
            read(absent)
    content = path.read_bytes()
    for damaged in (content[:-20], content[:300], b"", b"PK\x03\x04" + content, bytes(range(200))):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"is no file of torch.save, or damaged \("):
            read(path)
    other = tmp_path / "other.pt"
    for value, text in (
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 3, "net": {}}, "no tensors are epoch, net"),
        ({}, "it is empty"),
        (argparse.Namespace(a=1), "holds argparse.Namespace"),
    ):
        torch.save(value, other)
        with pytest.raises(CheckpointError, match=text):
            read(other)


def test_networks_are_recognised_by_their_names(published):
    kinds = [kind_of(published[run]["model"]) for run in ("iin", "ae", "ae_spectral_norm", "clf")]
    assert kinds == ["translator", "autoencoder", "autoencoder", "classifier"]
    with pytest.raises(CheckpointError, match=r"none of the authors' networks .*it has conv1.weight, fc.bias"):
        kind_of(["conv1.weight", "fc.bias"])


@pytest.mark.parametrize("run", ["iin", "ae", "ae_spectral_norm", "clf"])
def test_the_published_files_have_just_the_names_that_are_known(published, run):
    state = {}
    for name, (dtype, shape) in published[run]["model"].items():
        value = torch.arange(*shape) if dtype == "int64" else torch.ones((), dtype=getattr(torch, dtype)).expand(shape)
        state[name] = value
    network = CONVERT[kind_of(state)](state)
    if run == "iin":
        assert (network.dim, network.n_blocks, network.hidden, network.depth) == (64, 12, 512, 2)
        assert sum(p.numel() for p in network.parameters()) == 26_815_488
    else:
        assert (network.image_size, network.channels, network.latent_dim, network.width) == (32, 3, 64, 64)


def test_the_translator_with_factors_agrees_by_name(with_factors, write):
    golden, state = with_factors
    network, factors = translator(read(write(state)).tensors, DIMS)
    assert (network.dim, network.n_blocks, network.hidden, network.depth) == (16, 3, 32, 2)
    assert list(factors.items()) == [("residual", 7), ("digit", 5), ("color", 4)]
    for which in "12":
        z_tilde, logdet = network(golden[f"z{which}"])
        parts = factors.split(z_tilde)
        for k, name in enumerate(DIMS):
            close(parts[name], golden[f"out{which}/{k}"])
        close(logdet, golden[f"logdet{which}"])
        z, logdet_back = network.inverse(z_tilde)
        close(z, golden[f"inverse{which}"])
        close(logdet_back, -golden[f"logdet{which}"])
    samples = dict(zip(DIMS, golden["w"].split(list(DIMS.values()), dim=1)))
    close(network.inverse(factors.merge(samples))[0], golden["inverse_w"])


def test_the_translator_without_factors_agrees(without_factors):
    golden, state = without_factors
    network, factors = translator(state)
    assert dict(factors) == {"residual": 16}
    z_tilde, logdet = network(golden["z"])
    close(z_tilde, golden["out"])
    close(logdet, golden["logdet"])
    close(network.inverse(z_tilde)[0], golden["inverse"])
    close(network.inverse(golden["w"])[0], golden["inverse_w"])


LAYOUTS = [
    {"image_size": 16, "channels": 1, "latent_dim": 6, "width": 4, "n_down": 3, "norm": "batch"},
    {"image_size": 12, "channels": 3, "latent_dim": 5, "width": 2, "n_down": 1, "norm": "instance"},
    {"image_size": 32, "channels": 2, "latent_dim": 3, "width": 1, "n_down": 5, "norm": "actnorm"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout["norm"] for layout in LAYOUTS])
@pytest.mark.parametrize("kind", ["autoencoder", "classifier"])
def test_every_size_comes_from_the_tensors(kind, layout):
    torch.manual_seed(0)
    network = Autoencoder(**layout) if kind == "autoencoder" else Classifier(7, **layout)
    x = torch.rand(4, layout["channels"], layout["image_size"], layout["image_size"]) * 2 - 1
    network.train()(x)  # norms start from a batch
    expected = network.eval()(x)
    converted = CONVERT[kind](renamed(network))
    assert serialization.describe(converted) == serialization.describe(network)
    torch.testing.assert_close(converted(x), expected)


def test_an_autoencoder_that_was_trained_without_noise_has_none(small):
    state = small["autoencoder"]
    noisy, plain = autoencoder(state), autoencoder(state, posterior="deterministic")
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    assert plain.encode(x).mean.allclose(noisy.encode(x).mean)
    assert noisy.encode(x).scale.all()
    assert not plain.encode(x).scale.any()


@pytest.mark.parametrize("kind", ["autoencoder", "classifier"])
def test_a_scale_that_changed_its_sign_changes_no_function(small, kind):
    state, x = small[kind], torch.rand(3, 1, 8, 8) * 2 - 1
    flipped = dict(state)
    for name in state:
        if name.endswith(".scale"):
            loc, weight = name.replace("1.scale", "1.loc"), name.replace("1.scale", "0.weight")
            axis = 1 if name.startswith("decoder") else 0
            sign = torch.ones(state[name].numel())
            sign[::2] = -1
            flipped[name], flipped[loc] = (state[key] * sign.view(1, -1, 1, 1) for key in (name, loc))
            flipped[weight] = state[weight] * sign.view([-1 if d == axis else 1 for d in range(4)])
    torch.testing.assert_close(CONVERT[kind](flipped)(x), CONVERT[kind](state)(x))


BLOCK = "realnvp.flow.1.flow"
INSIDE = {
    "autoencoder": "decoder_layers.0.sub_layers.0.weight",
    "classifier": "feature_layers.1.sub_layers.0.weight",
    "translator": f"{BLOCK}.1.t.0.main.2.weight",
}
"""A tensor in the middle."""


@pytest.mark.parametrize("kind", CONVERT)
def test_what_is_not_theirs_is_refused_with_the_tensors_that_are_wrong(small, kind):
    state, inside = small[kind], INSIDE[kind]
    flow = kind == "translator"
    first = "realnvp.flow.0.flow.0.loc" if flow else "feature_layers.0.sub_layers.0.weight"
    scale = f"{BLOCK}.0.scale" if flow else "feature_layers.1.sub_layers.1.scale"
    start = "realnvp.flow.0." if flow else "feature_layers.0."
    zero = state[scale].clone()
    zero.view(-1)[0] = 0
    wrong = [
        (state | {"ema.decay": torch.ones(1)}, CheckpointError, "has the unknown ema.decay"),
        (
            {name: value for name, value in state.items() if not name.startswith(start)},
            CheckpointError,
            f"lacks {start}.*which gives the network's sizes",
        ),
        (
            state | {inside: state[inside][:, :-1]},
            CheckpointError,
            f"do not fit the (Paper)?{kind.title()} .*{inside} ",
        ),
        (state | {first: state[first].flatten()}, CheckpointError, f"{first} of the checkpoint must have 4 axes"),
        (state | {inside: state[inside] * float("nan")}, NonFiniteError, f"not finite.*{inside}"),
        (state | {scale: zero}, NonFiniteError, f"no logarithm, in {scale}"),
        *(
            ({name: value for name, value in state.items() if name != missing}, CheckpointError, f"lacks {missing}")
            for missing in list(state)[:: 8 if flow else 1]
        ),
    ]
    for spoilt, error, text in wrong:
        with pytest.raises(error, match=text):
            CONVERT[kind](spoilt)


def test_what_only_one_kind_can_get_wrong(small):
    state = small["translator"]
    for way in ("forward", "backward"):
        spoilt = state | {f"{BLOCK}.2.{way}_shuffle_idx": torch.zeros(16, dtype=torch.long)}
        with pytest.raises(CheckpointError, match=rf"{BLOCK}.2.forward_shuffle_idx .*is no permutation of 0, ..., 15"):
            translator(spoilt)
    with pytest.raises(CheckpointError, match="latents have 15 dimensions"):
        translator(state | {"realnvp.flow.0.flow.0.loc": torch.zeros(1, 15, 1, 1)})
    with pytest.raises(FactorError, match="sum to 12, but the latent has 16"):
        translator(state, {"digit": 5, "residual": 7})
    with pytest.raises(FactorError, match="have no 'residual'"):
        translator(state, {"digit": 9, "color": 7})
    state = {name.replace("scale", "gain").replace("1.loc", "1.shift"): x for name, x in small["classifier"].items()}
    with pytest.raises(CheckpointError, match="gain, initialized, shift, so their normalisation is none of actnorm"):
        classifier(state)
