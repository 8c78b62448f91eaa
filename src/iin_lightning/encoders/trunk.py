"""The strided convolutions that autoencoder and classifier share, and what their decoder mirrors."""

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn

from iin_lightning.encoders.base import Size, plain, sides
from iin_lightning.errors import ConfigError, choices
from iin_lightning.layers.actnorm import ActNormalization

Norm = Literal["actnorm", "batch", "instance"]

_NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "actnorm": ActNormalization,
    "batch": nn.BatchNorm2d,
    "instance": lambda width: nn.InstanceNorm2d(width, affine=True),
}


class Trunk(nn.Module):
    """``n_down`` times [convolution 4x4 of stride 2, normalisation, LeakyReLU 0.2].

    Layer i maps to ``width * min(2^i, 16)`` channels and halves the image, as the paper's autoencoder does
    (after DCGAN: Radford, Metz, Chintala 2016).

    Args:
        image_size: side of x, or height and width.
        channels: channels of x.
        width: channels after the first layer.
        n_down: how often the image is halved.
        norm: "actnorm" (data-dependent affine, Kingma & Dhariwal 2018), "batch" or "instance".

    Attributes:
        widths: channels after each layer.
        out_size: height and width that is left.

    Raises:
        ConfigError: an unknown norm, an image that cannot be halved so often, or instance norm over 1x1.

    Example:
        >>> trunk = Trunk(image_size=32, channels=1, width=8, n_down=3)
        >>> trunk.widths, trunk(torch.randn(2, 1, 32, 32)).shape
        ((8, 16, 32), torch.Size([2, 32, 4, 4]))
    """

    def __init__(
        self,
        image_size: Size = 32,
        channels: int = 3,
        width: int = 64,
        n_down: int = 4,
        norm: Norm = "actnorm",
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
                layer(nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1, bias=False), norm)
                for before, after in zip((channels, *self.widths), self.widths)
            )
        )
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to features (B, widths[-1], *out_size)."""
        return self.layers(x)


def layer(conv: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> nn.Sequential:
    """One layer of a trunk or of its mirror: the convolution, its normalisation, LeakyReLU 0.2."""
    return nn.Sequential(conv, _NORMS[norm](conv.out_channels), nn.LeakyReLU(0.2))


def init_weights(module: nn.Module) -> None:
    """For ``module.apply``: convolutions N(0, 0.02^2) and batch-norm scales N(1, 0.02^2), as DCGAN."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


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
