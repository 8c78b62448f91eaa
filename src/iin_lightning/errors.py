"""Named exceptions whose text says what came, what is allowed, and the cure.

A user meets these before any training starts. Each is also the built-in exception that fits it, so that
``except ValueError`` keeps working in a notebook.
"""

import signal
from collections.abc import Iterable
from difflib import get_close_matches

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""Ctrl-C, and what schedulers send before they end a job; SIGUSR1 is not known everywhere."""


class IINError(Exception):
    """Base of all errors that a user can cure; commands print the text alone, without a traceback."""

    exit_code = 2


class ConfigError(IINError, ValueError):
    """A configuration asks for what does not exist or does not fit together."""


class FactorError(IINError, ValueError):
    """Factor names or dimensions do not fit the latent or the data."""


class ShapeError(IINError, ValueError):
    """A tensor has another shape than the network was built for."""


class DataNotFoundError(IINError, FileNotFoundError):
    """A data set does not lie where it was looked for."""


class RangeError(IINError, ValueError):
    """What is given as images is no batch of floating-point numbers in [-1, 1]."""


class CheckpointError(IINError, ValueError):
    """A checkpoint or model folder does not belong to what it is loaded into."""


class NonFiniteError(IINError, ArithmeticError):
    """NaN or infinity came out of a network or went into it."""


class StoppedByUser(IINError):
    """Training ended at the end of a step because the user asked for it; a checkpoint was written."""

    exit_code = 130  # as a shell says of Ctrl-C


class Preempted(StoppedByUser):
    """Training ended at the end of a step because a signal wants the machine back; a checkpoint was written."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later

    def __init__(self, text: str, signal: int | None = None) -> None:
        super().__init__(text)
        self.signal = signal


class ResourceError(IINError, RuntimeError):
    """The machine lacks what the work needs: memory, room on a disk, a process that was ended."""


class MissingExtraError(IINError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f'{purpose} needs the package "{package}", which is not installed: pip install "iin-lightning[{extra}]"'
        )


def choices(came: str, allowed: Iterable[str]) -> str:
    """Return the end of a sentence on a name that is not allowed: the names that are, and the nearest of them, if any.

    Example:
        >>> choices("diigt", ["residual", "digit"])
        'allowed are: residual, digit (did you mean digit?)'
    """
    allowed = list(allowed)
    near = get_close_matches(came, allowed, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"allowed are: {', '.join(allowed)}{hint}"


def listed(names: list[str], most: int = 8) -> str:
    """Return names for a sentence, at most so many of them.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
