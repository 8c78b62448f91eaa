"""Files as the authors' training wrote them, with weights of which we have their outputs."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from iin_lightning.convert_from import encoder
from iin_lightning.encoders import Autoencoder, Classifier

GOLDEN = Path(__file__).parents[1] / "assets" / "golden"


def _close(actual, expected):
    torch.testing.assert_close(actual.detach(), expected.reshape(actual.shape), rtol=1e-4, atol=2e-5)


def _golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def _state(golden, keys):
    """Their state dict; large weights are drawn from the seed that made theirs, see tests/assets/golden/README.md."""
    state = {}
    for name, (_, shape) in keys.items():
        value = golden.get(f"sd/{name}")
        if value is None:
            w = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
            value = torch.from_numpy((0.02 * w).astype(np.float32))
        state[name] = value
    return state


@pytest.fixture(scope="session")
def close():
    return _close


@pytest.fixture(scope="session")
def published():
    """Names and shapes in the authors' files, by run."""
    return json.loads((GOLDEN / "checkpoint_keys.json").read_text())


@pytest.fixture(scope="session")
def with_factors():
    return _golden("a_factor_transformer")


@pytest.fixture(scope="session")
def without_factors():
    return _golden("b_vector_transformer")


@pytest.fixture(scope="session")
def autoencoding():
    """Arrays of the autoencoder, and its state dict."""
    golden, keys = _golden("c_autoencoder"), json.loads((GOLDEN / "c_autoencoder_keys.json").read_text())
    return golden, _state(golden, keys["ae"])


@pytest.fixture(scope="session")
def classifying():
    """Arrays of the classifier, and its state dict."""
    golden, keys = _golden("d_classifier"), json.loads((GOLDEN / "d_classifier_keys.json").read_text())
    return golden, _state(golden, keys)


@pytest.fixture(scope="session")
def flow_state():
    """The state dict of a translator, from its arrays."""

    def take(golden):
        return {name.removeprefix("sd/"): value for name, value in golden.items() if name.startswith("sd/")}

    return take


@pytest.fixture(scope="session")
def theirs():
    """The state dict that the authors' code would hold for a small network of ours."""

    def rename(network):
        state = {}
        for ours, (name,) in encoder.names(network).items():
            value = network.state_dict()[ours].clone()
            if name.endswith(".scale"):
                value = value.exp()
            if name.endswith((".loc", ".scale")):
                value = value[None, :, None, None]
            state[name] = value.byte() if name.endswith(".initialized") else value
        return state

    return rename


@pytest.fixture(scope="session")
def small(theirs, with_factors, flow_state):
    """A small state dict of each kind of network."""
    torch.manual_seed(0)
    layout = {"image_size": 8, "channels": 1, "latent_dim": 4, "width": 2, "n_down": 2}
    return {
        "autoencoder": theirs(Autoencoder(**layout)),
        "classifier": theirs(Classifier(3, **layout)),
        "translator": flow_state(with_factors),
    }


@pytest.fixture
def write(tmp_path):
    """Write a state dict as the authors' training does: beside a loss and an optimizer of torch 1.4's form."""

    def write(state, name="model-120000.ckpt", legacy=True):
        optimizer = {"state": {140234: {"step": 5, "exp_avg": torch.ones(1)}}, "param_groups": [{"params": [140234]}]}
        loss = {"logvar": torch.tensor(0.1), "discriminator.main.0.weight_orig": torch.ones(2, 1, 4, 4)}
        path = tmp_path / name
        content = {"model": state, "loss": loss, "optimizer": optimizer}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return path

    return write
