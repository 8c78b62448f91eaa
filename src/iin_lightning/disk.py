"""Disks: room on them, which is asked for before hours of work are lost, whole files, folders that are shared."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from iin_lightning.errors import ConfigError


def check_space(folder: Path, n_bytes: int, what: str, cure: str) -> None:
    """Raise a ConfigError unless a file of so many bytes can be written into a folder; ``cure`` avoids writing it."""
    check_writable(folder, what, cure)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise ConfigError(
            f"{what} take {in_units(n_bytes)}, of which {folder} has {in_units(free)} left: make room, {cure}."
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or leave what was there before."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def check_writable(folder: Path, what: str, cure: str) -> None:
    """Raise a ConfigError unless a folder, which need not be there yet, takes new files; ``what`` names them."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"{folder} cannot be written. {what} are kept there: {cure}.")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let no other process make the same file or folder meanwhile; the folder around it is made.

    Where nothing can be written nothing is made, so that no lock is needed to read what is there.
    """
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = Path(f"{path}.lock")
            held.enter_context(FileLock(lock))
            with suppress(OSError):  # it is somebody else's, or this system knows no such rights
                lock.chmod(0o666)  # for all who may write here, whatever rights they give to what they make
        except OSError:
            if os.access(path.parent, os.W_OK):
                raise
        yield


def in_units(n_bytes: int) -> str:
    """A size in the unit that fits.

    Example:
        >>> in_units(17), in_units(12_345), in_units(3_000_000_000)
        ('17 bytes', '12.3 kB', '3 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{n_bytes} bytes"
