"""MNIST: handwritten digits, read from the official IDX files."""

from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.data.base import Split
from iin_lightning.data.download import find_or_download
from iin_lightning.data.idx import first_values, read_idx
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.module import DataModule
from iin_lightning.data.traits import Trait, ink, slant
from iin_lightning.data.transforms import pad_to
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

IMAGE_SIZE = 32  # from 28: four halvings need a multiple of 16
Preset = Literal["default", "authors"]
# Data sets whose files have the same names, and the first of their training labels.
FIRST_LABELS = {
    "MNIST": bytes((5, 0, 4, 1, 9, 2, 1, 3, 1, 4)),
    "FashionMNIST": bytes((9, 0, 0, 3, 0, 2, 7, 2, 5, 5)),
}
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def find_mnist(root: Path, download: bool = False, name: str = "MNIST") -> Path:
    """The folder that holds MNIST's four files: root/MNIST/raw, root/raw or root.

    They are plain or ``.gz``, named train-images-idx3-ubyte or, as some programs unpack it, train-images.idx3-ubyte.
    Only the first folder's name says whose files they are; those in the others must not begin like another data set's.

    Args:
        root: where to look; torchvision downloads to root/MNIST/raw.
        download: let torchvision fetch the files if they are in none of the folders.
        name: of a data set in MNIST's format that torchvision knows, and of its folder.

    Raises:
        DataNotFoundError: they are in none of the folders and could not be downloaded.
    """
    flat = (root / "raw", root)
    folders = (root / name / "raw", *flat)

    def find() -> Path | None:
        complete = (folder for folder in folders if all(_file(folder, file) is not None for file in FILES))
        return next((folder for folder in complete if folder not in flat or _owner(folder) in (None, name)), None)

    def missing(reason: str) -> str:
        owners = {folder: _owner(folder) for folder in flat}
        foreign = "".join(f"{folder} holds {it}'s files. " for folder, it in owners.items() if it not in (None, name))
        return (
            f"{name} was not found in {', '.join(map(str, folders))}. {foreign}{reason} Put the four files "
            f"{', '.join(FILES)}, each plain or .gz, into one of these folders, or point paths.data to the folder "
            "that has them; data=color_mnist_mini needs no files."
        )

    return find_or_download(name, root, find, download, missing)


def read_mnist(
    folder: Path | Traversable, part: Literal["train", "t10k"], preset: Preset = "default"
) -> tuple[Tensor, Tensor]:
    """The digits of one of MNIST's two parts, in the order of the file.

    Returns:
        images uint8 (n, 32, 32), padded with background or enlarged, as the preset says; labels long (n,).

    Raises:
        DataNotFoundError: a file is missing, damaged, or does not belong to its partner.
    """
    images, labels = (_read(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    if images.dim() != 3 or labels.shape != images.shape[:1]:
        raise DataNotFoundError(
            f"In {folder}, the {part} images have the sizes {tuple(images.shape)} and the labels "
            f"{tuple(labels.shape)}; expected are (n, 28, 28) and (n,). Fetch both files again."
        )
    if preset == "authors":
        size = (IMAGE_SIZE, IMAGE_SIZE)
        enlarged = [interpolate(part[:, None].float(), size, mode="bilinear")[:, 0] for part in images.split(1000)]
        return torch.cat(enlarged).round_().byte(), labels.long()
    return pad_to(images, IMAGE_SIZE), labels.long()


def read_split(
    folder: Path | Traversable, split: Split, val_fraction: float, preset: Preset = "default"
) -> tuple[Tensor, Tensor]:
    """The digits of a split; validation ends the training file, so that nothing is selected on test."""
    images, labels = read_mnist(folder, "t10k" if split == "test" else "train", preset)
    if split == "test":
        return images, labels
    n_train = len(labels) - max(1, round(val_fraction * len(labels)))
    part = slice(n_train) if split == "train" else slice(n_train, None)
    return images[part], labels[part]


def check_preset(preset: str) -> None:
    """See that there is such a preset.

    Raises:
        ConfigError: there is not.
    """
    if preset not in get_args(Preset):
        raise ConfigError(f"There is no data.preset={preset}; {choices(preset, get_args(Preset))}.")


def _file(folder: Path | Traversable, name: str) -> Path | Traversable | None:
    # gzip remembers the names with a dot, which they had before they were published.
    names = [f"{one}{suffix}" for one in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    return next((file for file in map(folder.joinpath, names) if file.is_file()), None)


def _owner(folder: Path) -> str | None:
    """Which data set the training labels of a folder begin like, of those that are known."""
    file = _file(folder, "train-labels-idx1-ubyte")
    first = b"" if file is None else first_values(file, 10)
    return next((name for name, labels in FIRST_LABELS.items() if labels == first), None)


def _read(folder: Path | Traversable, name: str) -> Tensor:
    file = _file(folder, name)
    if file is None:
        raise DataNotFoundError(f"There is neither {name} nor {name}.gz in {folder}.")
    return read_idx(file)


class MNIST(DataModule):
    """Handwritten digits on black.

    * 60,000 training images, of which the last ``val_fraction`` validate, and 10,000 test images
    * 28x28 grey, padded with black to 32x32; preset "authors" enlarges it bilinearly instead, as the paper's code does
    * concept: digit (10 classes)

    Reference:
        Gradient-based learning applied to document recognition (LeCun, Bottou, Bengio & Haffner, 1998).

    Args:
        root: folder with MNIST/raw/, raw/ or the four IDX files themselves.
        channels: 1, or 3 to repeat the grey level for networks that read RGB.
        preset: how 28x28 becomes 32x32: "default" pads, "authors" enlarges.
        download: fetch the files with torchvision if they are absent.
        val_fraction: part of the training file that is kept for validation, in (0, 1).
        **loading: see ``DataModule``.

    Raises:
        ConfigError: channels is neither 1 nor 3, or there is no such preset.
        DataNotFoundError: when the data are first used: the files are absent and cannot be downloaded.
    """

    title: ClassVar[str] = "MNIST: 70,000 handwritten digits, 28x28 grey"
    license: ClassVar[str] = "CC BY-SA 3.0"
    terms: ClassVar[str] = "Share and adapt with attribution, under the same licence."
    dataset: ClassVar[str] = "MNIST"
    concepts: tuple[str, ...] = ("digit",)
    kinds: Mapping[str, str] = {"digit": "class"}
    classes: Mapping[str, Sequence[str]] = {"digit": "0123456789"}
    traits: Mapping[str, Trait] = {"slant": slant, "ink": ink}

    def __init__(
        self,
        root: str | Path,
        *,
        channels: int = 1,
        preset: Preset = "default",
        download: bool = False,
        val_fraction: float = 0.05,
        **loading: Any,
    ) -> None:
        if channels not in (1, 3):
            raise ConfigError(f"channels={channels}: MNIST is grey; allowed are 1, or 3 to repeat it.")
        check_preset(preset)
        super().__init__(val_fraction=val_fraction, **loading)
        self.root = Path(root)
        self.channels = channels
        self.preset: Preset = preset
        self.download = download

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, IMAGE_SIZE, IMAGE_SIZE

    def prepare_data(self) -> None:
        """Download, if necessary and allowed."""
        find_mnist(self.root, self.download, self.dataset)

    def load(self, split: Split) -> ImageTensor:
        """Read a split into memory."""
        folder = find_mnist(self.root, self.download, self.dataset)
        images, labels = read_split(folder, split, self.val_fraction, self.preset)
        return ImageTensor(images[:, None].expand(-1, self.channels, -1, -1), labels[:, None], self.concepts)
