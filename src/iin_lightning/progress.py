"""Bars of what takes long: on a terminal, elsewhere a line a minute, both on stderr; and listeners in this process."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, RLock, Thread
from time import monotonic
from typing import Any, ClassVar, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

T = TypeVar("T")

EVERY = 60.0  # seconds between two lines, where there is no terminal

Listener = Callable[[str, int, int, float | None], None]
"""Gets what is done, how much of it, of how much (0: not known), and the loss, if any."""

listeners: list[Listener] = []
"""Such as the page that watches a run."""


def printable(text: str) -> str:
    r"""Return a text for a terminal, in which codes of a name from elsewhere neither colour nor overwrite anything.

    Example:
        >>> print(printable("digit \x1b[2J"))
        digit \x1b[2J
    """
    if text.replace("\n", " ").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class Screen(Console):
    r"""A terminal on which names from elsewhere are letters: see ``printable``.

    Example:
        >>> Screen(width=40).print(Table("number", title="a \x1b[2J b"))
        a \x1b[2J b
        ...
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's, with escape codes that are its own."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


class Bar(Progress):
    """A bar a task: how much of it is done, how fast, for how long, and how long it will take; vanishes in the end.

    On stderr, so that tables on stdout can be sent elsewhere. Bars that are open at the same time, nested or in several
    threads, stand below each other. A quiet bar, as of processes beside the first, shows nothing and tells listeners.

    Example:
        >>> heard = []
        >>> listeners.append(lambda *words: heard.append(words))
        >>> with Bar(quiet=True) as bar:
        ...     bar.advance(bar.add_task("Training", total=10), 3)
        >>> listeners.clear()
        >>> heard
        [('Training', 3, 10, None)]
    """

    _open: "ClassVar[tuple[Bar, ...]]" = ()  # those that are shown, all of them by the first, which has started rich
    _opening: ClassVar[RLock] = RLock()

    def __init__(self, *, quiet: bool = False) -> None:
        # What is printed meanwhile goes through this console: a path must stay in one line, and a file get its lines.
        console = Screen(stderr=True, soft_wrap=True)
        self._own: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Said(_count, Column(justify="right", no_wrap=True)),
            _Said(lambda task: rate_text(_rate(task))),
            TimeElapsedColumn(),
            _Said(_left),
            TextColumn("{task.fields[more]}", markup=False),
        )
        super().__init__(
            *self._own,
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            disable=quiet or not console.is_terminal,
        )
        self._speaks = not quiet and not console.is_terminal
        self._last = monotonic()

    def start(self) -> None:
        """Show it."""
        with Bar._opening:
            if not self.disable and self not in Bar._open:
                Bar._open += (self,)
                if len(Bar._open) == 1:
                    super().start()

    def stop(self) -> None:
        """Let it vanish."""
        with Bar._opening:
            rest = tuple(bar for bar in Bar._open if bar is not self)
            if self.live.is_started:  # else rich would write an empty line
                super().stop()
                if rest:  # another thread's
                    super(Bar, rest[0]).start()
            Bar._open = rest

    def get_renderables(self) -> Iterable[RenderableType]:
        """Draw a line a task of each bar."""
        table = Table.grid(*(column.get_table_column().copy() for column in self._own), padding=(0, 1))
        for bar in Bar._open:
            for task in bar.tasks:
                table.add_row(*(column(task) for column in bar._own))
        yield table

    def add_task(
        self,
        description: str,
        start: bool = True,
        total: float | None = None,
        completed: int = 0,
        visible: bool = True,
        **fields: Any,
    ) -> TaskID:
        """Add a task, of unknown length without a total; what is ``completed`` already does not count for the rate.

        ``more`` stands behind the bar; see ``Progress``.
        """
        fields = {"more": "", "first": completed, **fields}
        return super().add_task(description, start, total, completed, visible, **fields)

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Change a task, as ``Progress`` does; listeners get the ``loss``."""
        super().update(task_id, **fields)
        self._tell(task_id, fields.get("loss"))

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count what is done, as ``Progress`` does."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID, loss: float | None = None) -> None:
        task = self._tasks[task_id]
        for listener in listeners:
            listener(task.description, int(task.completed), int(task.total or 0), loss)
        if self._speaks and monotonic() - self._last >= EVERY:
            self._last = monotonic()
            count = _count(task) or str(timedelta(seconds=round(task.elapsed or 0.0)))
            parts = (f"{task.description}: {count}", rate_text(_rate(task)), _left(task), task.fields["more"])
            print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)


class _Said(ProgressColumn):
    """A column that a function of the task writes."""

    max_refresh = 0.5

    def __init__(self, text: Callable[[Task], str], column: Column | None = None) -> None:
        super().__init__(column)
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text(task))


def track(items: Iterable[T], what: str, total: int | None = None, *, quiet: bool = False) -> Iterator[T]:
    """Yield the items while a bar shows what is done with them, and how many are done, of their number or ``total``.

    Example:
        >>> list(track("ab", "Spelling"))
        ['a', 'b']
    """
    with Bar(quiet=quiet) as bar:
        task = bar.add_task(what, total=len(items) if total is None and isinstance(items, Sized) else total)
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def waiting(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a bar of the time that something takes which cannot be counted."""
    ended = Event()

    def go_on() -> None:
        while not ended.wait(EVERY):
            bar.update(task)

    with Bar(quiet=quiet) as bar:
        task = bar.add_task(what)
        bar.update(task)
        Thread(target=go_on, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


def rate_text(rate: float) -> str:
    """Return a number a second in words, of slow things as seconds each.

    Example:
        >>> rate_text(1234.5), rate_text(3.21), rate_text(0.05), rate_text(0)
        ('1,234/s', '3.2/s', '20.0 s each', '')
    """
    if rate <= 0:
        return ""
    return f"{1 / rate:.1f} s each" if rate < 1 else f"{rate:.1f}/s" if rate < 100 else f"{rate:,.0f}/s"


def _count(task: Task) -> str:
    """How many, of how many."""
    done = f"{int(task.completed):,}"
    return f"{done}/{int(task.total):,}" if task.total else done if task.completed else ""


def _rate(task: Task) -> float:
    """How many a second: of late, or all the time, where they are so slow that rich has forgotten the last one."""
    whole = (task.completed - task.fields["first"]) / task.elapsed if task.elapsed else 0.0
    return task.finished_speed or task.speed or whole


def _left(task: Task) -> str:
    """How long it will take."""
    rate = _rate(task)
    return f"{timedelta(seconds=round((task.total - task.completed) / rate))} left" if rate and task.total else ""


def _draw_nothing() -> None:
    """In a process that was forked: the thread that draws is not there, and might have held a lock of what it drew."""
    Bar._open, Bar._opening = (), RLock()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, FileProxy):
            setattr(sys, name, stream.rich_proxied_file)


if hasattr(os, "register_at_fork"):  # not on Windows, where no process is forked
    os.register_at_fork(after_in_child=_draw_nothing)
