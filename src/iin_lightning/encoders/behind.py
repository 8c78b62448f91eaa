"""What lies behind the layer of a split network, as something to train: everything before it stays as it is."""

from typing import Self

import torch
from torch import Tensor, nn

from iin_lightning.encoders.split import Split
from iin_lightning.errors import ConfigError


class Behind(nn.Module):
    """G of a network at a layer: z (B, N) -> logits (B, classes), of which alone the weights behind the layer train.

    It stays in evaluation mode, so that batch norm keeps the statistics that it came with, and latents that were
    encoded once stay true. The split network itself is trained, not a copy.

    Args:
        split: without a reduction, whose z says all that follows reads.

    Attributes:
        trained: names of the weights that train.

    Raises:
        ConfigError: nothing behind the layer can be trained, or the layer is bypassed.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
        >>> behind = Behind(Split(network, "1", image_size=16))
        >>> behind.trained, behind(torch.zeros(2, 1568)).shape
        (['2.weight', '2.bias'], torch.Size([2, 10]))
    """

    def __init__(self, split: Split) -> None:
        super().__init__()
        self.split = split
        self.eval()
        split.requires_grad_(True)
        named = {name: p for name, p in split.network.named_parameters() if p.is_floating_point()}
        with torch.enable_grad():
            device = next(split.parameters(), torch.empty(0)).device
            z = torch.zeros(1, split.latent_dim, device=device, requires_grad=True)
            _, *gradients = torch.autograd.grad(split.decode(z).sum(), [z, *named.values()], allow_unused=True)
        split.requires_grad_(False)
        self.trained = [name for name, gradient in zip(named, gradients) if gradient is not None]
        if not self.trained:
            raise ConfigError(
                f"Behind {split.layer!r} lie no weights, so there is nothing to train: name an earlier layer "
                "(encoder.layer)."
            )
        for name in self.trained:
            named[name].requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` says."""
        return super().train(False)

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, classes) of latents z (B, N)."""
        return self.split.decode(z)
