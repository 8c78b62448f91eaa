"""Frozen means frozen: training around an encoder leaves it bit-identical, and behind a layer all before it."""

import copy

import pytest
import torch
from tests.encoders.networks import Small
from torch import nn

from iin_lightning.encoders import Autoencoder, Classifier, Cut, Frozen
from iin_lightning.encoders.frozen import Behind
from iin_lightning.errors import ConfigError

LAYOUT = {"image_size": 16, "channels": 1, "latent_dim": 4, "width": 4, "n_down": 3}
ENCODERS = [
    lambda: Autoencoder(**LAYOUT, norm="batch"),
    lambda: Autoencoder(**LAYOUT, norm="actnorm"),
    lambda: Classifier(3, **LAYOUT, norm="batch"),
]


class Parent(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.frozen = Frozen(encoder)
        self.translator = nn.Linear(4, 4)


WAKES = {
    "train": lambda parent: parent.train(),
    "apply": lambda parent: parent.apply(lambda module: module.train()),
    "every module": lambda parent: [module.train() for module in parent.modules()],
    "flags": lambda parent: [setattr(module, "training", True) for module in parent.modules()],
    "requires_grad_": lambda parent: parent.requires_grad_(True),
    "unfreeze": lambda parent: [parameter.requires_grad_(True) for parameter in parent.parameters()],
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(n=8):
    return torch.rand(n, 1, 16, 16) * 2 - 1


@pytest.mark.parametrize("build", ENCODERS)
@pytest.mark.parametrize("wake", WAKES.values(), ids=WAKES)
def test_training_around_it_leaves_an_encoder_bit_identical(build, wake):
    encoder = build()
    encoder(images())
    x, expected = images(), copy.deepcopy(encoder).eval()
    parent = Parent(encoder)
    assert parent.frozen(x).equal(expected(x)), "freezing changes no output"
    optimizer = torch.optim.AdamW(parent.parameters(), lr=0.1)
    for _ in range(2):
        wake(parent)
        z_tilde = parent.translator(parent.frozen.encode(images()).sample())
        (z_tilde.square().mean() + parent.frozen.decode(z_tilde).square().mean()).backward()
        optimizer.step()
        assert not any(module.training for module in parent.frozen.modules())
    assert all(parameter.grad is None for parameter in parent.frozen.parameters())
    assert parent.translator.weight.grad is not None
    for name, value in encoder.state_dict().items():
        assert value.equal(expected.state_dict()[name]), name
    assert parent.frozen(x).equal(expected(x))


def test_an_uninitialised_actnorm_is_not_initialised_by_data_that_passes():
    frozen = Frozen(Autoencoder(**LAYOUT, norm="actnorm")).train()
    frozen(images())
    assert not any(value for name, value in frozen.state_dict().items() if name.endswith("initialized"))


def test_gradients_pass_the_decoder_to_z_alone():
    frozen = Frozen(Classifier(3, **LAYOUT))
    x = images().requires_grad_()
    assert not frozen.encode(x).mean.requires_grad
    z = torch.randn(2, 4, requires_grad=True)
    frozen.decode(z).sum().backward()
    torch.testing.assert_close(z.grad, frozen.encoder.head.weight.sum(0).expand(2, 4))
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert not frozen.decode(z.detach()).requires_grad
    with torch.no_grad():
        assert not frozen.decode(z).requires_grad


def test_a_copy_stays_frozen():
    frozen = copy.deepcopy(Frozen(Autoencoder(**LAYOUT, norm="batch"))).train().requires_grad_()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize(
    ("layer", "trained"),
    [("dropout", ["head.weight", "head.bias"]), ("stem", ["norm.weight", "norm.bias", "head.weight", "head.bias"])],
)
def test_only_what_lies_behind_the_layer_moves(layer, trained):
    network = Small()
    cut = Cut(network, layer, image_size=16)
    behind = Behind(cut)
    assert behind.trained == trained
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(8, 3, 16, 16)
    z = cut.encode(x).mean
    behind.train()
    assert not any(module.training for module in behind.modules())
    optimizer = torch.optim.SGD([p for p in behind.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(behind(z), torch.arange(8) % 4).backward()
        optimizer.step()
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == trained
    assert torch.equal(cut.encode(x).mean, z)
    assert torch.equal(behind(z), network(x))
    with pytest.raises(ConfigError, match="nothing to train"):
        Behind(Cut(Small(), "head", image_size=16))
