"""E and G: the networks that a translator explains."""

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.encoders.discriminator import PatchDiscriminator
from iin_lightning.encoders.frozen import Frozen

__all__ = ["Autoencoder", "Classifier", "DiagonalGaussian", "Encoder", "Frozen", "PatchDiscriminator"]
