"""The network that is explained: an encoder E and what follows it, G.

Symbols (Sec. 3 of the paper): a network f(x) = G(z), z = E(x), is cut at its hidden representation z. x is an
image (B, C, H, W) in [-1, 1], z (B, N) a sample of the posterior N(mean, scale^2), G(z) an image, logits or values.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.seeding import Noise

Output = Literal["image", "logits", "values"]

Size = int | Sequence[int]
"""Of images in pixels: the side of a square, or height and width."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """The posterior q(z|x) = N(mean, diag(scale^2)) of a batch; mean and scale are (B, N).

    A scale of 0 is a deterministic encoder.

    Example:
        >>> posterior = DiagonalGaussian.from_logvar(torch.zeros(2, 3), torch.zeros(2, 3))
        >>> posterior.sample().shape, posterior.kl().tolist()
        (torch.Size([2, 3]), [0.0, 0.0])
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def from_logvar(cls, mean: Tensor, logvar: Tensor) -> "DiagonalGaussian":
        """Build it from log-variances, clamped to [-30, 10] as the authors do, in at least float32."""
        mean, logvar = _at_least_float32(mean), _at_least_float32(logvar)
        return cls(mean, torch.exp(0.5 * logvar.clamp(-30.0, 10.0)))

    @classmethod
    def deterministic(cls, mean: Tensor) -> "DiagonalGaussian":
        """Build the point mass at ``mean``."""
        mean = _at_least_float32(mean)
        return cls(mean, torch.zeros_like(mean))

    def sample(self, noise: Noise | None = None) -> Tensor:
        """Draw z = mean + scale * eps (B, N), differentiably; eps comes from ``noise`` if given."""
        drawn = torch.randn_like(self.mean) if noise is None else noise.normal(self.mean.shape, self.mean.dtype)
        return self.mean + self.scale * drawn.to(self.mean.device)

    def kl(self) -> Tensor:
        """Return KL(q || N(0, 1)) (B,) in nats, summed over dimensions; 0 where the scale is 0.

        The divergence of a point mass is infinite; a deterministic encoder simply has no such term.
        """
        random = self.scale > 0
        # The inner `where` keeps log 0 out of the backward pass, where 0 * inf would be NaN.
        log_scale = torch.where(random, self.scale, 1.0).log()
        kl = 0.5 * (self.mean.square() + self.scale.square() - 1.0) - log_scale
        return torch.where(random, kl, 0.0).sum(-1)


def sides(size: Size) -> tuple[int, int]:
    """Return height and width, of 64 (64, 64); another size than one or two whole numbers from 1 is a ConfigError."""
    given = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(given) != 2 or any(type(side) is not int or side < 1 for side in given):
        raise ConfigError(
            f"{size} is no size of images; write a number of pixels (64), or height and width ([64,128])."
        )
    return given


def plain(size: Size) -> int | tuple[int, int]:
    """Return a size as a description of a network holds it: a single number where height and width are the same."""
    height, width = sides(size)
    return height if height == width else (height, width)


class Encoder(nn.Module, ABC):
    """E and G of a network.

    Attributes:
        latent_dim: N, the dimension of z.
        output: what ``decode`` returns: "image" (B, C, H, W) in [-1, 1], "logits" (B, classes), or "values" (B, V), any
            numbers, as of a regression.
    """

    latent_dim: int
    output: Output

    @abstractmethod
    def encode(self, x: Tensor) -> DiagonalGaussian:
        """E: the distribution of z (B, N) given images (B, C, H, W) in [-1, 1]."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """G: the image, the logits or the values that the network makes of z (B, N)."""

    def complement(self, x: Tensor) -> Tensor | None:
        """Return what z does not say of images (B, C, H, W), (B, ...); None where z says all that G reads."""
        return None

    def resume(self, z: Tensor, complement: Tensor | None) -> Tensor:
        """G given z (B, N) and what z does not say: ``resume(encode(x).mean, complement(x))`` is f(x)."""
        return self.decode(z)

    def forward(self, x: Tensor) -> Tensor:
        """f(x) = G(E(x)) with the mean of E: a reconstruction, logits or values."""
        return self.resume(self.encode(x).mean, self.complement(x))

    def _check_images(self, x: Tensor, channels: int, size: Size) -> None:
        height, width = sides(size)
        if x.ndim != 4 or tuple(x.shape[1:]) != (channels, height, width):
            raise ShapeError(
                f"{type(self).__name__} expects images (B, C, H, W) = (B, {channels}, {height}, {width}), got "
                f"{tuple(x.shape)}: resize or pad the images, or build it with their image_size and channels."
            )

    def _check_latents(self, z: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ShapeError(
                f"{type(self).__name__} decodes latents (B, N) = (B, {self.latent_dim}), got "
                f"{tuple(z.shape)}: flatten them, or build it with their latent_dim."
            )


def _at_least_float32(x: Tensor) -> Tensor:
    # Under mixed precision the convolutions return half; a likelihood of z needs more digits.
    return x.to(torch.promote_types(x.dtype, torch.float32))
