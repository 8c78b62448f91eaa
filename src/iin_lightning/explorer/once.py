"""What is made for the first user of the page who asks, and kept for all."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Once(Generic[Key, Made]):
    """Values that are made once; who asks meanwhile waits for that value, and for no other one.

    What is marked by ``alone`` may not ask: it would wait for who waits for its thread.

    Args:
        make: key -> value. Where it fails it is tried anew for who asks next.

    Example:
        >>> made = Once(lambda name: [name])
        >>> made("digit"), made("digit") is made("digit"), made("digit") is made("color")
        (['digit'], True, False)
    """

    def __init__(self, make: Callable[[Key], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._promises: dict[Key, Future[Made]] = {}

    def __call__(self, key: Key) -> Made:
        """The value of a key."""
        mine: Future[Made] = Future()
        with self._lock:
            promise = self._promises.setdefault(key, mine)
        if promise is mine:
            try:
                mine.set_result(self._make(key))
            except BaseException as error:
                with self._lock:
                    del self._promises[key]
                mine.set_exception(error)
        return promise.result()
