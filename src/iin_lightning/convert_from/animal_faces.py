"""AnimalFaces out of ImageNet: cuts the faces that FUNIT's table lists, and names them as FUNIT does."""

import os
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from iin_lightning.data.downloads import first_file, found_in
from iin_lightning.distributed import usable_cores
from iin_lightning.errors import DataNotFoundError

COORDINATES = "animalface_coordinates.txt"
# ImageNet's training images as unpacked, as torchvision has them, and as Kaggle's archive does.
IMAGE_FOLDERS = ("", "train", "Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train")
# Names without a blank, a slash or a leading dot, so that no row of a table leads out of the two folders.
ROW = re.compile(r"(\w[\w.-]*)/(\w[\w.-]*)" + 4 * r"\s+(-?\d+)", re.ASCII)
QUALITY = 95  # the images were compressed before, and what is lost now is lost in training
CHUNK = 16  # crops that a process takes at once

Status = Literal["cut", "there", "missing", "broken"]


class Crop(NamedTuple):
    """A face in an image of a class folder; the box has its left, upper, right and lower border in pixels.

    Example:
        >>> Crop("n02086240", "n02086240_12630.JPEG", (197, 106, 615, 469)).name
        'n02086240_12630.JPEG_197_106_615_469.jpg'
    """

    synset: str
    file: str
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        """The file of the crop, as FUNIT's lists have it."""
        return "_".join([self.file, *map(str, self.box)]) + ".jpg"

    def __str__(self) -> str:
        return f"{self.synset}/{self.file} {' '.join(map(str, self.box))}"


class Outcome(NamedTuple):
    """What became of a crop: it was cut now, was there before, or its image is missing or broken, and why."""

    crop: Crop
    status: Status
    reason: str = ""


def read_coordinates(path: Path) -> list[Crop]:
    """Read rows ``synset/file.JPEG x1 y1 x2 y2``, each crop once.

    Raises:
        DataNotFoundError: the file cannot be read, a row is damaged or leads out of the folder, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataNotFoundError(f"The table of coordinates {path} cannot be read: {error}.") from error
    crops: dict[Crop, None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = ROW.fullmatch(line.strip())
        crop = row and Crop(row[1], row[2], (int(row[3]), int(row[4]), int(row[5]), int(row[6])))
        if crop is None or crop.box[0] >= crop.box[2] or crop.box[1] >= crop.box[3]:
            raise DataNotFoundError(
                f"Line {number} of {path} is {line.strip()[:80]!r}; expected is synset/file.JPEG x1 y1 x2 y2 with "
                "whole numbers x1 < x2 and y1 < y2, the corners of a box. Correct the line, or fetch the table again."
            )
        crops[crop] = None
    if not crops:
        raise DataNotFoundError(f"The table of coordinates {path} has no rows: fetch it again.")
    return list(crops)


def find_coordinates(folders: Sequence[Path]) -> Path:
    """FUNIT's table in the first of the folders that has it; DataNotFoundError if none has it."""
    table = first_file(folders, [COORDINATES])
    if table is None:
        raise DataNotFoundError(
            f"{COORDINATES} lies neither in {' nor in '.join(map(str, folders))}. It is part of FUNIT's repository, in "
            "datasets/: put it there, or say coordinates=<file>."
        )
    return table


def find_images(source: Path, crops: Sequence[Crop]) -> Path:
    """The folder below ``source`` that holds the class folders of the crops; DataNotFoundError if it has none."""
    synsets = sorted({crop.synset for crop in crops})
    for folder in (source / name for name in IMAGE_FOLDERS):
        if any((folder / synset).is_dir() for synset in synsets):
            return folder
    raise DataNotFoundError(
        f"{source} has none of the {len(synsets)} class folders {synsets[0]}, ... that the table names, nor have "
        f"{', '.join(IMAGE_FOLDERS[1:])} below it. ImageNet's training images (ILSVRC 2012) are asked for at "
        f"image-net.org; unpack the archive of each class into a folder of its name. Found instead: {found_in(source)}."
    )


def cut(crop: Crop, images: Path, out: Path) -> Outcome:
    """Cut a face out of its image, unless it is there; of its box counts what lies inside the image.

    ``images`` and ``out`` are folders of class folders. A crop appears in ``out`` complete or not at all.
    """
    target = out / crop.synset / crop.name
    if target.is_file():
        return Outcome(crop, "there")
    try:
        # Boxes were drawn in the pixels as they are stored, so the EXIF orientation plays no part.
        with Image.open(images / crop.synset / crop.file) as image:
            left, upper, right, lower = crop.box
            box = max(left, 0), max(upper, 0), min(right, image.width), min(lower, image.height)
            if box[0] >= box[2] or box[1] >= box[3]:
                return Outcome(crop, "broken", f"the box lies outside of the {image.width}x{image.height} image")
            face = image.convert("RGB").crop(box)
    except FileNotFoundError:
        return Outcome(crop, "missing")
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes lead PIL's decoders to nearly every exception that there is
        return Outcome(crop, "broken", f"{type(error).__name__}: {error}")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        face.save(unfinished, "JPEG", quality=QUALITY)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return Outcome(crop, "cut")


@contextmanager
def cut_all(crops: Sequence[Crop], images: Path, out: Path, workers: int | None = None) -> Iterator[Iterator[Outcome]]:
    """Cut many faces; what is there already is not cut again, so that a stopped call is continued by the next.

    The processes start as the block is entered, so that no thread that starts within it is there when they are forked,
    and end with it, whether all is cut or not. What became of each crop comes in their order.
    """
    # Ctrl-C is for the parent alone, which then lets its workers finish what they have begun.
    executor = ProcessPoolExecutor(
        workers or usable_cores(), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield executor.map(partial(cut, images=images, out=out), crops, chunksize=CHUNK)
    finally:
        executor.shutdown(cancel_futures=True)
