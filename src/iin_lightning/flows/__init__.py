"""The translator T, a normalizing flow, and the bijections that it is made of."""

from iin_lightning.flows.actnorm import ActNorm
from iin_lightning.flows.base import Bijector, Chain, Inverse
from iin_lightning.flows.conditioner import Conditioner
from iin_lightning.flows.coupling import AffineCoupling
from iin_lightning.flows.permutation import Permutation
from iin_lightning.flows.translator import Translator, TranslatorBlock

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Bijector",
    "Chain",
    "Conditioner",
    "Inverse",
    "Permutation",
    "Translator",
    "TranslatorBlock",
]
