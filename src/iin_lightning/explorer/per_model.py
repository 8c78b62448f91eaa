"""What is made once for each model of the page, and kept as long as the model is."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from iin_lightning.explorer.explored import Explored

Made = TypeVar("Made")


def per_model(function: Callable[[Explored], Made]) -> Callable[[Explored], Made]:
    """A function of a model, whose value is remembered; a model that the page forgets is not kept by it.

    Example:
        >>> class Model: ...
        >>> named, model = per_model(lambda model: [model]), Model()
        >>> named(model) is named(model), named(model) is named(Model())
        (True, False)
    """
    kept: WeakKeyDictionary[Explored, Made] = WeakKeyDictionary()

    @wraps(function)
    def call(explored: Explored) -> Made:
        if explored not in kept:
            kept[explored] = function(explored)
        return kept[explored]

    return call
