"""What lies behind a layer trains, and nothing before it."""

import pytest
import torch
from tests.encoders.networks import Small
from torch import nn

from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.frozen import Behind
from iin_lightning.errors import ConfigError


@pytest.mark.parametrize(
    ("layer", "trained"),
    [("dropout", ["head.weight", "head.bias"]), ("stem", ["norm.weight", "norm.bias", "head.weight", "head.bias"])],
)
def test_only_what_lies_behind_the_layer_moves(layer, trained):
    torch.manual_seed(0)
    network = Small()
    split = Cut(network, layer, image_size=16)
    behind = Behind(split)
    assert behind.trained == trained
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(8, 3, 16, 16)
    z = split.encode(x).mean
    behind.train()
    assert not any(module.training for module in behind.modules())
    optimizer = torch.optim.SGD([p for p in behind.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(behind(z), torch.arange(8) % 4).backward()
        optimizer.step()
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == trained
    assert torch.equal(split.encode(x).mean, z)
    assert torch.equal(behind(z), network(x))


def test_a_layer_with_nothing_behind_it_is_refused():
    with pytest.raises(ConfigError, match="nothing to train"):
        Behind(Cut(Small(), "head", image_size=16))
