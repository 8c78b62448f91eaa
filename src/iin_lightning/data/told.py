"""How far what takes long is, told to whoever listens in this process, such as a page that watches a run."""

from collections.abc import Callable

Listener = Callable[[str, int, int, float | None], None]
"""Is told what is done, how much of it, of how much, and a loss where there is one."""

listeners: list[Listener] = []
"""Empty, unless somebody wants to know."""


def tell(what: str, done: int, total: int, loss: float | None = None) -> None:
    """Tell all listeners.

    Args:
        what: is done, "Encoding train images".
        done: so many of it.
        total: of so many.
        loss: of training.

    Example:
        >>> heard = []
        >>> listeners.append(lambda *said: heard.append(said))
        >>> tell("Training", 3, 10)
        >>> listeners.clear()
        >>> heard
        [('Training', 3, 10, None)]
    """
    for listener in listeners:
        listener(what, done, total, loss)
