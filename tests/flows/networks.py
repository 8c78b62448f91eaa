"""The networks of a coupling, as its constructor takes them."""

from functools import partial

from iin_lightning.flows import Conditioner
from iin_lightning.flows.coupling import Networks


def mlp(hidden: int, depth: int) -> Networks:
    """The paper's."""
    return partial(Conditioner, hidden=hidden, depth=depth)
