"""The shell around ``lpips``, with a stand-in for the package: no test downloads weights."""

import copy
import pickle
import sys
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import nn

from iin_lightning.errors import ConfigError, DataNotFoundError, MissingExtraError, ShapeError
from iin_lightning.losses.perceptual import LPIPS


class StandIn(nn.Module):
    """The squared distance of a random projection, which has parameters and a training mode."""

    def __init__(self, net, verbose):
        super().__init__()
        assert (net, verbose) == ("vgg", False)
        self.projection = nn.Conv2d(3, 4, 1)

    def forward(self, x, y):
        assert x.shape[1] == 3
        difference = self.projection(x) - self.projection(y)
        return difference.square().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def lpips(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=StandIn))
    return LPIPS()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_distance_is_one_number_an_image_and_zero_to_itself(lpips, channels):
    for batch in (1, 4):
        x, y = torch.rand(2, batch, channels, 8, 8) * 2 - 1
        assert lpips(x, y).shape == (batch,)
        assert (lpips(x, y) > 0).all()
        assert lpips(x, x).equal(torch.zeros(batch))
        rgb = [image.expand(-1, 3, -1, -1) for image in (x, y)]  # grey is repeated
        torch.testing.assert_close(lpips(x, y), lpips(*rgb))


@pytest.mark.parametrize("wrong", [255.0, -1.2, float("nan")])
def test_images_out_of_range_are_refused(lpips, wrong):
    for side in (0, 1):
        pair = torch.zeros(2, 2, 3, 8, 8)
        pair[side, 0, 0, 0, 0] = wrong
        with pytest.raises(ConfigError, match=r"in \[-1, 1\], got values from"):
            lpips(*pair)


@pytest.mark.parametrize(
    ("x", "y"), [((2, 4, 8, 8), (2, 4, 8, 8)), ((2, 3, 8, 8), (2, 1, 8, 8)), ((3, 8, 8), (3, 8, 8))]
)
def test_shapes_that_are_no_images_are_refused(lpips, x, y):
    with pytest.raises(ShapeError, match="C = 1 or 3"):
        lpips(torch.zeros(x), torch.zeros(y))


def test_gradients_reach_the_images_and_nothing_else(lpips):
    x, y = torch.rand(2, 2, 1, 8, 8)
    y.requires_grad_()
    lpips(x, y).sum().backward()
    assert y.grad.abs().sum() > 0
    (network,) = lpips._network
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_network_is_frozen_in_no_checkpoint_and_follows_to_another_precision(lpips):
    parent = nn.ModuleDict({"lpips": lpips}).train().requires_grad_()
    assert not list(parent.parameters())
    assert not parent.state_dict()
    for module in (lpips, copy.deepcopy(lpips), pickle.loads(pickle.dumps(lpips))):
        (network,) = module._network
        assert not any(part.training for part in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
    parent.double()
    assert lpips(*torch.rand(2, 2, 1, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingExtraError, match=r'pip install "iin-lightning\[perceptual\]"'):
        LPIPS()


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_weights_that_cannot_be_had_are_named_with_their_place(monkeypatch, tmp_path, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=fail))
    with pytest.raises(DataNotFoundError, match=r"vgg16-397923af\.pth") as caught:
        LPIPS()
    assert f"{tmp_path}/checkpoints/vgg16-397923af.pth" in str(caught.value)
