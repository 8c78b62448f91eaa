"""The translator T, a normalizing flow, and the bijections that it is made of."""

from iin_lightning.flows.actnorm import ActNorm
from iin_lightning.flows.base import Bijector, Chain, Inverse
from iin_lightning.flows.blocks import RotationBlock, ShuffleBlock
from iin_lightning.flows.conditioner import Conditioner, ResidualConditioner
from iin_lightning.flows.coupling import AffineCoupling
from iin_lightning.flows.permutation import Permutation
from iin_lightning.flows.rotation import Rotation
from iin_lightning.flows.translator import PaperTranslator, Translator

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Bijector",
    "Chain",
    "Conditioner",
    "Inverse",
    "PaperTranslator",
    "Permutation",
    "ResidualConditioner",
    "Rotation",
    "RotationBlock",
    "ShuffleBlock",
    "Translator",
]
