"""The likelihood of the pixels against torch.distributions, and its scale against the best one."""

import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal

from iin_lightning.encoders import DiagonalGaussian
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.losses.autoencoding import AutoencodingLoss

DENSITY = {"l1": Laplace, "l2": Normal}
every_pixel = pytest.mark.parametrize("pixel", DENSITY)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    """Images, reconstructions that are off by about 0.2, and a posterior."""
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64) * 2 - 1
    x_hat = (x + 0.2 * torch.randn_like(x)).requires_grad_()
    z = torch.randn(2, 5, 4, dtype=torch.float64)
    return x, x_hat, DiagonalGaussian.from_logvar(z[0], z[1])


def nll(pixel, x, x_hat, scale):
    return -DENSITY[pixel](x_hat, scale).log_prob(x).sum((1, 2, 3)).mean()


class Distance(nn.Module):
    """A perceptual distance that is simple to calculate with."""

    def forward(self, x, y):
        return 0.1 + (x.mean((1, 2, 3)) - y.mean((1, 2, 3))).abs()


@every_pixel
@pytest.mark.parametrize("scale", [0.05, 2])
def test_a_fixed_scale_gives_the_density_of_torch_distributions(pixel, scale, batch):
    terms = AutoencodingLoss(pixel, scale)(*batch)
    torch.testing.assert_close(terms.nll, nll(pixel, *batch[:2], scale))
    assert terms.log_scale.exp().item() == pytest.approx(scale)


@every_pixel
def test_the_closed_form_scale_is_the_best_of_all(pixel, batch):
    terms = AutoencodingLoss(pixel, "closed_form")(*batch)
    best = terms.log_scale.exp()
    torch.testing.assert_close(terms.nll, nll(pixel, *batch[:2], best))
    grid = best * torch.linspace(-1, 1, 2001, dtype=torch.float64).exp()
    values = torch.stack([nll(pixel, *batch[:2], scale).detach() for scale in grid])
    assert terms.nll <= values.min() + 1e-9
    torch.testing.assert_close(grid[values.argmin()], best, rtol=2e-3, atol=0)


@every_pixel
def test_the_closed_form_has_the_gradient_of_the_likelihood_maximised_over_scales(pixel, batch):
    x, x_hat, _ = batch
    (gradient,) = torch.autograd.grad(AutoencodingLoss(pixel, "closed_form")(*batch).nll, x_hat)
    error = (x - x_hat).abs() if pixel == "l1" else (x - x_hat).square()
    dims = x[0].numel() if pixel == "l1" else x[0].numel() / 2
    (expected,) = torch.autograd.grad(dims * error.mean().log(), x_hat)
    torch.testing.assert_close(gradient, expected)


@every_pixel
@pytest.mark.parametrize("perceptual", [None, Distance()], ids=["pixels", "perceptual"])
def test_the_learned_scale_ends_at_the_closed_form(pixel, perceptual, batch):
    closed_form = AutoencodingLoss(pixel, "closed_form", perceptual=perceptual)(*batch)
    loss = AutoencodingLoss(pixel, "learned", perceptual=perceptual).double()
    with torch.no_grad():
        loss.log_scale.copy_(closed_form.log_scale)
    terms = loss(*batch)
    torch.testing.assert_close(terms.total, closed_form.total)
    (gradient,) = torch.autograd.grad(terms.total, loss.log_scale)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)


def test_the_total_weighs_the_kl(batch):
    assert AutoencodingLoss()(*batch[:2], DiagonalGaussian.deterministic(torch.randn(5, 4))).kl == 0
    terms = AutoencodingLoss(kl_weight=0.25)(*batch)
    torch.testing.assert_close(terms.kl, batch[2].kl().mean())
    torch.testing.assert_close(terms.total, terms.nll + 0.25 * terms.kl)
    torch.testing.assert_close(terms.abs_error, (batch[0] - batch[1]).abs().mean())


@every_pixel
def test_a_perceptual_distance_is_added_to_every_dimension(pixel, batch):
    x, x_hat, _ = batch
    distance = Distance()(x, x_hat)
    terms = AutoencodingLoss(pixel, "learned", perceptual=Distance())(*batch)
    plain = AutoencodingLoss(pixel, "learned")(*batch)
    factor = x[0].numel() * (1 if pixel == "l1" else 0.5)
    torch.testing.assert_close(terms.nll, plain.nll + factor * distance.mean())
    torch.testing.assert_close(terms.perceptual, distance.mean())
    assert plain.perceptual == 0


def test_examples_are_averaged_and_dimensions_summed(batch):
    x, x_hat, posterior = batch
    loss = AutoencodingLoss("l2", 0.5)
    rows = zip(*(tensor.split(1) for tensor in (x, x_hat, posterior.mean, posterior.scale)))
    each = [loss(image, image_hat, DiagonalGaussian(mean, scale)) for image, image_hat, mean, scale in rows]
    torch.testing.assert_close(loss(*batch).total, torch.stack([terms.total for terms in each]).mean())


@every_pixel
@pytest.mark.parametrize("scale", ["closed_form", "learned"])
def test_a_perfect_reconstruction_is_finite(pixel, scale):
    x = torch.rand(2, 1, 4, 4)
    x_hat = x.clone().requires_grad_()
    terms = AutoencodingLoss(pixel, scale)(x, x_hat, DiagonalGaussian.deterministic(torch.zeros(2, 3)))
    terms.total.backward()
    assert terms.total.isfinite()
    assert x_hat.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"pixel": "l3"}, "allowed are: l1, l2"),
        ({"scale": "closed-form"}, "did you mean closed_form"),
        ({"scale": 0.0}, "above 0, got 0.0"),
        ({"scale": float("nan")}, "above 0, got nan"),
        ({"kl_weight": -0.1}, "must not be negative"),
    ],
)
def test_settings_that_make_no_likelihood_are_refused(kwargs, text):
    with pytest.raises(ConfigError, match=text):
        AutoencodingLoss(**kwargs)


def test_shapes_that_would_broadcast_are_refused(batch):
    x, _, posterior = batch
    with pytest.raises(ShapeError, match="one shape"):
        AutoencodingLoss()(x, x[:, :1], posterior)
