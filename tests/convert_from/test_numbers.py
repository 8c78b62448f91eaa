"""A converted checkpoint is the authors' function: their factors, log-determinants, samples and reconstructions."""

import pytest
import torch

from iin_lightning import serialization
from iin_lightning.convert_from import autoencoder, classifier, read, translator
from iin_lightning.encoders import Autoencoder, Classifier

DIMS = {"digit": 5, "color": 4, "residual": 7}  # in the checkpoint's order


def test_the_autoencoder_agrees(autoencoding, write, close):
    golden, state = autoencoding
    network = autoencoder(read(write(state)).tensors)
    assert serialization.describe(network)["arguments"] == {
        "image_size": 32,
        "channels": 3,
        "latent_dim": 16,
        "width": 64,
        "n_down": 4,
        "norm": "actnorm",
        "posterior": "gaussian",
    }
    with torch.no_grad():
        posterior = network.encode(golden["images"])
        close(posterior.mean, golden["posterior_mean"])
        close(posterior.scale, golden["posterior_std"])
        close(posterior.kl(), golden["kl"])
        close(network(golden["images"]), golden["decode_mean"])
        close(network.decode(golden["sample"].flatten(1)), golden["decode_sample"])


def test_one_that_was_trained_without_noise_has_none(small):
    state = small["autoencoder"]
    noisy, plain = autoencoder(state), autoencoder(state, posterior="deterministic")
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    assert plain.encode(x).mean.allclose(noisy.encode(x).mean)
    assert noisy.encode(x).scale.all()
    assert not plain.encode(x).scale.any()


def test_the_classifier_agrees(classifying, write, close):
    golden, state = classifying
    network = classifier(read(write(state)).tensors)
    assert (network.n_classes, network.latent_dim, network.image_size) == (10, 16, 32)
    with torch.no_grad():
        close(network.encode(golden["images"]).mean, golden["embedding"])
        close(network(golden["images"]), golden["logits"])


def test_the_translator_with_factors_agrees_by_name(with_factors, flow_state, write, close):
    network, factors = translator(read(write(flow_state(with_factors))).tensors, DIMS)
    assert (network.dim, network.n_blocks, network.hidden, network.depth) == (16, 3, 32, 2)
    assert list(factors.items()) == [("residual", 7), ("digit", 5), ("color", 4)]
    for which in "12":
        z_tilde, logdet = network(with_factors[f"z{which}"])
        parts = factors.split(z_tilde)
        for k, name in enumerate(DIMS):
            close(parts[name], with_factors[f"out{which}/{k}"])
        close(logdet, with_factors[f"logdet{which}"])
        z, logdet_back = network.inverse(z_tilde)
        close(z, with_factors[f"inverse{which}"])
        close(logdet_back, -with_factors[f"logdet{which}"])
    samples = dict(zip(DIMS, with_factors["w"].split(list(DIMS.values()), dim=1)))
    close(network.inverse(factors.merge(samples))[0], with_factors["inverse_w"])


def test_the_translator_without_factors_agrees(without_factors, flow_state, close):
    network, factors = translator(flow_state(without_factors))
    assert dict(factors) == {"residual": 16}
    z_tilde, logdet = network(without_factors["z"])
    close(z_tilde, without_factors["out"])
    close(logdet, without_factors["logdet"])
    close(network.inverse(z_tilde)[0], without_factors["inverse"])
    close(network.inverse(without_factors["w"])[0], without_factors["inverse_w"])


LAYOUTS = [
    {"image_size": 16, "channels": 1, "latent_dim": 6, "width": 4, "n_down": 3, "norm": "batch"},
    {"image_size": 12, "channels": 3, "latent_dim": 5, "width": 2, "n_down": 1, "norm": "instance"},
    {"image_size": 32, "channels": 2, "latent_dim": 3, "width": 1, "n_down": 5, "norm": "actnorm"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout["norm"] for layout in LAYOUTS])
@pytest.mark.parametrize("kind", ["autoencoder", "classifier"])
def test_every_size_comes_from_the_tensors(theirs, kind, layout):
    torch.manual_seed(0)
    network = Autoencoder(**layout) if kind == "autoencoder" else Classifier(7, **layout)
    x = torch.rand(4, layout["channels"], layout["image_size"], layout["image_size"]) * 2 - 1
    network.train()(x)  # norms start from a batch
    expected = network.eval()(x)
    converted = {"autoencoder": autoencoder, "classifier": classifier}[kind](theirs(network))
    assert serialization.describe(converted) == serialization.describe(network)
    torch.testing.assert_close(converted(x), expected)


@pytest.mark.parametrize("kind", ["autoencoder", "classifier"])
def test_a_scale_that_changed_its_sign_changes_no_function(small, kind):
    convert = {"autoencoder": autoencoder, "classifier": classifier}[kind]
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
    torch.testing.assert_close(convert(flipped)(x), convert(state)(x))


def test_saved_and_loaded_it_gives_the_same_numbers(small, with_factors, tmp_path):
    x, z = torch.rand(3, 1, 8, 8) * 2 - 1, with_factors["z1"]
    networks = [
        (autoencoder(small["autoencoder"]), x),
        (classifier(small["classifier"]), x),
        (translator(small["translator"], DIMS)[0], z),
    ]
    for i, (network, values) in enumerate(networks):
        serialization.save(network, tmp_path / str(i), {"network": serialization.describe(network)})
        again = serialization.load(tmp_path / str(i))
        for a, b in zip(network(values), again(values)):
            assert a.equal(b)


@pytest.mark.parametrize("run", ["iin", "ae", "ae_spectral_norm", "clf"])
def test_the_published_files_have_just_the_names_that_are_known(published, run):
    state = {}
    for name, (dtype, shape) in published[run]["model"].items():
        value = torch.arange(*shape) if dtype == "int64" else torch.ones((), dtype=getattr(torch, dtype)).expand(shape)
        state[name] = value
    if run == "iin":
        network, _ = translator(state, {"digit": 22, "color": 22, "residual": 20})
        assert (network.dim, network.n_blocks, network.hidden, network.depth) == (64, 12, 512, 2)
        assert sum(p.numel() for p in network.parameters()) == 26_815_488
    else:
        network = classifier(state) if run == "clf" else autoencoder(state)
        assert (network.image_size, network.channels, network.latent_dim, network.width) == (32, 3, 64, 64)
