"""Where images are kept that are expensive to make, and by how many processes they are made."""

from pathlib import Path
from typing import Literal

from iin_lightning.data.cores import usable_cores
from iin_lightning.errors import ConfigError, choices

Cache = Literal["none", "ram", "disk"]
CACHES: tuple[Cache, ...] = ("none", "ram", "disk")
MOST_WORKERS = 8  # more make images faster than any of our networks trains


def cache_folder(cache: Cache, cache_dir: str | Path | None, below: str, what: str) -> Path | None:
    """The folder of a cache on disk; None for another cache.

    Args:
        cache: "none", "ram" or "disk".
        cache_dir: of the user.
        below: folder in it.
        what: is kept, in the plural, for the text of an error.

    Raises:
        ConfigError: there is no such cache, or "disk" has no folder.
    """
    if cache not in CACHES:
        raise ConfigError(f"There is no cache {cache!r}; {choices(cache, CACHES)}.")
    if cache != "disk":
        return None
    if cache_dir is None:
        raise ConfigError(
            f"cache=disk keeps {what} in a folder, but cache_dir is not set: set data.cache_dir, or data.cache to ram "
            "or none."
        )
    return Path(cache_dir) / below


def processes(cache: Cache, num_workers: int | None) -> tuple[int, int]:
    """How many processes make the images, and how many load batches.

    Args:
        cache: if it is "none", images are made as they are loaded.
        num_workers: of both; None: one a core, up to 8, where images are made, and none where they come from a cache.

    Example:
        >>> processes("disk", None)[1], processes("disk", 3)
        (0, (3, 3))
    """
    makers = min(MOST_WORKERS, usable_cores()) if num_workers is None else num_workers
    return makers, makers if cache == "none" or num_workers is not None else 0
