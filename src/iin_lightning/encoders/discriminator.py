"""PatchGAN: tells real patches of an image from reconstructed ones."""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum

from iin_lightning.encoders.autoencoder import init_weights
from iin_lightning.errors import ConfigError


class PatchDiscriminator(nn.Module):
    """One logit for each overlapping patch, positive for "real" (Isola et al. 2017, arXiv 1611.07004).

    ``n_layers`` convolutions 4x4 of stride 2 and two of stride 1, batch norm except at both ends, LeakyReLU
    0.2. With 3 layers a logit sees 70x70 pixels, and an image of 32x32 gets 2x2 logits.

    ``width`` channels after the first convolution double with each further one, up to 8 * width. ``spectral_norm``
    divides every convolution's weight by its largest singular value (Miyato et al. 2018).

    Example:
        >>> discriminator = PatchDiscriminator(channels=1, width=8)
        >>> discriminator(torch.rand(2, 1, 32, 32) * 2 - 1).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(self, channels: int = 3, width: int = 64, n_layers: int = 3, spectral_norm: bool = False) -> None:
        super().__init__()
        if n_layers < 1:
            raise ConfigError(f"n_layers must be at least 1, got {n_layers}.")
        self.channels, self.width = channels, width
        self.n_layers, self.spectral_norm = n_layers, spectral_norm
        self.layers = nn.Sequential(*_layers(channels, width, n_layers))
        self.apply(init_weights)
        if spectral_norm:
            for module in self.layers:
                if isinstance(module, nn.Conv2d):
                    normalise_spectrum(module)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) in [-1, 1] to logits (B, 1, h, w)."""
        return self.layers(x)


def _layers(channels: int, width: int, n_layers: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
    yield nn.LeakyReLU(0.2)
    widths = [width * min(2**i, 8) for i in range(n_layers + 1)]
    for i, (before, after) in enumerate(pairwise(widths), start=1):
        # The batch norm has the bias.
        yield nn.Conv2d(before, after, kernel_size=4, stride=2 if i < n_layers else 1, padding=1, bias=False)
        yield nn.BatchNorm2d(after)
        yield nn.LeakyReLU(0.2)
    yield nn.Conv2d(widths[-1], 1, kernel_size=4, stride=1, padding=1)
