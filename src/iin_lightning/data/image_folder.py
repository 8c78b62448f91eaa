"""A user's own folder of images, a sub-folder for each class."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.data.downloads import found_in
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.splits import SPLITS, Records, check_fraction, relative_names, split_within
from iin_lightning.errors import ConfigError, DataNotFoundError, listed

# In upper or lower case.
SPLIT_FOLDERS: Mapping[Split, Sequence[str]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# Archives made on a Mac bring hidden files that end like images, and a folder of them; viewers keep small copies.
HIDDEN = (".", "__")
FLAT = ""  # the class of images that lie in no class folder
# What PIL reads by itself and people have; others are counted, and named where they are many.
# fmt: off
IMAGES = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pcx", ".pgm",
    ".png", ".pnm", ".ppm", ".psd", ".tga", ".tif", ".tiff", ".webp",
)
# fmt: on
MANY = 0.05  # of the images: so many other files are no longer a note


def class_images(folder: Path, unread: Counter[str] | None = None) -> dict[str, list[str]]:
    """Class -> the paths of its images, sorted, at any depth below the class's folder.

    Links are followed, but no folder is read twice; what begins with "." or "__" is not read. Without an image in any
    sub-folder, the images of the folder itself are of a class without a name. ``unread`` takes up how many other files
    lie there, by suffix.
    """
    unread = Counter() if unread is None else unread
    if not folder.is_dir():
        return {}
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(HIDDEN))
    images: dict[str, list[str]] = {name: [] for name in names}
    # Links come last, so that an image keeps the name that it has without them.
    places = sorted(((name, os.path.join(folder, name)) for name in names), key=lambda place: os.path.islink(place[1]))
    seen: set[str] = set()
    for name, place in places:  # which grows by the links that are met
        for parent, inside, files in os.walk(place):
            if (here := os.path.realpath(parent)) in seen:
                inside.clear()
                continue
            seen.add(here)
            inside[:] = sorted(child for child in inside if not child.startswith(HIDDEN))
            places += [(name, path) for child in inside if os.path.islink(path := os.path.join(parent, child))]
            images[name] += [os.path.join(parent, file) for file in _images_of(files, unread)]
    images = {name: sorted(images[name], key=os.path.split) for name in names if images[name]}
    files = [entry.name for entry in folder.iterdir() if entry.is_file()]
    loose = [os.path.join(folder, name) for name in _images_of(files, unread)]
    if images and loose:
        unread["images beside the class folders"] += len(loose)
    return images or ({FLAT: sorted(loose)} if loose else {})


def numbered(images: Mapping[str, Sequence[str]], names: Sequence[str]) -> tuple[list[str], Tensor]:
    """All images of classes, and the number long (n, 1) of the class of each."""
    files = [file for name in images for file in images[name]]
    number = {name: place for place, name in enumerate(names)}
    numbers, sizes = torch.tensor([(number[name], len(images[name])) for name in images]).reshape(-1, 2).T.long()
    return files, numbers.repeat_interleave(sizes)[:, None]


def _images_of(files: Sequence[str], unread: Counter[str]) -> list[str]:
    seen = [name for name in files if not name.startswith(HIDDEN)]
    images = [name for name in seen if name.lower().endswith(IMAGES)]
    unread.update(Path(name).suffix.lower() or "without a suffix" for name in set(seen).difference(images))
    return images


def _split_folders(folder: Path) -> dict[Split, Path]:
    """The folders whose names say a split."""
    there = sorted(entry for entry in folder.glob("*") if entry.is_dir())
    named = {split: [entry for entry in there if entry.name.casefold() in SPLIT_FOLDERS[split]] for split in SPLITS}
    return {split: entries[0] for split, entries in named.items() if entries}


class ImageFolder(FileModule):
    """Images of any size and format in folders.

    * splits: root/train, root/val and root/test where they exist (also training, valid, validation, dev and testing,
      in upper or lower case); what is absent is taken from the training images of each class by a hash of their paths
      below root, so that none changes sides as others are added or removed
    * concept: the class, which is the name of the image's sub-folder; images without sub-folders have no concept and
      make no pairs
    * classes are those of the training images; files and folders whose names begin with "." or "__" are not used; files
      of other kinds than ``IMAGES``, and images beside class folders, neither, but they are counted in ``notes``, or in
      ``warnings`` where they are many
    """

    title: ClassVar[str] = "A folder of images"
    license: ClassVar[str] = "that of the images"
    terms: ClassVar[str] = "Those of the images."

    def __init__(
        self,
        root: str | Path,
        *,
        concept: str = "class",
        test_fraction: float = 0.1,
        **options: Any,
    ) -> None:
        check_fraction("test_fraction", test_fraction)
        super().__init__(**options)
        self.root = Path(root).absolute()
        self.concept = concept
        self.test_fraction = test_fraction

    # What the folder says is read at first use, so that a configuration can be built without data; to mypy the
    # attributes of the base class are then read-only.
    @property
    def concepts(self) -> tuple[str, ...]:  # type: ignore[override]
        """The concept of the classes, if there are any."""
        return (self.concept,) if self._names != (FLAT,) else ()

    @property
    def kinds(self) -> dict[str, str]:  # type: ignore[override]
        """Classes have names."""
        return dict.fromkeys(self.concepts, "class")

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        """The names of the folders, in alphabetical order; of bytes that are no text, what can be shown."""
        shown = tuple(os.fsencode(name).decode(errors="replace") for name in self._names)
        return dict.fromkeys(self.concepts, shown)

    def notes(self) -> list[str]:
        """What is not read, where that is little."""
        return [] if self._leaves_much else self._left_out

    def warnings(self, concepts: Sequence[str] | None = None) -> list[str]:
        """See ``DataModule``; besides, what is not read, where that is much."""
        return [*super().warnings(concepts), *(self._left_out if self._leaves_much else [])]

    def cure(self, concept: str) -> str:
        """See ``DataModule``; most often root is the folder above the right one, or below it."""
        if len(self._names) > 1:
            return super().cure(concept)
        return (
            f"The classes are the sub-folders of {self._folders['train']}: let data.root name the folder that has "
            "several, or take no classes: model=unsup."
        )

    @cached_property
    def _found(self) -> tuple[dict[Split, dict[str, list[str]]], Counter[str]]:
        """The images, and how many other files are beside them."""
        named = _split_folders(self.root)
        inside = {folder.name for folder in named.values()}
        beside = [name for name in class_images(self.root) if name not in inside and name != FLAT]
        if named and ("train" not in named or beside):
            raise ConfigError(
                f"{self.root} has {', '.join(sorted(inside))}, which name splits, beside "
                f"{', '.join(beside[:5]) or 'no train'}: either train/<class>/ and others like it, or <class>/ alone. "
                "Rename a class of such a name, or move the classes into train/."
            )
        folders, unread = self._folders, Counter[str]()
        images = {split: class_images(folder, unread) for split, folder in folders.items()}
        if not images["train"]:
            put = f"Not read are {_kinds(unread)}: convert pictures to .jpg or .png, or put" if unread else "Put"
            raise DataNotFoundError(
                f"There are no images in {folders['train']}: {found_in(folders['train'])}. {put} images into "
                f"{self.root}/<class>/, into {self.root}/train/<class>/, or straight into {self.root} if they have no "
                "classes; or point data.root to the folder that has them."
            )
        return images, unread

    @property
    def _left_out(self) -> list[str]:
        unread = self._found[1]
        return [f"Not read in {self.root} are {_kinds(unread)}."] if unread else []

    @property
    def _leaves_much(self) -> bool:
        images, unread = self._found
        return unread.total() > MANY * sum(len(files) for classes in images.values() for files in classes.values())

    @property
    def _folders(self) -> dict[Split, Path]:
        return _split_folders(self.root) or {"train": self.root}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(self._found[0]["train"]))

    @cached_property
    def _records(self) -> Records:
        files: list[str] = []
        labels, splits = [], []
        images = self._found[0]
        for split, classes in images.items():
            if unknown := sorted(set(classes) - set(self._names)):
                raise ConfigError(
                    f"In {self.root}, the {split} images have the classes {', '.join(map(repr, unknown))}, which no "
                    f"training image has; allowed are: {', '.join(map(repr, self._names))}."
                )
            of_split, numbers = numbered(classes, self._names)
            files += of_split
            labels.append(numbers)
            splits.append(torch.full((len(of_split),), SPLITS.index(split)))
        val_fraction = 0 if "val" in images else self.val_fraction
        test_fraction = 0 if "test" in images else self.test_fraction
        names = relative_names(files[: len(splits[0])], self.root)  # of the training images, which are the first
        splits[0] = split_within(names, labels[0][:, 0], val_fraction, test_fraction, self.split_seed)
        return Records(files, torch.cat(labels)[:, : len(self.concepts)], torch.cat(splits)).mixed()


def _kinds(unread: Counter[str]) -> str:
    return listed([f"{count:,} {kind}" for kind, count in unread.most_common()])
