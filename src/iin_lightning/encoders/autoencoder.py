"""The convolutional (variational) autoencoder of the paper: E of Fig. 2 and the sampling experiments."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from iin_lightning.encoders.base import DiagonalGaussian, Encoder, Output, Size, plain, sides
from iin_lightning.errors import ConfigError, choices
from iin_lightning.layers.actnorm import ActNormalization

Posterior = Literal["gaussian", "deterministic"]
Norm = Literal["actnorm", "batch", "instance"]

_NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "actnorm": ActNormalization,
    "batch": nn.BatchNorm2d,
    "instance": lambda width: nn.InstanceNorm2d(width, affine=True),
}


class Autoencoder(Encoder):
    """Strided convolutions down to a vector z, and their mirror image back, with tanh at the end.

    q(z|x) = N(mean(x), scale(x)^2) for a Gaussian posterior (Kingma & Welling 2014), z = mean(x) for a
    deterministic one. Layout after the authors' experiments (Esser, Rombach, Ommer, CVPR 2020): a dense
    convolution takes the last feature map to z, and a transposed one takes z back.

    Args:
        image_size: side of x, or height and width; divisible by 2^n_down.
        latent_dim: N, the dimension of z.
        width: channels after the first convolution; they double with each further one, up to 16 * width.
        n_down: number of convolutions of stride 2.

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
            *(_layer(_upsample(before, after), norm) for before, after in pairwise(upwards)),
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
        """Return the posterior of z (B, N) given images (B, C, H, W) in [-1, 1]."""
        self._check_images(x, self.channels, self.image_size)
        moments = self.to_moments(self.trunk(x)).flatten(1)
        if self.posterior == "deterministic":
            return DiagonalGaussian.deterministic(moments)
        return DiagonalGaussian.from_logvar(*moments.chunk(2, dim=1))

    def decode(self, z: Tensor) -> Tensor:
        """Return the image (B, C, H, W) in [-1, 1] of z (B, N)."""
        self._check_latents(z)
        return self.decoder(self.from_latent(z[:, :, None, None]))


class Trunk(nn.Module):
    """``n_down`` times [convolution 4x4 of stride 2, normalisation, LeakyReLU 0.2]; the classifier has it, too.

    Layer i maps to ``width * min(2^i, 16)`` channels and halves the image, as the paper's autoencoder does
    (after DCGAN: Radford, Metz, Chintala 2016).

    ``widths`` are the channels after each layer, ``out_size`` the height and width that is left.
    """

    def __init__(
        self, image_size: Size = 32, channels: int = 3, width: int = 64, n_down: int = 4, norm: Norm = "actnorm"
    ) -> None:
        super().__init__()
        _check(image_size, n_down, norm)
        self.image_size, self.channels = plain(image_size), channels
        self.width, self.n_down, self.norm = width, n_down, norm
        self.widths = tuple(width * min(2**i, 16) for i in range(n_down))
        height, width = sides(image_size)
        self.out_size = height // 2**n_down, width // 2**n_down
        self.layers = nn.Sequential(
            *(
                _layer(nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1, bias=False), norm)
                for before, after in zip((channels, *self.widths), self.widths)
            )
        )
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to features (B, widths[-1], *out_size)."""
        return self.layers(x)


def init_weights(module: nn.Module) -> None:
    """Draw convolutions from N(0, 0.02^2) and batch-norm scales from N(1, 0.02^2), as DCGAN; for ``module.apply``."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _layer(conv: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> nn.Sequential:
    return nn.Sequential(conv, _NORMS[norm](conv.out_channels), nn.LeakyReLU(0.2))


def _upsample(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1, bias=False)


def _check(image_size: Size, n_down: int, norm: str) -> None:
    if norm not in get_args(Norm):
        raise ConfigError(f"There is no norm {norm!r}; {choices(norm, get_args(Norm))}.")
    if n_down < 1:
        raise ConfigError(f"n_down is how often the image is halved and must be at least 1, got {n_down}.")
    if any(side % 2**n_down for side in sides(image_size)):
        smallest = plain([-(-side // 2**n_down) * 2**n_down for side in sides(image_size)])
        raise ConfigError(
            f"image_size={image_size} cannot be halved {n_down} times, as it is not divisible by "
            f"2^n_down = {2**n_down}: pad the images to {smallest}, or lower n_down."
        )
    if norm == "instance" and max(sides(image_size)) == 2**n_down:
        raise ConfigError(
            f"norm='instance' would normalise a single pixel, as n_down={n_down} leaves 1x1 of "
            f"image_size={image_size}: take n_down={n_down - 1}, or another norm."
        )
