"""Files as the authors' training wrote them, with weights of which we have their outputs."""

import json

import pytest
import torch
from tests.encoders import theirs

from iin_lightning.convert_from import encoder
from iin_lightning.encoders import Autoencoder, Classifier


def renamed(network):
    """The state dict that the authors' code would hold for a small network of ours."""
    state = {}
    for ours, (name,) in encoder.names(network).items():
        value = network.state_dict()[ours].clone()
        if name.endswith(".scale"):
            value = value.exp()
        if name.endswith((".loc", ".scale")):
            value = value[None, :, None, None]
        state[name] = value.byte() if name.endswith(".initialized") else value
    return state


def flow_state(golden):
    return {name.removeprefix("sd/"): value for name, value in golden.items() if name.startswith("sd/")}


@pytest.fixture(scope="session")
def published():
    """Names and shapes in the authors' files, by run."""
    return json.loads((theirs.GOLDEN / "checkpoint_keys.json").read_text())


@pytest.fixture(scope="session")
def autoencoding():
    """Arrays of the autoencoder, and its state dict."""
    golden = theirs.arrays("c_autoencoder")
    return golden, theirs.state(theirs.keys("c_autoencoder")["ae"], golden)


@pytest.fixture(scope="session")
def with_factors():
    golden = theirs.arrays("a_factor_transformer")
    return golden, flow_state(golden)


@pytest.fixture(scope="session")
def without_factors():
    golden = theirs.arrays("b_vector_transformer")
    return golden, flow_state(golden)


@pytest.fixture(scope="session")
def small(with_factors):
    """A small state dict of each kind of network."""
    torch.manual_seed(0)
    layout = {"image_size": 8, "channels": 1, "latent_dim": 4, "width": 2, "n_down": 2}
    return {
        "autoencoder": renamed(Autoencoder(**layout)),
        "classifier": renamed(Classifier(3, **layout)),
        "translator": with_factors[1],
    }


@pytest.fixture
def write(tmp_path):
    """Write a state dict as the authors' training does: beside a loss and an optimizer of torch 1.4's form."""

    def write(state, name="model-120000.ckpt", legacy=True):
        optimizer = {"state": {140234: {"step": 5, "exp_avg": torch.ones(1)}}, "param_groups": [{"params": [140234]}]}
        loss = {"logvar": torch.tensor(0.1), "discriminator.main.0.weight_orig": torch.ones(2, 1, 4, 4)}
        content = {"model": state, "loss": loss, "optimizer": optimizer}
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        return tmp_path / name

    return write
