"""A trained network that training something else cannot change: whole, or up to a layer."""

from typing import Self

import torch
from torch import Tensor, nn

from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.encoders.cut import Cut
from iin_lightning.errors import ConfigError
from iin_lightning.layers.held import Held


class Frozen(Held, Encoder):
    """The same E and G: in evaluation mode for ever, without gradients to parameters, no buffer moving.

    A trainer puts every submodule into training mode at each epoch, and batch norm and ActNorm would then
    move with the data that is being explained. The encoder itself is held, not a copy of it.

    ``encode`` runs without gradients. ``decode`` lets them through to z where z asks for them, as analyses
    that climb an output of G need, and to no parameter.

    Example:
        >>> from iin_lightning.encoders.classifier import Classifier
        >>> frozen = Frozen(Classifier(n_classes=2, image_size=16, latent_dim=4, width=8)).train()
        >>> any(module.training for module in frozen.modules())
        False
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.latent_dim = encoder.latent_dim
        self.output = encoder.output
        self.hold()

    @torch.no_grad()
    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return the posterior of z (B, N) given images (B, C, H, W) in [-1, 1], without gradients."""
        self.hold()
        return self.encoder.encode(x)

    @torch.no_grad()
    def complement(self, x: Tensor) -> Tensor | None:
        """Return what z does not say of images (B, C, H, W), without gradients."""
        self.hold()
        return self.encoder.complement(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return the image or the logits of z (B, N), differentiable with respect to z alone."""
        self.hold()
        with torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad):
            return self.encoder.decode(z)

    def resume(self, z: Tensor, complement: Tensor | None) -> Tensor:
        """Return the image or the logits of z (B, N) and its complement, differentiable with respect to z alone."""
        self.hold()
        with torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad):
            return self.encoder.resume(z, complement)


class Behind(nn.Module):
    """G of a network at a layer, z (B, N) -> logits (B, classes): only the weights behind the layer train.

    It stays in evaluation mode, so that batch norm keeps the statistics that it came with, and latents that were
    encoded once stay true. The network of ``cut`` itself is trained, not a copy; its reduction must be None, so that z
    says all that follows reads.

    Attributes:
        trained: names of the weights that train.

    Raises:
        ConfigError: nothing behind the layer can be trained, or the layer is bypassed.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
        >>> behind = Behind(Cut(network, "1", image_size=16))
        >>> behind.trained, behind(torch.zeros(2, 1568)).shape
        (['2.weight', '2.bias'], torch.Size([2, 10]))
    """

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        self.cut = cut
        self.eval()
        cut.requires_grad_(True)
        named = {name: p for name, p in cut.network.named_parameters() if p.is_floating_point()}
        with torch.enable_grad():
            device = next(cut.parameters(), torch.empty(0)).device
            z = torch.zeros(1, cut.latent_dim, device=device, requires_grad=True)
            _, *gradients = torch.autograd.grad(cut.decode(z).sum(), [z, *named.values()], allow_unused=True)
        cut.requires_grad_(False)
        self.trained = [name for name, gradient in zip(named, gradients) if gradient is not None]
        if not self.trained:
            raise ConfigError(
                f"Behind {cut.layer!r} lie no weights, so there is nothing to train: name an earlier layer "
                "(encoder.layer)."
            )
        for name in self.trained:
            named[name].requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` says."""
        return super().train(False)

    def forward(self, z: Tensor) -> Tensor:
        """Map latents z (B, N) to logits (B, classes)."""
        return self.cut.decode(z)
