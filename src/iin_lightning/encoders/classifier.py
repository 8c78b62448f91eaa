"""The classifier of the paper, whose hidden representation is to be explained (Tab. 1, right)."""

from torch import Tensor, nn

from iin_lightning.encoders.autoencoder import Norm, Trunk, init_weights
from iin_lightning.encoders.base import DiagonalGaussian, Encoder, Output, Size, plain


class Classifier(Encoder):
    """The trunk of the autoencoder, a dense convolution to z, and a linear head: logits = W z + b.

    z is deterministic, so ``encode(x).scale`` is 0; ``forward(x)`` gives the logits (B, n_classes). z enters
    the head without an activation between, as in the authors' experiments (Esser, Rombach, Ommer, CVPR 2020).

    ``n_classes`` is the number of logits; all other arguments are the autoencoder's.

    Example:
        >>> classifier = Classifier(n_classes=10, image_size=32, latent_dim=8, width=8)
        >>> classifier(torch.rand(2, 3, 32, 32) * 2 - 1).shape
        torch.Size([2, 10])
    """

    output: Output = "logits"

    def __init__(
        self,
        n_classes: int,
        image_size: Size = 32,
        channels: int = 3,
        latent_dim: int = 64,
        *,
        width: int = 64,
        n_down: int = 4,
        norm: Norm = "actnorm",
    ) -> None:
        super().__init__()
        self.n_classes, self.image_size, self.channels = n_classes, plain(image_size), channels
        self.latent_dim, self.width, self.n_down, self.norm = latent_dim, width, n_down, norm

        self.trunk = Trunk(image_size, channels, width, n_down, norm)
        self.to_latent = nn.Conv2d(self.trunk.widths[-1], latent_dim, kernel_size=self.trunk.out_size)
        self.head = nn.Linear(latent_dim, n_classes)
        self.apply(init_weights)

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return the point z (B, N) that the images (B, C, H, W) in [-1, 1] are mapped to."""
        self._check_images(x, self.channels, self.image_size)
        return DiagonalGaussian.deterministic(self.to_latent(self.trunk(x)).flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        """Return the logits (B, n_classes) of z (B, N)."""
        self._check_latents(z)
        return self.head(z)
