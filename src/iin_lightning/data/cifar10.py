"""CIFAR-10: small pictures of ten kinds of things."""

import pickle
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from iin_lightning.data.base import Source, Split
from iin_lightning.data.downloads import find_or_download, found_in
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.framing import Peek
from iin_lightning.data.image_folder import class_images, numbered
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.splits import SPLITS, Records, relative_names, split_within
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE_SIZE = 32
FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
SIDES = ("train", "test")
# What an array is made of in a pickle. Anything else could run any code, since a pickle is a program.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of arrays, lists, dictionaries and bytes, and refuses any other."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what an array needs, or raise an UnpicklingError."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR-10 needs")
        return super().find_class(module, name)


def read_batch(file: IO[bytes], name: str) -> tuple[Tensor, Tensor]:
    """The images uint8 (n, 3, 32, 32) and labels long (n,) of a pickled batch; DataNotFoundError if it is damaged."""
    try:
        content = ArrayUnpickler(file, encoding="bytes").load()
        # Python 2 wrote bytes where copies that were pickled again have text.
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        images = torch.from_numpy(np.asarray(fields["data"], np.uint8)).reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
        labels = torch.tensor(fields["labels"], dtype=torch.long)
    except Exception as error:  # damaged bytes lead the unpickler to nearly every exception that there is
        raise DataNotFoundError(
            f"{name} is no batch of CIFAR-10, or is damaged ({type(error).__name__}: {error}). Fetch it again."
        ) from error
    if len(labels) != len(images) or not 0 <= int(labels.min()) <= int(labels.max()) < len(CLASSES):
        raise DataNotFoundError(
            f"{name} has {len(images)} images and {len(labels)} labels from {labels.min()} to {labels.max()}; expected "
            "is one label a image, from 0 to 9. Fetch it again."
        )
    return images, labels


class CIFAR10(FileModule):
    """Small pictures of things and animals.

    * 50,000 training images, of which about ``val_fraction`` of each class validates, and 10,000 test images
    * 32x32 RGB
    * concept: object (10 classes)
    * read from cifar-10-batches-py/, cifar-10-python.tar.gz or cifar10/{train,test}/<class>/ in ``root``

    Reference:
        Learning multiple layers of features from tiny images (Krizhevsky, 2009).
    """

    title: ClassVar[str] = "CIFAR-10: 60,000 pictures of ten kinds of things, 32x32 RGB"
    license: ClassVar[str] = "none stated; pictures from the web, by way of Tiny Images"
    terms: ClassVar[str] = "Research; its page asks to cite the reference."
    concepts: tuple[str, ...] = ("object",)
    kinds: Mapping[str, str] = {"object": "class"}
    classes: Mapping[str, Sequence[str]] = {"object": CLASSES}

    def __init__(self, root: str | Path, *, download: bool = False, **options: Any) -> None:
        super().__init__(size=IMAGE_SIZE, **{"cache": "ram", **options})
        self.root = Path(root).absolute()
        self.download = download

    def prepare_data(self) -> None:
        """Download, if necessary and allowed."""
        self._find(self.download)

    def load(self, split: Split) -> Source:
        """Read a split: all of it from batches, or as the images of folders."""
        place = self._find(self.download)
        if not self._batched:
            return super().load(split)
        images, labels = self._batches(place, TEST if split == "test" else TRAIN)
        if split != "test":
            # An image of the batches has no name but its place, which is the same in all copies.
            part = self._held_out([str(number) for number in range(len(labels))], labels) == SPLITS.index(split)
            images, labels = images[part], labels[part]
        return ImageTensor(images, labels[:, None], self.concepts)

    def content(self, split: Split) -> tuple[str, Tensor]:
        """See ``DataModule``."""
        if not self._batched:
            return super().content(split)
        source = self.source(split)
        return source.content(), source.labels

    def labels(self, split: Split) -> Tensor:
        """The labels long (n, 1) of a split."""
        return self.source(split).labels if self._batched else super().labels(split)

    @cached_property
    def peeks(self) -> list[Peek]:
        """What a few of the files hold, if there are files."""
        return [] if self._batched else super().peeks

    @property
    def _batched(self) -> bool:
        place = self._find(self.download)
        return place.is_file() or _has_batches(place)

    def _held_out(self, names: Sequence[str], labels: Tensor) -> Tensor:
        return split_within(names, labels, self.val_fraction, 0, self.split_seed)

    @cached_property
    def _records(self) -> Records:
        folder = self._find(self.download)
        found = {}
        for side in SIDES:
            images = class_images(folder / side)
            for name in images:
                if name not in CLASSES:
                    raise ConfigError(f"{folder / side / name} is no class of CIFAR-10; {choices(name, CLASSES)}.")
            found[side] = numbered(images, CLASSES)
        train, test = found["train"], found["test"]
        held_out = torch.full((len(test[0]),), SPLITS.index("test"))
        return Records(
            [*train[0], *test[0]],
            torch.cat([train[1], test[1]]),
            torch.cat([self._held_out(relative_names(train[0], folder / "train"), train[1][:, 0]), held_out]),
        ).mixed()

    def _batches(self, place: Path, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        parts = _read_folder(place, names) if place.is_dir() else _read_archive(place, names)
        return torch.cat([parts[name][0] for name in names]), torch.cat([parts[name][1] for name in names])

    def _find(self, download: bool) -> Path:
        """The folder of the batches, their archive, or the folder that has train/ and test/."""
        return find_or_download("CIFAR10", self.root, self._place, download, self._missing)

    def _place(self) -> Path | None:
        places = (self.root / FOLDER, self.root / ARCHIVE, self.root / "cifar10")
        whole = (_has_batches(places[0]), places[1].is_file(), all((places[2] / side).is_dir() for side in SIDES))
        return next((place for place, is_there in zip(places, whole) if is_there), None)

    def _missing(self, reason: str) -> str:
        return (
            f"CIFAR-10 was not found in {self.root}. {reason} Put {FOLDER}/ with {', '.join((*TRAIN, *TEST))}, the "
            f"archive {ARCHIVE}, or cifar10/train/<class>/ and cifar10/test/<class>/ into this folder, or point "
            f"paths.data to the folder that has one of them. What lies there now: {found_in(self.root)}."
        )


def _has_batches(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (*TRAIN, *TEST))


def _read_folder(folder: Path, names: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    parts = {}
    for name in names:
        with (folder / name).open("rb") as file:
            parts[name] = read_batch(file, str(folder / name))
    return parts


def _read_archive(path: Path, names: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    parts = {}
    try:
        # In the order of the archive, since going back in a compressed one means to start again.
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                # A link is none of the official files, and may lead to nothing.
                if member.isreg() and name in names and (file := archive.extractfile(member)) is not None:
                    parts[name] = read_batch(file, f"{name} in {path}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataNotFoundError(f"{path} is damaged ({error}). Fetch it again.") from error
    absent = [name for name in names if name not in parts]
    if absent:
        raise DataNotFoundError(f"{path} has no {', '.join(absent)}. Fetch it again.")
    return parts
