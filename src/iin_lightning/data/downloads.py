"""Data sets as they are published: what lies in a folder, what tables say of images, how torchvision fetches them."""

import tarfile
import zlib
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from iin_lightning.errors import DataNotFoundError, IINError

NAMES_SHOWN = 8
# What a bad network or a bad archive raises. URLError is an OSError, and torchvision raises RuntimeError.
FAILURES = (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error)


def found_in(folder: Path) -> str:
    """What lies in a folder, for the text of an error.

    Example:
        >>> found_in(Path("no/such/folder"))
        'no/such/folder does not exist'
    """
    if not folder.is_dir():
        return f"{folder} does not exist"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    if not names:
        return f"{folder} is empty"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{folder} has {', '.join(names[:NAMES_SHOWN])}{more}"


def first_file(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first of several files that exists; names go before folders, so that the first name is preferred."""
    folders = list(folders)
    return next((file for name in names for folder in folders if (file := folder / name).is_file()), None)


def read_text(path: Path, error: type[IINError] = DataNotFoundError, cure: str = "Fetch it again.") -> str:
    """The text of a file in UTF-8, without the mark that may stand before it; of another encoding ``error``."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = wrong.object.count(b"\n", 0, wrong.start) + 1
        raise error(f"{path} is damaged or no text in UTF-8: see line {line}. {cure}") from wrong


class Table(NamedTuple):
    """What a text file says of each image in whole numbers.

    Attributes:
        columns: names of the numbers, or nothing where the file does not say them.
        files: names of the n images.
        values: int32 (n, C).
    """

    columns: tuple[str, ...]
    files: tuple[str, ...]
    values: npt.NDArray[np.int32]


def read_table(path: Path) -> Table:
    """Read rows ``file number number ...``, separated by blanks or by commas; lines may end in CRLF.

    A line that counts the rows and a line that names the columns may stand above them.

    Raises:
        DataNotFoundError: a row is damaged, or there is none, or the file is no text in UTF-8.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if lines and lines[0].strip().isdecimal():
        lines = lines[1:]
    separator = "," if lines and "," in lines[-1] else None
    header: list[str] = []
    if lines and not _is_row(lines[0].split(separator)):
        header, lines = lines[0].split(separator), lines[1:]
    if not lines:
        raise DataNotFoundError(f"{path} has no rows: fetch it again.")
    n_columns = len(lines[0].split(separator)) - 1
    try:
        values = np.loadtxt(
            lines, np.int32, comments=None, delimiter=separator, usecols=range(1, n_columns + 1), ndmin=2
        )
    except ValueError as error:
        wrong = next((line for line in lines if not _is_row(line.split(separator), n_columns)), lines[-1])
        raise DataNotFoundError(
            f"{path} is damaged: expected are rows of a file name and {n_columns} whole numbers, but one is "
            f"{wrong[:80]!r}. Fetch it again."
        ) from error
    files = tuple(line.split(separator, 1)[0].strip() for line in lines)
    return Table(tuple(name.strip() for name in header[-n_columns:]), files, values)


def _is_row(cells: list[str], n_columns: int | None = None) -> bool:
    numbers = [cell.strip().removeprefix("-").isdecimal() for cell in cells[1:]]
    return bool(numbers) and all(numbers) and n_columns in (None, len(numbers))


def find_or_download(
    dataset: str, root: Path, find: Callable[[], Path | None], download: bool, missing: Callable[[str], str]
) -> Path:
    """Where ``find`` finds a data set, after torchvision has fetched it into ``root`` if that is allowed and needed.

    A lock in ``root`` makes parallel jobs wait for the one that downloads. ``missing`` makes the text of the error out
    of the reason why there was no download.

    Raises:
        DataNotFoundError: it was not found, and not downloaded either.

    Example:
        >>> find_or_download("MNIST", Path("data"), lambda: Path("data/MNIST/raw"), True, str).as_posix()
        'data/MNIST/raw'
    """
    if (place := find()) is not None:
        return place
    reason, cause = "Downloading was not asked for (download=false).", None
    if download:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f"{dataset}.lock"):
                if find() is None:  # else the job that had the lock has fetched it
                    _fetch(dataset, root)
        except FAILURES as error:
            reason, cause = f"Downloading failed ({error}).", error
        else:
            if (place := find()) is not None:
                return place
            reason = "It was downloaded, but other files came than are read here."
    raise DataNotFoundError(missing(reason)) from cause


def _fetch(dataset: str, root: Path) -> None:
    """Download beside the target and move the files there, so that no job ever finds half of one."""
    from torchvision import datasets  # noqa: PLC0415  slow to import, seldom needed
    from torchvision.datasets.utils import download_url  # noqa: PLC0415

    source = getattr(datasets, dataset)
    with TemporaryDirectory(prefix=f".{dataset}-", dir=root) as folder:
        if (digest := getattr(source, "tgz_md5", None)) is not None:
            # We read archives as they are. torchvision would unpack this one wherever its members say.
            download_url(source.url, folder, source.filename, digest)
        else:
            source(Path(folder), download=True)
        for file in [path for path in Path(folder).rglob("*") if path.is_file()]:
            target = root / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
