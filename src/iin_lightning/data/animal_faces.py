"""AnimalFaces: heads of carnivores cut out of ImageNet."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from iin_lightning.data.downloads import first_file, found_in
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.image_folder import class_images, numbered
from iin_lightning.data.splits import SPLITS, Records, check_fraction, relative_names, split_within
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

Partition = Literal["shared", "official"]
PARTITIONS: tuple[Partition, ...] = ("shared", "official")
FOLDERS = ("animal_faces", "datasets/animals", "animals", "")
SYNSET = re.compile(r"n\d{8}")
CROP = re.compile(r"(.*)\.JPEG_-?\d+_-?\d+_\d+_\d+\.jpg")
CURE = (
    "They are cut out of ImageNet, which is had from image-net.org under its terms: python -m iin_lightning.convert "
    "kind=animal_faces source=<ImageNet> out=<folder>, then data.root=<folder>."
)


class AnimalFaces(FileModule):
    """Heads of carnivores, as FUNIT cut them out of ImageNet.

    * 117,484 images of 149 classes, of many sizes; the largest centred square of each is kept
    * concept: animal, whose classes have ImageNet's names, such as golden retriever; a synset that is none of the 149
      is its own name
    * partition "shared": every class is on all sides, its photos shared out by a hash of their names; there are classes
      to read
    * partition "official": FUNIT's lists, 119 classes for training and 30 others for test; validation is taken from
      the training classes, and an animal has no name, only others of its kind

    Reference:
        Few-shot unsupervised image-to-image translation (Liu, Huang, Mallya, Karras, Aila, Lehtinen & Kautz, 2019).

    ``root``, or animal_faces/, datasets/animals/ or animals/ in it, has <synset>/<file>.JPEG_<x1>_<y1>_<x2>_<y2>.jpg;
    the lists animals_list_train.txt and animals_list_test.txt lie in it or beside it.
    """

    title: ClassVar[str] = "AnimalFaces: 117,484 heads of 149 kinds of carnivores"
    license: ClassVar[str] = "ImageNet's terms of access (images), CC BY-NC-SA 4.0 (FUNIT's boxes)"
    terms: ClassVar[str] = "Non-commercial research and education only."
    concepts: tuple[str, ...] = ("animal",)

    def __init__(
        self,
        root: str | Path,
        *,
        partition: Partition = "shared",
        test_fraction: float = 0.1,
        **options: Any,
    ) -> None:
        if partition not in PARTITIONS:
            raise ConfigError(f"There is no partition {partition!r} of AnimalFaces; {choices(partition, PARTITIONS)}.")
        check_fraction("test_fraction", test_fraction)
        super().__init__(**options)
        self.root = Path(root).absolute()
        self.partition: Partition = partition
        self.test_fraction = test_fraction
        self.kinds: Mapping[str, str] = {"animal": "class" if partition == "shared" else "identity"}

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]  # read at first use
        """The animals by name, in the order of their synsets, if every split has them all."""
        if self.partition != "shared":
            return {}
        return {"animal": tuple(_names().get(synset, synset) for synset in self._images)}

    @cached_property
    def _folder(self) -> Path:
        for folder in (self.root / name for name in FOLDERS):
            if folder.is_dir() and any(SYNSET.fullmatch(entry.name) and entry.is_dir() for entry in folder.iterdir()):
                return folder
        raise DataNotFoundError(
            f"AnimalFaces' crops (<synset>/<file>.JPEG_<x1>_<y1>_<x2>_<y2>.jpg) were found in none of "
            f"{', '.join(str(self.root / name) for name in FOLDERS)}. {CURE} What lies there now: "
            f"{found_in(self.root)}."
        )

    @cached_property
    def _images(self) -> dict[str, list[str]]:
        found = {name: files for name, files in class_images(self._folder).items() if SYNSET.fullmatch(name)}
        # Whole pictures may lie beside the crops that were cut out of them.
        crops = {name: [file for file in files if CROP.fullmatch(file)] for name, files in found.items()}
        images = {name: files for name, files in crops.items() if files}
        if not images:
            raise DataNotFoundError(
                f"{self._folder} has ImageNet's whole pictures or none, and no crops of heads such as "
                f"n02086240_12630.JPEG_197_106_615_469.jpg. {CURE}"
            )
        return images

    @cached_property
    def _records(self) -> Records:
        files, labels = numbered(self._images, tuple(self._images))
        if self.partition == "shared":
            split = self._by_photo(files, labels[:, 0], self.test_fraction)
            return Records(files, labels, split).mixed()
        in_train, in_test = (self._listed(side, files) for side in ("train", "test"))
        split = torch.full((len(files),), -1)
        listed = [file for file, inside in zip(files, in_train.tolist()) if inside]
        split[in_train] = self._by_photo(listed, labels[in_train, 0], 0)
        split[in_test] = SPLITS.index("test")
        return Records(files, labels, split).mixed()

    def _by_photo(self, files: Sequence[str], classes: Tensor, test_fraction: float) -> Tensor:
        """The split of each crop: several heads in one photo stay on one side."""
        photos = [file.rpartition(".JPEG_")[0] for file in files]
        first: dict[str, int] = {}
        leader = [first.setdefault(photo, number) for number, photo in enumerate(photos)]
        leaders, of = torch.tensor(leader, dtype=torch.long).unique(return_inverse=True)
        names = relative_names(list(first), self._folder)
        return split_within(names, classes[leaders], self.val_fraction, test_fraction, self.split_seed)[of]

    def _listed(self, side: str, files: Sequence[str]) -> Tensor:
        """Whether each file is in FUNIT's list of a side: bool (n,)."""
        name = f"animals_list_{side}.txt"
        folders = (self._folder, self._folder.parent, self.root)
        file = first_file(folders, [name])
        if file is None:
            raise DataNotFoundError(
                f"partition=official needs {name}, which is in none of {', '.join(map(str, dict.fromkeys(folders)))}: "
                "FUNIT's repository has it in datasets/. partition=shared needs no list."
            )
        listed = set(file.read_text(encoding="utf-8").split())
        return torch.tensor(["/".join(path.rsplit("/", 2)[1:]) in listed for path in files])


@cache
def _names() -> dict[str, str]:
    """Synset -> the first of its names, which is no other animal's."""
    rows = (
        (resources.files("iin_lightning.data") / "assets" / "animal_names.txt").read_text(encoding="utf-8").splitlines()
    )
    return dict(row.split(" ", 1) for row in rows)
