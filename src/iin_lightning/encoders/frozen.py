"""A trained encoder that training something else cannot change."""

import torch
from torch import Tensor

from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.layers.held import Held


class Frozen(Held, Encoder):
    """The same E and G: in evaluation mode for ever, without gradients to parameters, no buffer moving.

    A trainer puts every submodule into training mode at each epoch, and batch norm and ActNorm would then
    move with the data that is being explained. The encoder itself is held, not a copy of it.

    ``encode`` runs without gradients. ``decode`` lets them through to z where z asks for them, as analyses
    that climb an output of G need, and to no parameter.

    Args:
        encoder: the trained network.

    Example:
        >>> from iin_lightning.encoders.classifier import Classifier
        >>> frozen = Frozen(Classifier(n_classes=2, image_size=16, latent_dim=4, width=8)).train()
        >>> any(module.training for module in frozen.modules())
        False
        >>> frozen.encode(torch.zeros(1, 3, 16, 16)).mean.requires_grad
        False
        >>> z = torch.zeros(1, 4, requires_grad=True)
        >>> frozen.decode(z).requires_grad
        True
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.latent_dim = encoder.latent_dim
        self.output = encoder.output
        self.hold()

    @torch.no_grad()
    def encode(self, x: Tensor) -> DiagonalGaussian:
        """The posterior of z (B, N) given images (B, C, H, W) in [-1, 1], without gradients."""
        self.hold()
        return self.encoder.encode(x)

    @torch.no_grad()
    def complement(self, x: Tensor) -> Tensor | None:
        """What z does not say of images (B, C, H, W), without gradients."""
        self.hold()
        return self.encoder.complement(x)

    def decode(self, z: Tensor) -> Tensor:
        """The image or the logits of z (B, N), differentiable with respect to z alone."""
        self.hold()
        with torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad):
            return self.encoder.decode(z)

    def resume(self, z: Tensor, complement: Tensor | None) -> Tensor:
        """The image or the logits of z (B, N) and its complement, differentiable with respect to z alone."""
        self.hold()
        with torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad):
            return self.encoder.resume(z, complement)
