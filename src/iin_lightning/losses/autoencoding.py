"""The negative evidence lower bound of an autoencoder; the scale of its likelihood is learned or solved for.

Symbols: x an image of D = C*H*W dimensions, x̂ its reconstruction, b the scale of a Laplace likelihood (l1),
sigma that of a Gaussian (l2), q the posterior of z.
"""

import math
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError, ShapeError, choices
from iin_lightning.layers.collective import mean_over_batch

Pixel = Literal["l1", "l2"]
Scale = Literal["learned", "closed_form"]

# A perfect reconstruction would have a scale of 0 and infinite likelihood; a grey level is 2/255 = 8e-3.
_SMALLEST_SCALE = 1e-4


class Posterior(Protocol):
    """What the loss asks of q(z|x)."""

    def kl(self) -> Tensor:
        """Return KL(q || N(0, 1)) (B,) in nats."""


class AutoencodingTerms(NamedTuple):
    """Scalars; ``total`` and ``nll`` carry gradients, the others are for the log.

    Attributes:
        total: nll + kl_weight * kl, in nats per image: what the optimizer descends.
        nll: -log p(x|z) in nats per image, summed over dimensions, averaged over the batch.
        kl: KL(q || N(0, 1)) in nats per image, unweighted.
        log_scale: log b or log sigma.
        abs_error: mean |x - x̂| per dimension, for either likelihood.
        perceptual: mean perceptual distance, 0 where the loss has none.
    """

    total: Tensor
    nll: Tensor
    kl: Tensor
    log_scale: Tensor
    abs_error: Tensor
    perceptual: Tensor


class AutoencodingLoss(nn.Module):
    r"""-ELBO = -log p(x|z) + kl_weight KL(q || N(0, 1)), in nats per image.

    With d_i the error of dimension i, to which a perceptual distance p(x, x̂) of the image is added,

        l1:  -log p = sum_i [d_i / b + log 2b],                           d_i = |x_i - x̂_i| + p
        l2:  -log p = sum_i [d_i / (2 sigma^2) + log sigma + 1/2 log 2pi], d_i = (x_i - x̂_i)^2 + p

    The scale, which balances reconstruction against KL, is one number for all pixels:

    - "closed_form": the maximum-likelihood scale of each batch (of all ranks together), b = mean d, sigma^2 = mean d,
      which gives D (log 2b + 1) and D/2 (log 2pi sigma^2 + 1) (Rybkin, Daniilidis, Levine 2021, arXiv 2006.13202).
      It needs no tuning and has no slow start: the choice for small budgets.
    - "learned": a parameter ``log_scale``, which starts at 0. A scale of 1 is wide for images in [-1, 1]: until it has
      shrunk the KL outweighs the pixels, and the images can collapse to their background.
    - a number: that scale, fixed.

    The authors (Esser, Rombach, Ommer, CVPR 2020) learn s in sum_i [d_i / exp(s) + s]. For l1 this is our loss without
    its constant: s = log b, and ours is theirs + D log 2. For l2 it is twice a Gaussian's: s = 2 log sigma, and ours is
    theirs / 2 + D/2 log 2pi, so that their balance takes half their KL weight.

    With kl_weight = 1 it is the bound. ``perceptual`` maps (x, x̂) to distances (B,), such as `LPIPS`; with it p(x|z) is
    not normalised.

    Raises:
        ConfigError: an unknown name, a scale that is not positive, or a negative weight.
        ShapeError: x and x̂ differ in shape.

    Example:
        >>> from iin_lightning.encoders import Autoencoder
        >>> autoencoder, loss = Autoencoder(channels=1, width=8, latent_dim=4), AutoencodingLoss()
        >>> x = torch.rand(2, 1, 32, 32) * 2 - 1
        >>> posterior = autoencoder.encode(x)
        >>> terms = loss(x, autoencoder.decode(posterior.sample()), posterior)
        >>> terms.total.requires_grad, bool(terms.kl >= 0)
        (True, True)
    """

    def __init__(
        self,
        pixel: Pixel = "l2",
        scale: Scale | float = "closed_form",
        kl_weight: float = 1.0,
        perceptual: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if pixel not in get_args(Pixel):
            raise ConfigError(f"There is no pixel term {pixel!r}; {choices(pixel, get_args(Pixel))}.")
        if isinstance(scale, str) and scale not in get_args(Scale):
            raise ConfigError(f"There is no scale {scale!r}; {choices(scale, get_args(Scale))}, or a number.")
        if not isinstance(scale, str) and not scale > 0:
            raise ConfigError(f"The scale of a likelihood must be above 0, got {scale}.")
        if not kl_weight >= 0:
            raise ConfigError(f"kl_weight must not be negative, got {kl_weight}.")
        self.pixel, self.scale, self.kl_weight, self.perceptual = pixel, scale, kl_weight, perceptual
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, reconstruction: Tensor, posterior: Posterior) -> AutoencodingTerms:
        """Compare images x (B, C, H, W) in [-1, 1] with their reconstructions of the same shape."""
        if x.shape != reconstruction.shape:
            raise ShapeError(
                f"Images and reconstructions must have one shape, got {tuple(x.shape)} and "
                f"{tuple(reconstruction.shape)}."
            )
        difference = (x - reconstruction).flatten(1)
        abs_error = difference.abs().mean(1)
        distance = abs_error if self.pixel == "l1" else difference.square().mean(1)
        perceptual = torch.zeros_like(distance) if self.perceptual is None else self.perceptual(x, reconstruction)
        distance = distance + perceptual

        log_scale = self._log_scale(distance)
        if self.pixel == "l1":
            nll = distance * torch.exp(-log_scale) + log_scale + math.log(2)
        else:
            nll = 0.5 * distance * torch.exp(-2 * log_scale) + log_scale + 0.5 * math.log(2 * math.pi)
        nll = difference.shape[1] * nll.mean()
        kl = posterior.kl().mean()
        return AutoencodingTerms(
            total=nll + self.kl_weight * kl,
            nll=nll,
            kl=kl.detach(),
            log_scale=log_scale.detach(),
            abs_error=abs_error.detach().mean(),
            perceptual=perceptual.detach().mean(),
        )

    def _log_scale(self, distance: Tensor) -> Tensor:
        if not isinstance(self.scale, str):
            return distance.new_full((), math.log(self.scale))
        if self.scale == "learned":
            return self.log_scale
        power = 1 if self.pixel == "l1" else 2
        # Detached: at its optimum the scale's own gradient is zero, so that of the distance is complete.
        return mean_over_batch(distance).clamp(min=_SMALLEST_SCALE**power).log() / power
