"""CelebA: faces and 40 attributes that each has or has not."""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from iin_lightning.data.downloads import Table, first_file, found_in, read_table
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.splits import SPLITS, Records
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

log = logging.getLogger(__name__)

Preset = Literal["default", "authors"]
# The authors resize with OpenCV's linear interpolation, which lets every other pixel of the face alias.
PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "default": {"size": 64, "crop": 160, "antialias": True},
    "authors": {"size": 64, "crop": 160, "antialias": False},
}
IDENTITY = "identity"
# fmt: off
ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)
# fmt: on
IMAGES = "img_align_celeba"
# As torchvision and most copies have it, as the official drive has it, and as Kaggle unpacks.
IMAGE_FOLDERS = (f"{IMAGES}/{IMAGES}", IMAGES, f"Img/{IMAGES}/{IMAGES}", f"Img/{IMAGES}")
TABLE_FOLDERS = ("", "Anno", "Eval")


class Faces(NamedTuple):
    """What the tables say of the n images that are there: attributes bool (n, 40), split long (n,)."""

    folder: Path
    names: list[str]
    columns: tuple[str, ...]
    attributes: Tensor
    split: Tensor


class CelebA(FileModule):
    """Aligned faces of celebrities.

    * 202,599 images of 10,177 people, 178x218; the official partition: 162,770 train, 19,867 val, 19,962 test, and no
      person on two sides
    * a centred square of 160 is resized to 64
    * concepts: those of the 40 attributes that are asked for (2 classes each), and identity
    * read are the images, ``list_attr_celeba`` and ``list_eval_partition``, as .txt or as Kaggle's .csv; images that
      are listed but absent are left out

    Reference:
        Deep learning face attributes in the wild (Liu, Luo, Wang & Tang, 2015).

    Below ``root``, or its celeba/, lie img_align_celeba/ and the tables; the official folders Img/, Anno/ and Eval/ may
    be in between. "identity" is a concept, too, where identity_CelebA.txt is there. Preset "default" is antialiased,
    "authors" is not; size and crop go before it.
    """

    title: ClassVar[str] = "CelebA: 202,599 aligned faces of celebrities with 40 attributes"
    license: ClassVar[str] = "CelebA agreement"
    terms: ClassVar[str] = "Non-commercial research only; no part of the images may be passed on or published."

    def __init__(
        self,
        root: str | Path,
        *,
        attributes: Sequence[str] = ("Smiling", "Male", "Eyeglasses"),
        preset: Preset = "default",
        size: int | Sequence[int] | None = None,
        crop: int | None = None,
        **options: Any,
    ) -> None:
        if preset not in PRESETS:
            raise ConfigError(f"There is no preset {preset!r} of CelebA; {choices(preset, PRESETS)}.")
        for name in attributes:
            if name not in (*ATTRIBUTES, IDENTITY):
                raise ConfigError(f"CelebA has no attribute {name!r}; {choices(name, (*ATTRIBUTES, IDENTITY))}.")
        if len(set(attributes)) < len(attributes):
            raise ConfigError(f"attributes={list(attributes)} name one twice: each is a concept of its own.")
        asked = {key: value for key, value in (("size", size), ("crop", crop)) if value is not None}
        super().__init__(**{**PRESETS[preset], **asked, **options})
        self.root = Path(root).absolute()
        self.concepts = tuple(attributes)
        self.group = IDENTITY if IDENTITY in attributes else None
        self.kinds = {name: IDENTITY if name == IDENTITY else "class" for name in attributes}
        self.classes = {
            name: (f"not {name.replace('_', ' ')}", name.replace("_", " ")) for name in attributes if name != IDENTITY
        }

    def cure(self, concept: str) -> str:
        """See ``DataModule``."""
        more = "" if self.limit is None else f", or raise data.limit ({self.limit})"
        return f"Name other attributes (data.attributes){more}."

    def frequencies(self) -> dict[str, float]:
        """Each of the 40 attributes, and the share of training images that have it."""
        faces = self._faces
        shares = faces.attributes[faces.split == SPLITS.index("train")].float().mean(0)
        return dict(zip(faces.columns, shares.tolist()))

    @cached_property
    def _records(self) -> Records:
        faces = self._faces
        labels = torch.empty(len(faces.names), len(self.concepts), dtype=torch.long)
        for column, name in enumerate(self.concepts):
            if name == IDENTITY:
                labels[:, column] = _aligned(self._table("identity_CelebA", "people"), faces.names)[:, 0]
            elif name in faces.columns:
                labels[:, column] = faces.attributes[:, faces.columns.index(name)]
            else:
                raise DataNotFoundError(
                    f"The table list_attr_celeba below {self.root} has no column {name!r}, but "
                    f"{', '.join(faces.columns) or 'no names'}. Fetch it again."
                )
        return Records([f"{faces.folder}/{name}" for name in faces.names], labels, faces.split)

    @cached_property
    def _faces(self) -> Faces:
        folder = self._image_folder()
        attributes = self._table("list_attr_celeba", "attributes")
        partition = self._table("list_eval_partition", "official splits")
        there = set(os.listdir(folder)) & set(partition.files)
        rows = [row for row, name in enumerate(attributes.files) if name in there]
        if not rows:
            raise DataNotFoundError(
                f"None of the {len(attributes.files)} images that list_attr_celeba names, such as "
                f"{attributes.files[0]}, is both in list_eval_partition and in {folder}; {found_in(folder)}."
            )
        n_absent = len(attributes.files) - len(rows)
        if n_absent:
            log.warning("%d of CelebA's %d images are not in %s.", n_absent, len(attributes.files), folder)
        names = [attributes.files[row] for row in rows]
        split = _aligned(partition, names)[:, 0]
        if split.min() < 0 or split.max() >= len(SPLITS):
            raise DataNotFoundError(
                f"list_eval_partition below {self.root} has numbers from {split.min()} to {split.max()}; allowed are 0 "
                "(train), 1 (val) and 2 (test). Fetch it again."
            )
        return Faces(folder, names, attributes.columns, torch.from_numpy(attributes.values[rows] > 0), split)

    def _folders(self) -> list[Path]:
        return [self.root / "celeba", self.root]

    def _image_folder(self) -> Path:
        for folder in (base / name for base in self._folders() for name in IMAGE_FOLDERS):
            if folder.is_dir() and any(name.endswith(".jpg") for name in os.listdir(folder)):
                return folder
        archive = first_file(self._folders(), [f"{IMAGES}.zip", f"Img/{IMAGES}.zip"])
        cure = f"Unpack {archive} where it lies." if archive else "Put the images into one of these folders."
        raise self._not_found(f"images ({IMAGES}/000001.jpg, ...)", cure)

    def _table(self, name: str, what: str) -> Table:
        names = [f"{folder}/{name}{suffix}".lstrip("/") for suffix in (".txt", ".csv") for folder in TABLE_FOLDERS]
        file = first_file(self._folders(), names)
        if file is None:
            raise self._not_found(f"{what} ({name}.txt or .csv)", "Put the file beside the images' folder.")
        return read_table(file)

    def _not_found(self, what: str, cure: str) -> DataNotFoundError:
        celeba, root = self._folders()
        return DataNotFoundError(
            f"CelebA's {what} were found neither in {celeba} nor in {root}. {cure} The files are asked for at "
            f"mmlab.ie.cuhk.edu.hk/projects/CelebA.html: Img/{IMAGES}.zip, Anno/list_attr_celeba.txt and "
            f"Eval/list_eval_partition.txt. What lies there now: {found_in(celeba if celeba.is_dir() else root)}."
        )


def _aligned(table: Table, names: Sequence[str]) -> Tensor:
    """The rows long (n, C) that a table has for files."""
    values = torch.from_numpy(table.values).long()
    if list(table.files) == names:
        return values
    row = {name: number for number, name in enumerate(table.files)}
    absent = next((name for name in names if name not in row), None)
    if absent is not None:
        raise DataNotFoundError(f"{absent} is in one of CelebA's tables and not in another: fetch both again.")
    return values[[row[name] for name in names]]
