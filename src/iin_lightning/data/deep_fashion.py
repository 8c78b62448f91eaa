"""DeepFashion, In-shop Clothes Retrieval: people in clothes, each look photographed in several poses."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch

from iin_lightning.data.downloads import first_file, found_in, read_text
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.splits import Records, split_groups
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

Resolution = Literal["auto", "img", "img_highres"]
RESOLUTIONS: tuple[Resolution, ...] = ("auto", "img", "img_highres")
ROOTS = ("deep_fashion", "DeepFashion", "In-shop Clothes Retrieval Benchmark", "")
TABLES = ("Eval/list_eval_partition.txt", "list_eval_partition.txt", "Eval/train_test_partition.txt")
STATUS = ("train", "query", "gallery")


class Views(NamedTuple):
    """The images whose appearance has at least two views; the numbers of single views and of absent images."""

    records: Records
    single: int
    absent: int


class DeepFashion(FileModule):
    """People in clothes, as in the In-shop Clothes Retrieval benchmark.

    * 52,712 images of 7,982 items; 25,882 train, of whose items about ``val_fraction`` validate, and 26,830 test (the
      benchmark's query and gallery); no item is on two sides
    * concept: appearance; two images share it if gender, category, item and look (the first number of the file's
      name, a colour of the item) are the same, and so differ in pose
    * an image without a second view of its appearance makes no pair and is left out
    * whatever is not square is padded with white, so that no head is cut off

    Reference:
        DeepFashion: powering robust clothes recognition and retrieval with rich annotations (Liu, Luo, Qiu, Wang &
        Tang, 2016).

    ``root``, or its deep_fashion/, has Img/ and Eval/; img/ or img_highres/ and the partition may lie in it directly.
    Images are "img" (256x256), "img_highres" (as photographed), or "auto" for those that are there, img before
    img_highres.
    """

    title: ClassVar[str] = "DeepFashion In-shop: 52,712 images of 7,982 pieces of clothing, worn in several poses"
    license: ClassVar[str] = "DeepFashion agreement"
    terms: ClassVar[str] = "Non-commercial research only; no part of the images may be passed on or published."
    concepts: tuple[str, ...] = ("appearance",)
    kinds: Mapping[str, str] = {"appearance": "identity"}
    classes: Mapping[str, Sequence[str]] = {}
    group: str | None = "appearance"

    def __init__(self, root: str | Path, *, resolution: Resolution = "auto", **options: Any) -> None:
        if resolution not in RESOLUTIONS:
            raise ConfigError(f"There is no resolution {resolution!r}; {choices(resolution, RESOLUTIONS)}.")
        super().__init__(**{"pad": True, **options})
        self.root = Path(root).absolute()
        self.resolution: Resolution = resolution

    @property
    def _records(self) -> Records:
        return self._views.records

    def notes(self) -> list[str]:
        """What was left out, one sentence each."""
        views = self._views
        said = [f"{views.single:,} images are the only view of their appearance and are left out."]
        if views.absent:
            said.append(f"{views.absent:,} images are listed and not there.")
        return said

    @cached_property
    def _views(self) -> Views:
        table = self._table()
        rows = _read_partition(table)
        files, looks, items, test, absent = [], [], [], [], 0
        folder, there = self._images(table)
        for name, item, status in rows:
            inside = name.partition("/")[2] if name.startswith("img") else name
            if inside not in there:
                absent += 1
                continue
            files.append(f"{folder}/{inside}")
            looks.append(f"{os.path.dirname(inside)}/{os.path.basename(inside).split('_')[0]}")
            items.append(item)
            test.append(status != "train")
        if not files:
            raise DataNotFoundError(f"None of the {len(rows)} images that {table} names is in {folder}.")
        n_views = Counter(looks)
        kept = torch.tensor([n_views[look] > 1 for look in looks])
        appearance = torch.from_numpy(np.unique(looks, return_inverse=True)[1])
        is_test = torch.tensor(test)
        split = torch.where(is_test, 2, 0)
        train_items = [item for item, held_out in zip(items, test) if not held_out]
        split[~is_test] = split_groups(train_items, self.val_fraction, 0, self.split_seed)
        kept_files = [file for file, keep in zip(files, kept.tolist()) if keep]
        records = Records(kept_files, appearance[kept, None], split[kept]).mixed()
        return Views(records, int((~kept).sum()), absent)

    def _table(self) -> Path:
        file = first_file([self.root / name for name in ROOTS], TABLES)
        if file is None:
            raise self._not_found("the partition (Eval/list_eval_partition.txt) is")
        return file

    def _images(self, table: Path) -> tuple[Path, set[str]]:
        """The folder of the images, and all files below it."""
        base = table.parent.parent if table.parent.name == "Eval" else table.parent
        wanted = RESOLUTIONS[1:] if self.resolution == "auto" else (self.resolution,)
        for name in wanted:
            for folder in (base / "Img" / name, base / name):
                there = {file.relative_to(folder).as_posix() for file in folder.glob("*/*/*/*.jpg")}
                if there:
                    return folder, there
        archives = [file for name in wanted if (file := first_file([base / "Img", base], [f"{name}.zip"]))]
        raise self._not_found(f"the images (Img/{' or Img/'.join(wanted)}) are", archives)

    def _not_found(self, what: str, archives: Sequence[Path] = ()) -> DataNotFoundError:
        folder = next((self.root / name for name in ROOTS if (self.root / name).is_dir()), self.root)
        unpack = f"Unpack {', '.join(map(str, archives))} where it lies. " if archives else ""
        return DataNotFoundError(
            f"Of DeepFashion's In-shop Clothes Retrieval benchmark, {what} not below {folder}. {unpack}"
            "The files are asked for at mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html: Img/img.zip (or "
            "img_highres.zip, whose password the authors mail) and Eval/list_eval_partition.txt; nothing else is read. "
            f"What lies there now: {found_in(folder)}."
        )


def _read_partition(path: Path) -> list[list[str]]:
    """Rows (image, item, status); a line that counts them and one that names the columns may stand above."""
    lines = read_text(path).splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells or (len(cells) == 1 and cells[0].isdecimal()) or cells[0] == "image_name":
            continue
        if len(cells) != 3 or cells[2] not in STATUS or "/" not in cells[0]:
            raise DataNotFoundError(
                f"{path}, line {number}, is {line.strip()[:80]!r}; expected are an image, an item and one of "
                f"{', '.join(STATUS)}, as in the In-shop Clothes Retrieval benchmark. Other benchmarks of DeepFashion "
                "say no item, and cannot make pairs of the same appearance."
            )
        rows.append(cells)
    return rows
