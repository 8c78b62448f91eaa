"""Swaps: what was asked for, and what the network sees in the result."""

import pytest
import torch

from iin_lightning.analysis.swap import swap_errors, swap_grid
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.errors import FactorError
from iin_lightning.factors import Factors
from iin_lightning.flows.linear import Permutation
from iin_lightning.flows.translator import PaperTranslator
from iin_lightning.interpreter import Interpreter

DIMS = {"residual": 2, "digit": 3, "color": 1}


class Plain(Encoder):
    """Images are latents (n, 1, 1, 6); G draws those dimensions that it can draw, and nothing for the others."""

    output = "image"
    latent_dim = 6

    def __init__(self, drawn=(1, 1, 1, 1, 1, 1)):
        super().__init__()
        self.register_buffer("drawn", torch.tensor(drawn, dtype=torch.float32))

    def encode(self, x):
        return DiagonalGaussian.deterministic(x.flatten(1))

    def decode(self, z):
        return (z * self.drawn)[:, None, None]


def interpreter(network=None, dims=None, mixing=True):
    translator = PaperTranslator(6, n_blocks=2, hidden=16)
    translator.initialize(torch.randn(64, 6, generator=torch.Generator().manual_seed(3)))
    identity = Permutation(list(range(6)))
    return Interpreter(network or Plain(), translator if mixing else identity, Factors(dims or DIMS, 6)).eval()


def images(n=8):
    return 0.3 * torch.randn(2, n, 1, 1, 6, generator=torch.Generator().manual_seed(1))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_swap_of_all_factors_is_the_source_and_of_none_the_target():
    target, source = images()
    whole = interpreter(dims={"residual": 6})  # the one factor is all there is
    grid = swap_grid(whole, target, source, "residual")
    close(grid, whole.reconstruct(source).expand_as(grid))
    three = interpreter()
    step = target
    for name in three.factors:  # one after the other
        step = torch.stack([swap_grid(three, step[i : i + 1], source[i : i + 1], name)[0, 0] for i in range(8)])
    close(step, three.reconstruct(source))
    close(three.swap(target, source, []), three.reconstruct(target))
    itself = swap_grid(three, target, target, "digit")
    close(itself[range(8), range(8)], three.reconstruct(target))


def test_what_g_draws_and_e_sees_alike_comes_back_as_it_was_asked_for():
    network = interpreter()
    target, source = (network.translate(network.encode(x)) for x in images())
    for name in (*network.factors, None):
        assert max(swap_errors(network, target, source, name).values()) < 1e-4


def test_a_factor_that_is_not_drawn_is_the_one_that_does_not_come_back():
    network = interpreter(Plain(drawn=(1, 1, 1, 1, 1, 0)), mixing=False)  # z̃ = z, whose last dimension is color
    target, source = images(4000).flatten(2)
    errors = swap_errors(network, target, source, "digit")
    assert errors["digit"] == errors["residual"] == 0
    # Seen is 0, asked for was N(0, 1), and two images differ by N(0, 2).
    assert errors["color"] == pytest.approx(0.5**0.5, rel=0.05)
    with pytest.raises(FactorError, match="did you mean digit"):
        swap_errors(network, target, source, "digitt")
