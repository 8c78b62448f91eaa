"""Disks: room on them, which is asked for before hours of work are lost, whole files, folders that are shared."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from filelock import FileLock

from iin_lightning.errors import ConfigError, ResourceError


def check_space(folder: Path, n_bytes: int, what: str, cure: str) -> None:
    """See that a file can be written and fits.

    Args:
        folder: where it will be written.
        n_bytes: its size.
        what: names it, in the plural.
        cure: what to do instead of making room.

    Raises:
        ConfigError: there is not enough space, or the folder cannot be written.
    """
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
    """See that a folder takes new files.

    Args:
        folder: which need not be there yet.
        what: names the files, in the plural.
        cure: what to do about it.

    Raises:
        ConfigError: it does not.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"{folder} cannot be written. {what} are kept there: {cure}.")


class Mapped(NamedTuple):
    """A file that is mapped into memory; to read what another process has cut off would end this one without a word.

    Attributes:
        path: of it.
        n_bytes: that are mapped.
        inode: tells it from a file that has taken its place, which does not matter.
    """

    path: Path
    n_bytes: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """A file as long as it is now."""
        found = path.stat()
        return cls(path, found.st_size, found.st_ino)

    def check(self) -> None:
        """See that all of it is still there, or that it was deleted, which takes nothing away from who has it mapped.

        Raises:
            ResourceError: it is shorter.
        """
        try:
            found = self.path.stat()
        except OSError:
            return
        if found.st_ino == self.inode and found.st_size < self.n_bytes:
            raise ResourceError(
                f"{self.path} was cut off while it was read: it has {in_units(found.st_size)} instead of "
                f"{in_units(self.n_bytes)}. Start the same command again, which makes the file anew."
            )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let no other process make the same file or folder meanwhile; its own folder is made.

    Where nothing can be written nothing is made, so that no lock is needed to read what is there.

    Args:
        path: of what is made.
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
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= one:
            return f"{n_bytes / one:.1f}".removesuffix(".0") + f" {unit}"
    return f"{n_bytes} bytes"
