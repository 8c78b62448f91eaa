"""The sentence for a user within an error that Hydra has wrapped, or that the system gives."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.errors import IINError, ResourceError

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def sentence(error: BaseException) -> IINError | None:
    """What a user can cure; what a constructor says of its arguments reaches us through Hydra's instantiate.

    Args:
        error: perhaps caused by such an error.

    Example:
        >>> sentence(IINError("Only positive numbers are allowed."))
        IINError('Only positive numbers are allowed.')
    """
    cause: BaseException | None = error
    while isinstance(cause, HydraException | OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__  # a resolver's has no cause
    return cause if isinstance(cause, IINError) else None


def refused(error: BaseException, config: Mapping[str, Any]) -> ResourceError | None:
    """What to do about a file that may not be read or written; None for any other error.

    Args:
        error: perhaps caused by one of the system.
        config: whose ``paths`` name the folders that can be chosen.

    Example:
        >>> error = PermissionError(errno.EACCES, "Permission denied", "cache/latents")
        >>> str(refused(error, {"paths": {"cache": "cache"}}))
        'cache/latents cannot be read or written (Permission denied): name another folder, paths.cache=<folder>.'
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    if cause is None or cause.errno not in REFUSED or cause.filename is None:
        return None
    file = Path(cause.filename)
    folders = {key: Path(folder).resolve() for key, folder in (config.get("paths") or {}).items()}
    key = next((f"paths.{key}" for key, folder in folders.items() if file.resolve().is_relative_to(folder)), "")
    if "out" in config and key in ("", "paths.outputs"):
        key = "out"
    cure = f"name another folder, {key}=<folder>" if key else "change its permissions, or name another one"
    return ResourceError(f"{file} cannot be read or written ({cause.strerror}): {cure}.")
