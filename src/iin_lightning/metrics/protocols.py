"""Evaluation protocols: what must be the same on both sides before two sample-quality numbers may be compared.

The same samples get an FID of 5 or of 10 by what is done to the real and the generated images before the extractor
sees them. So a protocol has a name, and every number carries it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.errors import ConfigError, choices
from iin_lightning.seeding import FIXED, generator


@dataclass(frozen=True)
class Protocol:
    """How real and generated images are chosen and prepared.

    Attributes:
        name: of the preset.
        count: how many images are generated, and at most how many real ones stand against them.
        split: that the real images are from.
        preparation: crop and size, in words: what the data must be asked for, since it is not done here.
        dequantised: real images get one u ~ U[0,1) each; see ``pixels.dequantize_images``.
        stretched: generated images are stretched to the whole range; see ``pixels.stretch``.
        antialiased: images are resized for the extractor by ``pixels.resize_clean``, not by the extractor.
        seed: of what is drawn: which real images, their noise, and the subsets of the KID.

    Raises:
        ConfigError: count is below 2.

    Example:
        >>> protocol("clean", count=3).items(5).tolist()
        [0, 2, 4]
    """

    name: str
    count: int = 10_000
    split: Split = "test"
    preparation: str = "as the data gives them"
    dequantised: bool = False
    stretched: bool = False
    antialiased: bool = False
    seed: int = FIXED

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ConfigError(f"count={self.count} images have no covariance: take thousands.")

    def items(self, n: int) -> Tensor:
        """Which of the split's n items are the real images: ``count`` of them without replacement, in their order."""
        order = torch.randperm(n, generator=generator(self.seed, "real images", n))
        return order[: self.count].sort().values

    def as_dict(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return asdict(self)


PROTOCOLS = {
    preset.name: preset
    for preset in (
        # Esser, Rombach, Ommer 2020 and its code. Theirs draws CelebA's images with replacement, which leaves 7,765
        # distinct ones of 10,000; and it gives noise to the extractor as fractions, of which bytes keep the rounding.
        Protocol(
            "authors2020",
            preparation="data.preset=authors: MNIST, FashionMNIST enlarged bilinearly to 32; CelebA centre 160 to 64 "
            "without antialiasing",
            dequantised=True,
        ),
        # Dai & Wipf 2019, arXiv 1903.05789: the numbers of the paper's Tab. 2.
        Protocol(
            "two_stage",
            preparation="MNIST, FashionMNIST: 28 (ours: padded to 32); CelebA: centre 140 to 64 (data.crop=140)",
            stretched=True,
        ),
        # Parmar, Zhang, Zhu 2022, arXiv 2104.11222.
        Protocol("clean", antialiased=True),
    )
}


def protocol(name: str, **changes: Any) -> Protocol:
    """The preset of a name.

    Args:
        name: authors2020, two_stage or clean.
        changes: other values for some of its fields, which provenance then shows.

    Raises:
        ConfigError: there is none of that name.

    Example:
        >>> protocol("two_stage").stretched
        True
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"There is no protocol {name}; {choices(name, PROTOCOLS)}.")
    return replace(PROTOCOLS[name], **changes)
