"""The adversarial term of an autoencoder, with a weight that follows the gradients.

Symbols: D the discriminator, x an image, x̂ its reconstruction; all logits are positive for "real".
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from iin_lightning.errors import ConfigError
from iin_lightning.layers.collective import mean_over_ranks


def discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Return half the sum of both cross entropies (Goodfellow et al. 2014), 1/2 E[softplus(-D(x)) + softplus(D(x̂))].

    Example:
        >>> round(discriminator_loss(torch.zeros(2), torch.zeros(2)).item(), 4)  # log 2: D cannot tell
        0.6931
    """
    return 0.5 * (softplus(-logits_real).mean() + softplus(logits_fake).mean())


def generator_loss(logits_fake: Tensor) -> Tensor:
    """Return the negative mean logit -E[D(x̂)], which has a gradient even where D is sure."""
    return -logits_fake.mean()


def adaptive_weight(
    reconstruction_term: Tensor, generator_term: Tensor, last_layer: Tensor, ceiling: float = 1e4
) -> Tensor:
    """Return the weight that makes both terms pull equally hard at the last layer of the decoder.

    w = |∇L_rec| / (|∇L_gen| + 1e-4) with gradients with respect to ``last_layer``, clamped to [0, ceiling]
    (Esser, Rombach, Ommer, "Taming Transformers", CVPR 2021, Eq. 7). Under ``torch.distributed`` they are the gradients
    of the batch of all ranks. The weight is in float32 and has no gradient; both terms can still be differentiated.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> round(adaptive_weight(6 * weight.sum(), 2 * weight.sum(), weight).item(), 3)
        3.0
    """
    gradients = [
        # Half-precision squares overflow beyond a norm of 256.
        torch.autograd.grad(term, last_layer, retain_graph=True)[0].float()
        for term in (reconstruction_term, generator_term)
    ]
    reconstruction_norm, generator_norm = (gradient.norm() for gradient in mean_over_ranks(torch.stack(gradients)))
    return (reconstruction_norm / (generator_norm + 1e-4)).clamp(0.0, ceiling).detach()


class GeneratorTerm(NamedTuple):
    """What the autoencoder descends besides its own loss: ``value = weight * -E[D(x̂)]``."""

    value: Tensor
    weight: Tensor


class DiscriminatorTerm(NamedTuple):
    """What the discriminator descends, and the mean logits E[D(x)] and E[D(x̂)] without gradient."""

    value: Tensor
    logit_real: Tensor
    logit_fake: Tensor


class Adversarial(nn.Module):
    """Both sides of the game from step ``start`` on; before it no discriminator runs and the terms are None.

    Each side has its own pass through D (images (B, C, H, W) -> logits) and leaves the other alone: the generator's
    term has no gradient at D, the discriminator's none at the autoencoder. Differentiate both before either optimizer
    steps, or take the sides in turn. ``weight`` multiplies the generator's term; with ``adaptive`` it multiplies the
    `adaptive_weight`, as in the authors' code.

    Raises:
        ConfigError: a negative start or weight.

    Example:
        >>> from iin_lightning.encoders import Autoencoder, PatchDiscriminator
        >>> autoencoder = Autoencoder(channels=1, width=8, latent_dim=4)
        >>> adversarial = Adversarial(PatchDiscriminator(channels=1, width=8), start=100)
        >>> x = torch.rand(2, 1, 32, 32) * 2 - 1
        >>> reconstruction = autoencoder(x)
        >>> pixel_term = (x - reconstruction).abs().sum()
        >>> adversarial.generator_term(reconstruction, pixel_term, autoencoder.last_layer, step=99) is None
        True
        >>> term = adversarial.generator_term(reconstruction, pixel_term, autoencoder.last_layer, step=100)
        >>> (pixel_term + term.value).backward()
        >>> adversarial.discriminator_term(x, reconstruction, step=100).value.backward()
    """

    def __init__(self, discriminator: nn.Module, start: int, weight: float = 1.0, adaptive: bool = True) -> None:
        super().__init__()
        if start < 0:
            raise ConfigError(f"start is a step and must be at least 0, got {start}.")
        if not weight >= 0:
            raise ConfigError(f"The adversarial weight must not be negative, got {weight}.")
        self.discriminator, self.start, self.weight, self.adaptive = discriminator, start, weight, adaptive

    def generator_term(
        self, reconstruction: Tensor, pixel_term: Tensor, last_layer: Tensor, step: int
    ) -> GeneratorTerm | None:
        """Return the term that the autoencoder adds to its loss at a step.

        ``pixel_term`` is the negative log-likelihood of the pixels, in the same graph as x̂.
        """
        if step < self.start:
            return None
        held = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        term = generator_loss(functional_call(self.discriminator, held, reconstruction))
        weight = torch.full_like(term, self.weight).detach()
        if self.adaptive:
            weight = weight * adaptive_weight(pixel_term, term, last_layer)
        return GeneratorTerm(weight * term, weight)

    def discriminator_term(self, x: Tensor, reconstruction: Tensor, step: int) -> DiscriminatorTerm | None:
        """Return the discriminator's loss for images x and reconstructions x̂ (B, C, H, W), which are detached."""
        if step < self.start:
            return None
        real, fake = self.discriminator(x), self.discriminator(reconstruction.detach())
        return DiscriminatorTerm(discriminator_loss(real, fake), real.detach().mean(), fake.detach().mean())
