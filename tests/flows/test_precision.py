"""Mixed precision is for the products of training alone: what is measured and edited is float32."""

import copy

import pytest
import torch
from tests.flows.networks import mlp

from iin_lightning.flows import AffineCoupling, Conditioner, Translator

BF16 = 2.0**-8  # the relative error of rounding to bfloat16


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.fixture
def translator():
    torch.manual_seed(0)
    translator = Translator(16, n_blocks=4, hidden=32)
    translator.initialize(torch.randn(256, 16))
    with torch.no_grad():  # as training leaves it: the networks of a new one give zeros in any precision
        for parameter in translator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return translator


@pytest.fixture
def z():
    return torch.randn(64, 16, generator=torch.Generator().manual_seed(1))


def test_the_products_of_training_run_in_bf16_and_come_out_as_float32():
    conditioner, x = Conditioner(8, 8, hidden=32, depth=2), torch.randn(64, 8)
    full = conditioner(x)
    with autocast():
        low = conditioner(x)
    assert low.dtype == torch.float32
    assert torch.equal(low, low.bfloat16().float())  # it was bf16 before
    assert 0 < (low - full).abs().max() < 4 * BF16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_translation_and_log_determinant_keep_the_precision_of_the_latent(translator, z, dtype):
    with autocast():
        z_tilde, logdet = translator.to(dtype)(z.to(dtype))
    assert z_tilde.dtype == logdet.dtype == dtype


def test_the_log_determinant_of_training_is_that_of_float64_within_bf16(translator, z):
    exact = copy.deepcopy(translator).double()(z.double())[1]
    with autocast():
        low = translator(z)[1]
    per_dimension = (low - exact).abs() / (16 * len(translator.blocks))
    assert 0 < per_dimension.max() < BF16


def test_the_affine_map_is_exact_for_its_scale_and_shift():
    """tanh, exp and the sum in bf16 would be off by 1e-2; what bf16 gave for s and t is the only error."""
    coupling, x = AffineCoupling(16, "second", mlp(32, 2)), torch.randn(64, 16)
    with autocast():
        y, logdet = coupling(x)
        s, t = coupling.conditioner(x[:, :8]).double()
    torch.testing.assert_close(logdet.double(), s.tanh().sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y[:, 8:].double(), x[:, 8:].double() * s.tanh().exp() + t, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["forward", "inverse"])
def test_evaluation_does_not_know_of_mixed_precision(translator, z, name):
    translator.eval()
    expected = getattr(translator, name)(z)
    with autocast():
        assert all(torch.equal(a, b) for a, b in zip(getattr(translator, name)(z), expected))


def test_no_inverse_runs_in_bf16_and_neither_does_one_in_training_mode(translator, z):
    expected = translator.inverse(z)
    with autocast():
        assert all(torch.equal(a, b) for a, b in zip(translator.inverse(z), expected))


def test_the_round_trip_of_an_evaluated_translator_is_that_of_float32(translator, z):
    translator.eval()
    with autocast():
        error = (translator.inverse(translator(z)[0])[0] - z).abs().max()
        broken = (translator.train().inverse(translator(z)[0])[0] - z).abs().max()
    assert error < 1e-4 < broken  # the other one shows that autocast was on


def test_gradients_are_finite_float32_and_nearly_those_of_float32(translator, z):
    def gradients(context):
        translator.zero_grad()
        with context:
            loss = -translator.log_prob(z).mean()
        loss.backward()
        return [p.grad.clone() for p in translator.parameters()]

    full, low = gradients(torch.autocast("cpu", enabled=False)), gradients(autocast())
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in low)
    a, b = (torch.cat([g.flatten() for g in grads]) for grads in (full, low))
    assert 0 < (a - b).norm() / a.norm() < 0.05
