"""E and G: the networks that a translator explains."""

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.discriminator import PatchDiscriminator
from iin_lightning.encoders.frozen import Frozen
from iin_lightning.encoders.graph import layers
from iin_lightning.encoders.reductions import PCA, Pool, Reduction, reduction_from

__all__ = [
    "PCA",
    "Autoencoder",
    "Classifier",
    "Cut",
    "DiagonalGaussian",
    "Encoder",
    "Frozen",
    "PatchDiscriminator",
    "Pool",
    "Reduction",
    "layers",
    "reduction_from",
]
