"""MNIST: handwritten digits, and Fashion-MNIST: clothes, read from the official IDX files."""

import gzip
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.data.base import Split
from iin_lightning.data.downloads import find_or_download
from iin_lightning.data.images import ImageTensor, Trait, ink, pad_to, slant
from iin_lightning.data.module import DataModule
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

IMAGE_SIZE = 32  # from 28: four halvings need a multiple of 16
Preset = Literal["default", "authors"]
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_UNSIGNED_BYTE = 8


def find_mnist(root: Path, download: bool = False, name: str = "MNIST") -> Path:
    """The folder root/<name>/raw, where torchvision puts the four files, plain or ``.gz``, of a set in MNIST's format.

    Raises:
        DataNotFoundError: they are not there and could not be downloaded.
    """
    folder = root / name / "raw"

    def find() -> Path | None:
        return folder if all(_file(folder, file) is not None for file in FILES) else None

    def missing(reason: str) -> str:
        return (
            f"{name} was not found in {folder}. {reason} Put the four files {', '.join(FILES)}, each plain or .gz, "
            f"there, or point paths.data to the folder that has {name}/raw/; data=color_mnist_mini needs no files."
        )

    return find_or_download(name, root, find, download, missing)


def read_idx(path: Path | Traversable) -> Tensor:
    """The unsigned bytes of an IDX file, plain or ``.gz``, in the shape that it states.

    IDX is a magic number (two zero bytes, a type, the number of sizes), the sizes, and the values, all big-endian.

    Raises:
        DataNotFoundError: the file is not an IDX file of bytes, or is cut short.
    """
    try:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"cannot be decompressed ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise _damaged(path, f"starts with 0x{content[:4].hex()}, an IDX file of bytes with 0x000008")
    n_sizes = content[3]
    header = 4 + 4 * n_sizes
    if len(content) < header:
        raise _damaged(path, f"ends within its header, after {len(content)} of {header} bytes")
    sizes = struct.unpack(f">{n_sizes}I", content[4:header])
    if len(content) != header + math.prod(sizes):
        came, stated = len(content) - header, "x".join(map(str, sizes))
        raise _damaged(path, f"holds {came} values, its header states {stated} = {math.prod(sizes)}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].reshape(sizes)


def read_mnist(
    folder: Path | Traversable, part: Literal["train", "t10k"], preset: Preset = "default"
) -> tuple[Tensor, Tensor]:
    """The images uint8 (n, 32, 32) and labels long (n,) of a part, in the order of the file.

    28x28 is padded with background, or enlarged by preset "authors".

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
    """Raise a ConfigError for an unknown preset."""
    if preset not in get_args(Preset):
        raise ConfigError(f"There is no data.preset={preset}; {choices(preset, get_args(Preset))}.")


def _file(folder: Path | Traversable, name: str) -> Path | Traversable | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _read(folder: Path | Traversable, name: str) -> Tensor:
    file = _file(folder, name)
    if file is None:
        raise DataNotFoundError(f"There is neither {name} nor {name}.gz in {folder}.")
    return read_idx(file)


def _damaged(path: Path | Traversable, what: str) -> DataNotFoundError:
    return DataNotFoundError(f"The file {path} {what}. Delete it and fetch it again.")


class MNIST(DataModule):
    """Handwritten digits on black.

    * 60,000 training images, of which the last ``val_fraction`` validate, and 10,000 test images
    * 28x28 grey, padded with black to 32x32; preset "authors" enlarges it bilinearly instead, as the paper's code does
    * concept: digit (10 classes)

    Reference:
        Gradient-based learning applied to document recognition (LeCun, Bottou, Bengio & Haffner, 1998).

    The files are in root/MNIST/raw/, or are downloaded. Three channels repeat the grey level for networks that read
    RGB.
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
        self, root: str | Path, *, channels: int = 1, preset: Preset = "default", download: bool = False, **loading: Any
    ) -> None:
        if channels not in (1, 3):
            raise ConfigError(f"channels={channels}: MNIST is grey; allowed are 1, or 3 to repeat it.")
        check_preset(preset)
        super().__init__(**loading)
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


class FashionMNIST(MNIST):
    """Pieces of clothing on black, of MNIST's size, number and format, in root/FashionMNIST/raw/; see ``MNIST``.

    * concept: garment (10 classes)

    Reference:
        Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms (Xiao, Rasul & Vollgraf,
        2017).
    """

    title: ClassVar[str] = "Fashion-MNIST: 70,000 pieces of clothing, 28x28 grey"
    license: ClassVar[str] = "MIT"
    terms: ClassVar[str] = "Use, change and share with the licence's notice."
    dataset: ClassVar[str] = "FashionMNIST"
    concepts: tuple[str, ...] = ("garment",)
    kinds: Mapping[str, str] = {"garment": "class"}
    traits: Mapping[str, Trait] = {}
    # fmt: off
    classes: Mapping[str, Sequence[str]] = {
        "garment": (
            "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
        )
    }
    # fmt: on
