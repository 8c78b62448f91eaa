"""A mixture as the density of z̃: two clusters keep the gap between them, and a saved model keeps the mixture."""

import pytest
import torch

from iin_lightning.encoders import Autoencoder
from iin_lightning.errors import ConfigError
from iin_lightning.factors import Factors
from iin_lightning.flows import Mixture, Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.likelihood import MarginalLikelihood


def two_clusters(n, generator):
    """Latents (n, 2): a coin decides between -3 and 3 in both dimensions, and a deviation of 0.3 is around it."""
    side = torch.randint(2, (n, 1), generator=generator) * 6 - 3.0
    return side + 0.3 * torch.randn(n, 2, generator=generator)


def share_between(components):
    generator = torch.Generator().manual_seed(0)
    translator = Translator(2, n_blocks=2, hidden=8, components=components)
    loss = MarginalLikelihood(translator.density)
    optimizer = torch.optim.Adam(translator.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss(translator, two_clusters(256, generator)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        z = translator.inverse(translator.density.sample(4000, generator))[0]
    return (z.mean(1).abs() < 1.5).float().mean().item()


def test_samples_of_a_mixture_leave_the_gap_between_clusters_free():
    normal, mixture = share_between(0), share_between(2)
    assert mixture < 0.005, (normal, mixture)
    assert mixture < normal / 3, (normal, mixture)


def test_a_saved_interpreter_samples_and_rates_by_its_mixture(tmp_path):
    network = Autoencoder(image_size=16, latent_dim=6, width=4, norm="batch")
    translator = Translator(6, n_blocks=1, hidden=8, components=3)
    translator.initialize(torch.randn(100, 6))
    model = Interpreter(network, translator, Factors({"residual": 6}, 6)).eval()
    model.save_pretrained(tmp_path)
    read = Interpreter.from_pretrained(tmp_path).eval()
    images = model.sample(5, torch.Generator().manual_seed(0))
    assert images.equal(read.sample(5, torch.Generator().manual_seed(0)))
    assert read.log_prob(images).equal(model.log_prob(images))
    with torch.no_grad():
        read.density.mean += 1
    assert not read.log_prob(images).equal(model.log_prob(images))


def test_a_mixture_of_one_is_refused():
    with pytest.raises(ConfigError, match=r"at least 2 components.*0 stands for"):
        Mixture(3, 1, torch.Generator())


def test_half_precision_does_not_round_what_cancels():
    density = Mixture(64, 10, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        density.mean.mul_(3)
        density.log_scale.fill_(-1.5)
    z_tilde = density.sample(100)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = density.log_prob(z_tilde)
    assert (rounded - density.log_prob(z_tilde.double())).abs().max() < 0.01
