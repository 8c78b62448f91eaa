"""Data sets that torchvision fetches where they are absent, once for all jobs that start together."""

import tarfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from iin_lightning.errors import DataNotFoundError

# What a bad network or a bad archive raises. URLError is an OSError, and torchvision raises RuntimeError.
FAILURES = (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error)


def find_or_download(
    dataset: str, root: Path, find: Callable[[], Path | None], download: bool, missing: Callable[[str], str]
) -> Path:
    """Where a data set lies, after a download if it is allowed and needed.

    A lock in ``root`` makes parallel jobs wait for the one that downloads.

    Args:
        dataset: its class in ``torchvision.datasets``.
        root: where torchvision puts it.
        find: the place if all of it is there.
        download: let torchvision fetch it.
        missing: the text of the error, made of the reason why there was no download.

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
