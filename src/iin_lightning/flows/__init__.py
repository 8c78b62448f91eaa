"""The translator T, a normalizing flow, and the bijections that it is made of."""

from iin_lightning.flows.base import Bijector, Chain
from iin_lightning.flows.conditioner import Conditioner, ResidualConditioner
from iin_lightning.flows.coupling import AffineCoupling
from iin_lightning.flows.density import Mixture, StandardNormal
from iin_lightning.flows.linear import ActNorm, Permutation, Rotation
from iin_lightning.flows.translator import PaperTranslator, RotationBlock, ShuffleBlock, Translator

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Bijector",
    "Chain",
    "Conditioner",
    "Mixture",
    "PaperTranslator",
    "Permutation",
    "ResidualConditioner",
    "Rotation",
    "RotationBlock",
    "ShuffleBlock",
    "StandardNormal",
    "Translator",
]
