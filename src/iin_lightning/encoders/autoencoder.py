"""The convolutional (variational) autoencoder of the paper: E of Fig. 2 and the sampling experiments."""

from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from iin_lightning.encoders.base import DiagonalGaussian, Encoder, Output, Size, plain
from iin_lightning.encoders.trunk import Norm, Trunk, init_weights, layer
from iin_lightning.errors import ConfigError, choices

Posterior = Literal["gaussian", "deterministic"]


class Autoencoder(Encoder):
    """Strided convolutions down to a vector z, and their mirror image back, with tanh at the end.

    q(z|x) = N(mean(x), scale(x)^2) for a Gaussian posterior (Kingma & Welling 2014), z = mean(x) for a
    deterministic one. Layout after the authors' experiments (Esser, Rombach, Ommer, CVPR 2020): a dense
    convolution takes the last feature map to z, and a transposed one takes z back.

    Args:
        image_size: side of x, or height and width; divisible by 2^n_down.
        channels: channels of x.
        latent_dim: N, the dimension of z.
        width: channels after the first convolution; they double with each further one, up to 16 * width.
        n_down: number of convolutions of stride 2.
        norm: "actnorm" (the authors' choice), "batch" or "instance".
        posterior: "gaussian" or "deterministic".

    Raises:
        ConfigError: the image cannot be halved n_down times, or a name is unknown.
        ShapeError: ``encode`` or ``decode`` is given another shape than it was built for.

    Example:
        >>> autoencoder = Autoencoder(image_size=32, channels=1, latent_dim=8, width=8)
        >>> x = torch.rand(2, 1, 32, 32) * 2 - 1
        >>> z = autoencoder.encode(x).sample()
        >>> z.shape, autoencoder.decode(z).shape
        (torch.Size([2, 8]), torch.Size([2, 1, 32, 32]))
    """

    output: Output = "image"

    def __init__(
        self,
        image_size: Size = 32,
        channels: int = 3,
        latent_dim: int = 64,
        *,
        width: int = 64,
        n_down: int = 4,
        norm: Norm = "actnorm",
        posterior: Posterior = "gaussian",
    ) -> None:
        super().__init__()
        if posterior not in get_args(Posterior):
            raise ConfigError(f"There is no posterior {posterior!r}; {choices(posterior, get_args(Posterior))}.")
        self.image_size, self.channels, self.latent_dim = plain(image_size), channels, latent_dim
        self.width, self.n_down, self.norm, self.posterior = width, n_down, norm, posterior

        self.trunk = Trunk(image_size, channels, width, n_down, norm)
        *_, top = self.trunk.widths
        moments = 2 * latent_dim if posterior == "gaussian" else latent_dim
        self.to_moments = nn.Conv2d(top, moments, kernel_size=self.trunk.out_size)
        self.from_latent = nn.ConvTranspose2d(latent_dim, top, kernel_size=self.trunk.out_size)
        upwards = self.trunk.widths[::-1]
        self.decoder = nn.Sequential(
            *(layer(_upsample(before, after), norm) for before, after in pairwise(upwards)),
            _upsample(width, channels),
            nn.Tanh(),
        )
        self.apply(init_weights)

    @property
    def last_layer(self) -> Tensor:
        """The weight of the last decoder convolution, where the adaptive GAN weight compares gradients."""
        last = self.decoder[-2]
        assert isinstance(last, nn.ConvTranspose2d)
        return last.weight

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """The posterior of z (B, N) given images (B, C, H, W) in [-1, 1]."""
        self._check_images(x, self.channels, self.image_size)
        moments = self.to_moments(self.trunk(x)).flatten(1)
        if self.posterior == "deterministic":
            return DiagonalGaussian.deterministic(moments)
        return DiagonalGaussian.from_logvar(*moments.chunk(2, dim=1))

    def decode(self, z: Tensor) -> Tensor:
        """The image (B, C, H, W) in [-1, 1] of z (B, N)."""
        self._check_latents(z)
        return self.decoder(self.from_latent(z[:, :, None, None]))


def _upsample(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1, bias=False)
