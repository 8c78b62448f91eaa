"""How far what takes long is: a bar on a terminal, a line a minute elsewhere, both on stderr."""

import sys
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from time import monotonic
from typing import Any, ClassVar, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TimeElapsedColumn
from rich.text import Text

T = TypeVar("T")

EVERY = 60.0  # seconds between two lines, where there is no terminal


class Bar(Progress):
    """What is done, how much of it, how fast, for how long, and how long it will take; it vanishes in the end.

    On stderr, so that tables on stdout can be sent elsewhere. Within another bar it is not shown.

    Args:
        quiet: show nothing, as in processes beside the first.
    """

    _shown: "ClassVar[Bar | None]" = None

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), _Left())
        super().__init__(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._speaks = not quiet and not console.is_terminal
        self._last = monotonic()

    def start(self) -> None:
        """Show it, if there is none."""
        if Bar._shown is None and not self.disable:
            Bar._shown = self
            super().start()

    def stop(self) -> None:
        """Let it vanish."""
        if Bar._shown is self:  # else rich would write an empty line
            super().stop()
            Bar._shown = None

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """See ``Progress``."""
        super().update(task_id, **fields)
        self._speak(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See ``Progress``."""
        super().advance(task_id, advance)
        self._speak(task_id)

    def _speak(self, task_id: TaskID) -> None:
        if self._speaks and monotonic() - self._last >= EVERY:
            task = self._tasks[task_id]
            say(task.description, int(task.completed), int(task.total or 0), task.elapsed or 0.0)
            self._last = monotonic()


def track(items: Iterable[T], what: str, total: int | None = None, *, quiet: bool = False) -> Iterator[T]:
    """The items, one after the other, while a bar shows how many are done.

    Args:
        items: any.
        what: is done with them.
        total: how many there are; by default their length.
        quiet: show nothing.

    Example:
        >>> list(track("ab", "Spelling"))
        ['a', 'b']
    """
    with Bar(quiet=quiet) as bar:
        task = bar.add_task(what, total=len(items) if total is None and isinstance(items, Sized) else total)
        for item in items:
            yield item
            bar.advance(task)


def say(what: str, done: int, total: int, seconds: float, more: str = "", first: int = 0) -> None:
    """A line on stderr of what is under way.

    Args:
        what: is done.
        done: so much of it, now.
        total: of so much; 0 if that is unknown.
        seconds: since it began.
        more: is said at the end.
        first: so much was done when it began.
    """
    rate = (done - first) / seconds if seconds > 0 else 0.0
    parts = [f"{what}: {done:,}/{total:,}" if total else f"{what}: {done:,}", rate_text(rate)]
    if rate and total:
        parts.append(f"{timedelta(seconds=round((total - done) / rate))} left")
    print(", ".join(filter(None, (*parts, more))), file=sys.stderr, flush=True)


def rate_text(rate: float) -> str:
    """How fast, in words that fit slow things, too.

    Example:
        >>> rate_text(1234.5), rate_text(3.21), rate_text(0.05), rate_text(0)
        ('1,234/s', '3.2/s', '20.0 s each', '')
    """
    if rate <= 0:
        return ""
    return f"{1 / rate:.1f} s each" if rate < 1 else f"{rate:.1f}/s" if rate < 100 else f"{rate:,.0f}/s"


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(rate_text(task.finished_speed or task.speed or 0.0))


class _Left(ProgressColumn):
    """How long it will take."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None else f"{timedelta(seconds=round(left))} left")
