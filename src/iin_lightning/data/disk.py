"""Disks: room on them, which is asked for before hours of work are spent on what does not fit, and whole files."""

import os
import shutil
from pathlib import Path

from iin_lightning.errors import ConfigError


def check_space(folder: Path, n_bytes: int, what: str, cure: str) -> None:
    """See that a file fits.

    Args:
        folder: where it will be written.
        n_bytes: its size.
        what: names it, in the plural.
        cure: what to do instead of making room.

    Raises:
        ConfigError: there is not enough space.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise ConfigError(
            f"{what} take {n_bytes / 1e9:.1f} GB, of which {folder} has {free / 1e9:.1f} GB left: make room, {cure}."
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or leave what was there before."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
