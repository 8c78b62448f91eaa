"""The sentence for a user within an error that Hydra has wrapped."""

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.errors import IINError


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
        cause = cause.__cause__
    return cause if isinstance(cause, IINError) else None
