"""Both sides of the adversarial game keep to themselves, and the weight balances their gradients."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from iin_lightning.encoders import Autoencoder, PatchDiscriminator
from iin_lightning.errors import ConfigError
from iin_lightning.losses.adversarial import Adversarial, adaptive_weight, discriminator_loss


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def played():
    """An autoencoder, images, their reconstructions and the term of their pixels."""
    autoencoder = Autoencoder(image_size=32, channels=1, latent_dim=4, width=4)
    x = torch.rand(4, 1, 32, 32) * 2 - 1
    x_hat = autoencoder(x)
    return autoencoder, x, x_hat, (x - x_hat).abs().sum()


def adversarial(spectral_norm=False, **options):
    return Adversarial(PatchDiscriminator(channels=1, width=4, spectral_norm=spectral_norm), **{"start": 0} | options)


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def test_the_discriminator_descends_half_both_cross_entropies():
    real, fake = torch.randn(3, 1, 2, 2), torch.randn(5, 1, 2, 2)
    expected = cross_entropy(real, torch.ones_like(real)) + cross_entropy(fake, torch.zeros_like(fake))
    torch.testing.assert_close(discriminator_loss(real, fake), expected / 2)


@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_the_weight_makes_both_gradients_equally_long(factor):
    layer = torch.randn(4, 3, requires_grad=True)
    reconstruction, generator = factor * layer.square().sum(), layer.sin().sum()
    weight = adaptive_weight(reconstruction, generator, layer)
    assert not weight.requires_grad
    norms = [torch.autograd.grad(term, layer)[0].norm() for term in (reconstruction, weight * generator)]
    torch.testing.assert_close(*norms, rtol=1e-3, atol=0)


def test_the_weight_has_a_ceiling_and_is_finite_where_half_precision_overflows():
    layer = torch.randn(4, requires_grad=True)
    assert adaptive_weight(layer.sum(), 0 * layer.sum(), layer) == 1e4
    assert adaptive_weight(0 * layer.sum(), layer.sum(), layer) == 0
    layer = torch.zeros(10, dtype=torch.float16, requires_grad=True)
    weight = adaptive_weight(6e4 * layer.sum(), 3e4 * layer.sum(), layer)
    assert weight.dtype == torch.float32
    assert weight.item() == pytest.approx(2, rel=1e-3)


def test_before_its_start_no_discriminator_runs(played):
    class Forbidden(nn.Module):
        def forward(self, x):
            raise AssertionError("the discriminator was run")

    game = Adversarial(Forbidden(), start=10)
    autoencoder, x, x_hat, pixel_term = played
    assert game.generator_term(x_hat, pixel_term, autoencoder.last_layer, step=9) is None
    assert game.discriminator_term(x, x_hat, step=9) is None
    with pytest.raises(AssertionError, match="was run"):
        game.discriminator_term(x, x_hat, step=10)


def test_the_term_is_the_weighted_negative_logit(played):
    game = adversarial(weight=0.5, adaptive=False)
    game.discriminator.eval()
    autoencoder, _, x_hat, pixel_term = played
    fixed = game.generator_term(x_hat, pixel_term, autoencoder.last_layer, step=0)
    assert fixed.weight == 0.5
    torch.testing.assert_close(fixed.value, -0.5 * game.discriminator(x_hat).mean())
    one, half = (
        Adversarial(game.discriminator, 0, weight).generator_term(x_hat, pixel_term, autoencoder.last_layer, step=0)
        for weight in (1.0, 0.5)
    )
    torch.testing.assert_close(half.weight, 0.5 * one.weight)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_neither_term_leaves_a_gradient_at_the_other_side(played, spectral_norm):
    game, (autoencoder, x, x_hat, pixel_term) = adversarial(spectral_norm), played
    term = game.generator_term(x_hat, pixel_term, autoencoder.last_layer, step=0)
    (expected,) = torch.autograd.grad(pixel_term + term.value, autoencoder.last_layer, retain_graph=True)
    game.discriminator_term(x, x_hat, step=0).value.backward()  # in any order
    assert all(grad is None for grad in gradients(autoencoder).values())
    assert all(grad.abs().sum() > 0 for grad in gradients(game).values())
    game.zero_grad()
    (pixel_term + term.value).backward()
    assert all(grad is None for grad in gradients(game).values())
    assert all(parameter.requires_grad for parameter in game.parameters())
    torch.testing.assert_close(autoencoder.last_layer.grad, expected)


@pytest.mark.parametrize("options", [{"start": -1}, {"weight": -1.0}])
def test_negative_settings_are_refused(options):
    with pytest.raises(ConfigError, match=r"got -1"):
        adversarial(**options)
