"""One thread that computes for all users of the page."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

from iin_lightning.errors import StoppedByUser

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# A server answers in dozens of threads. If each computed, torch would start helpers for each of them, which would get
# in each other's way.
_computer = ThreadPoolExecutor(1, thread_name_prefix="computer")
_thread = threading.local()


def alone(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have all calls of a function, and of all others so marked, run one after the other in one thread.

    Within, no lock may be waited for: who holds it may be waiting for this thread.

    Example:
        >>> alone(lambda: threading.current_thread().name)().startswith("computer")
        True
    """

    def marked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        _thread.computes = True
        return function(*args, **kwargs)

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if getattr(_thread, "computes", False):  # called by another one: it would wait for itself
            return function(*args, **kwargs)
        try:
            answer = _computer.submit(marked, *args, **kwargs)
        except RuntimeError as error:  # it takes no more: the process ends while a user still asks
            raise StoppedByUser("The page was ended.") from error
        return answer.result()

    return call
