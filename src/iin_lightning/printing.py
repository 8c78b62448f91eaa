r"""What a command prints: files to be clicked, commands to be pasted, and streams that end no command."""

import io
import locale
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.style import Style
from rich.text import Text

from iin_lightning.progress import Screen

LABEL = 9  # characters, with the gap behind

# Values that need no quotes: a path with a slash, or a word that is no value of YAML.
PLAIN = r"[\w.-]*/[\w./-]*|[A-Za-z_][\w.-]*|\.+"
VALUES = ("null", "true", "false", "inf", "nan")

ADVICE = (
    # Our metrics.csv lies in the run folder, beside config.yaml; an older one is kept under another name.
    "Experiment logs directory .* exists and is not empty",
    # The frozen encoder: that is the point.
    r"Found \d+ module\(s\) in eval mode",
    # Batches are drawn from memory in one vectorised call; worker processes would only copy them.
    "The '.*_dataloader' does not have many workers",
    # Lightning's own use of torch.
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    # last.ckpt lies there on purpose.
    "Checkpoint directory .* exists and is not empty",
)
"""Advice of Lightning that does not apply here."""


def quiet() -> None:
    """Silence Lightning's advice in a command; a user's own scripts keep it."""
    for message in ADVICE:
        warnings.filterwarnings("ignore", message=f".*{message}")


def show_files(files: Iterable[tuple[str, Path | str]], console: Screen | None = None) -> None:
    """Print a line for each file, with a word for it and its path, which a terminal can open."""
    console = console or Screen(markup=False)
    for label, path in files:
        console.print(file_line(label, path), soft_wrap=True)


def file_line(label: str, path: Path | str, more: str = "") -> Text:
    """Return the line of one file.

    Example:
        >>> file_line("report", "outputs/report.html", "(1.2 MB)").plain
        'report   outputs/report.html  (1.2 MB)'
    """
    link = Style(link=Path(path).resolve().as_uri())
    return Text.assemble(label.ljust(LABEL), (shown(path), link), f"  {more}" if more else "")


def shown(path: Path | str) -> str:
    """Return a path as it can be typed here: relative where it lies below this folder.

    Example:
        >>> shown(Path.cwd() / "outputs" / "a"), shown("/elsewhere/a")
        ('outputs/a', '/elsewhere/a')
    """
    path, here = Path(path), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show_next(commands: Iterable[Iterable[str]], title: str, console: Screen | None = None) -> None:
    """Print commands to be copied, each as its name and its arguments, below a title."""
    text = Text("\n".join(["", title, *(f"  {command_line(*command)}" for command in commands)]))
    (console or Screen(markup=False)).print(text, soft_wrap=True)


def command_line(name: str, *arguments: str) -> str:
    """Return a command of this project as a shell reads it.

    Example:
        >>> command_line("explore", "run=a b")
        "python -m iin_lightning.explore 'run=a b'"
    """
    return shlex.join(["python", "-m", f"iin_lightning.{name}", *arguments])


def quoted(text: str) -> str:
    r"""Return a text as Hydra reads it back, whatever letters it has.

    Example:
        >>> print(quoted("outputs/mine"), quoted("Null"), quoted(r"my, own\${x}"))
        outputs/mine "Null" "my, own\\\${x}"
    """
    if re.fullmatch(PLAIN, text, re.ASCII) and text.lower() not in VALUES:
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else the braces would name a key
    text = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + (found[2] and r"\""), text)
    return f'"{text}"'


def argument(key: str, value: Path | str) -> str:
    """Return ``key=value`` as Hydra reads it back.

    Example:
        >>> argument("run", Path("outputs/cats, dogs"))
        'run="outputs/cats, dogs"'
    """
    return f"{key}={quoted(str(value))}"


def pasted(key: str, value: Path | str) -> str:
    """Return ``key=value`` as a shell reads it.

    Example:
        >>> print(pasted("resume", "outputs/a"), pasted("resume", "outputs/cats, dogs"))
        resume=outputs/a 'resume="outputs/cats, dogs"'
    """
    return shlex.quote(argument(key, value))


class _Outlet(io.FileIO):
    """The end of a stream, which leads nowhere once its reader has gone, as ``head`` does after its lines."""

    def write(self, data: Any, /) -> int:
        """Write bytes; into nothing where nobody reads."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return super().write(data)


def open_streams() -> None:
    r"""Let a command go on where its reader has left, or where a terminal lacks a letter, which is written as ``\xb1``.

    Text files that other packages write without an encoding, such as Lightning's metrics.csv, are in UTF-8.
    """
    if "utf" not in locale.getencoding().lower():
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Not what a notebook or a test has put there, nor ours.
        if not isinstance(stream, io.TextIOWrapper) or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
            continue
        outlet = _Outlet(stream.fileno(), "w", closefd=False)
        buffer = outlet if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(outlet)
        opened = io.TextIOWrapper(
            buffer,
            stream.encoding,
            "backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, opened)
