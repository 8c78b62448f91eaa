"""What every encoder promises, whatever its layout, and its posterior against torch.distributions."""

import inspect

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from iin_lightning.encoders import Autoencoder, Classifier, DiagonalGaussian, PatchDiscriminator
from iin_lightning.encoders.base import sides
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.seeding import Noise

SMALL = {"image_size": 16, "channels": 1, "latent_dim": 6, "width": 4, "n_down": 3}
ENCODERS = [
    (Autoencoder, SMALL),
    (Autoencoder, SMALL | {"norm": "batch", "n_down": 4}),
    (Autoencoder, SMALL | {"norm": "instance", "image_size": 24}),
    (Autoencoder, SMALL | {"posterior": "deterministic", "channels": 3, "n_down": 1}),
    (Autoencoder, SMALL | {"image_size": (16, 32)}),
    (Classifier, SMALL | {"n_classes": 5, "image_size": (32, 8)}),
    (Classifier, SMALL | {"n_classes": 2, "norm": "batch"}),
    (Classifier, SMALL | {"n_classes": 5, "norm": "instance", "channels": 3}),
]
every_encoder = pytest.mark.parametrize(
    ("cls", "kwargs"), ENCODERS, ids=[f"{cls.__name__}-{i}" for i, (cls, _) in enumerate(ENCODERS)]
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(encoder, n=4):
    return torch.rand(n, encoder.channels, *sides(encoder.image_size)) * 2 - 1


def trained(cls, kwargs):
    """An encoder whose normalisation has seen data, in evaluation mode."""
    encoder = cls(**kwargs)
    encoder(images(encoder, 16))
    return encoder.eval()


@every_encoder
@pytest.mark.parametrize("batch", [1, 7])
def test_latents_are_vectors_and_outputs_lie_in_range(cls, kwargs, batch):
    encoder = trained(cls, kwargs)
    x = images(encoder, batch)
    posterior = encoder.encode(x)
    for z in (posterior.mean, posterior.scale, posterior.sample()):
        assert z.shape == (batch, encoder.latent_dim)
    assert (posterior.scale >= 0).all()
    assert posterior.kl().shape == (batch,)
    out = encoder.decode(10 * posterior.sample())
    if encoder.output == "image":
        assert out.shape == x.shape
        assert out.abs().max() <= 1
    else:
        assert out.shape == (batch, encoder.n_classes)


@every_encoder
def test_evaluation_decodes_the_mean_again_and_again_and_each_image_stands_alone(cls, kwargs):
    encoder = trained(cls, kwargs)
    x = images(encoder)
    expected = encoder(x)
    torch.testing.assert_close(encoder(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(encoder.decode(encoder.encode(x).mean), expected, rtol=0, atol=0)
    torch.testing.assert_close(encoder(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)


@every_encoder
def test_a_gradient_reaches_every_parameter(cls, kwargs):
    encoder = cls(**kwargs)
    posterior = encoder.encode(images(encoder, 8))
    (encoder.decode(posterior.sample()).square().sum() + posterior.kl().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_encoder
def test_an_encoder_is_rebuilt_from_its_attributes_and_state(cls, kwargs):
    encoder = trained(cls, kwargs)
    arguments = {name: getattr(encoder, name) for name in inspect.signature(cls).parameters}
    assert arguments | kwargs == arguments
    again = cls(**arguments)
    again.load_state_dict(encoder.state_dict())
    x = images(encoder)
    torch.testing.assert_close(again.eval()(x), encoder(x), rtol=0, atol=0)


@every_encoder
def test_another_shape_is_named_with_the_expected_one(cls, kwargs):
    encoder = cls(**kwargs)
    (height, width), channels = sides(encoder.image_size), encoder.channels
    expected = rf"\(B, C, H, W\) = \(B, {channels}, {height}, {width}\)"
    for shape in [(2, channels, height, width + 1), (2, channels + 1, height, width), (channels, height, width)]:
        with pytest.raises(ShapeError, match=expected):
            encoder.encode(torch.zeros(shape))
    for shape in [(2, encoder.latent_dim + 1), (encoder.latent_dim,), (2, encoder.latent_dim, 1, 1)]:
        with pytest.raises(ShapeError, match=rf"\(B, N\) = \(B, {encoder.latent_dim}\)"):
            encoder.decode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"image_size": 28}, "pad the images to 32"),
        ({"image_size": [16, 40]}, r"pad the images to \(16, 48\)"),
        ({"image_size": 0}, "number of pixels"),
        ({"n_down": 0}, "at least 1, got 0"),
        ({"norm": "bacth"}, "did you mean batch"),
        ({"norm": "instance", "image_size": 16}, "n_down=3"),
        ({"posterior": "gausian"}, "did you mean gaussian"),
    ],
)
def test_a_layout_that_cannot_be_built_says_the_cure(kwargs, text):
    with pytest.raises(ConfigError, match=text):
        Autoencoder(**kwargs)


def test_the_paper_size_has_6_million_parameters():
    autoencoder = Autoencoder(image_size=32, channels=1, latent_dim=64, width=64)
    assert sum(parameter.numel() for parameter in autoencoder.parameters()) == 5_903_744
    assert autoencoder.last_layer.shape == (64, 1, 4, 4)


def test_half_precision_keeps_the_posterior_in_float32():
    autoencoder = Autoencoder(**SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = autoencoder.encode(images(autoencoder))
    assert posterior.mean.dtype == posterior.scale.dtype == posterior.kl().dtype == torch.float32


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_discriminator_gives_logits_for_patches_and_learns_everywhere(spectral_norm):
    discriminator = PatchDiscriminator(channels=1, width=4, n_layers=2, spectral_norm=spectral_norm)
    logits = discriminator(torch.rand(3, 1, 32, 32) * 2 - 1)
    assert logits.shape == (3, 1, 6, 6)
    logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters())
    with pytest.raises(ConfigError, match="at least 1"):
        PatchDiscriminator(n_layers=0)


def test_the_kl_is_that_of_torch_distributions():
    mean, logvar = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    posterior = DiagonalGaussian.from_logvar(mean, logvar)
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(posterior.kl(), expected)


def test_samples_have_its_mean_and_scale_and_noise_fixes_them():
    mean, logvar = torch.tensor([[-3.0, 0.0, 2.0]]), torch.tensor([[-2.0, 0.0, 1.0]])
    posterior = DiagonalGaussian.from_logvar(mean.expand(20_000, 3), logvar.expand(20_000, 3))
    z = posterior.sample(Noise(0))
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.std(0), torch.exp(0.5 * logvar[0]), atol=0.05, rtol=0)
    assert z.equal(posterior.sample(Noise(0)))
    assert not z.equal(posterior.sample(Noise(1)))


def test_a_point_mass_samples_its_mean_and_has_no_kl():
    mean = torch.randn(4, 3, requires_grad=True)
    posterior = DiagonalGaussian.deterministic(mean)
    assert posterior.sample().equal(mean)
    assert posterior.kl().equal(torch.zeros(4))
    (posterior.sample().sum() + posterior.kl().sum()).backward()
    torch.testing.assert_close(mean.grad, torch.ones(4, 3))


@pytest.mark.parametrize(("logvar", "scale"), [(-1e4, torch.exp(torch.tensor(-15.0))), (1e4, 148.4132)])
def test_extreme_variances_are_clamped_and_stay_finite(logvar, scale):
    logvar = torch.full((1, 2), logvar, requires_grad=True)
    posterior = DiagonalGaussian.from_logvar(torch.zeros(1, 2), logvar)
    torch.testing.assert_close(posterior.scale, torch.full((1, 2), float(scale)))
    posterior.kl().sum().backward()
    assert posterior.kl().isfinite().all()
    assert logvar.grad.isfinite().all()
