"""Fashion-MNIST: pictures of clothes in the format of MNIST."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from iin_lightning.data.mnist import MNIST
from iin_lightning.data.traits import Trait


class FashionMNIST(MNIST):
    """Pieces of clothing on black, of MNIST's size, number and format.

    * 60,000 training images, of which the last ``val_fraction`` validate, and 10,000 test images
    * 28x28 grey, padded with black to 32x32, or enlarged: see ``MNIST``
    * concept: garment (10 classes)

    Reference:
        Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms (Xiao, Rasul & Vollgraf,
        2017).

    Args:
        root: folder with FashionMNIST/raw/, raw/ or the four IDX files themselves; all else as ``MNIST`` has it.
    """

    title: ClassVar[str] = "Fashion-MNIST: 70,000 pieces of clothing, 28x28 grey"
    license: ClassVar[str] = "MIT"
    terms: ClassVar[str] = "Use, change and share with the licence's notice."
    dataset: ClassVar[str] = "FashionMNIST"
    concepts: tuple[str, ...] = ("garment",)
    kinds: Mapping[str, str] = {"garment": "class"}
    traits: Mapping[str, Trait] = {}
    classes: Mapping[str, Sequence[str]] = {
        "garment": (
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        )
    }
