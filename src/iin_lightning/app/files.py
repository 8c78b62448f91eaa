"""What a command leaves behind: a line for each file, to be clicked or copied, and what to do next."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.style import Style
from rich.text import Text

LABEL = 9  # characters, with the gap behind


def show_files(files: Iterable[tuple[str, Path | str]], console: Console | None = None) -> None:
    """Print what each file is and where it lies, to be clicked or copied: one line each, whatever the width.

    Args:
        files: a word for it, and its path.
        console: where to; by default stdout.
    """
    console = console or Console()
    for label, path in files:
        console.print(file_line(label, path), soft_wrap=True)


def file_line(label: str, path: Path | str, more: str = "") -> Text:
    """The line of one file.

    Args:
        label: a word for it.
        path: where it lies.
        more: stands behind.

    Example:
        >>> file_line("report", "outputs/report.html", "(1.2 MB)").plain
        'report   outputs/report.html  (1.2 MB)'
    """
    link = Style(link=Path(path).resolve().as_uri())
    return Text.assemble(label.ljust(LABEL), (shown(path), link), f"  {more}" if more else "")


def shown(path: Path | str) -> str:
    """A path as it can be typed here: relative where it lies below this folder.

    Example:
        >>> shown(Path.cwd() / "outputs" / "a"), shown("/elsewhere/a")
        ('outputs/a', '/elsewhere/a')
    """
    path, here = Path(path), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show_next(commands: Iterable[Iterable[str]], title: str, console: Console | None = None) -> None:
    """Print commands to be copied.

    Args:
        commands: a command of this project and its arguments, each.
        title: what they are for.
        console: where to; by default stdout.
    """
    lines = [shlex.join(["python", "-m", f"iin_lightning.{name}", *arguments]) for name, *arguments in commands]
    text = Text("\n".join(["", title, *(f"  {line}" for line in lines)]))
    (console or Console()).print(text, soft_wrap=True)


def data_arguments() -> list[str]:
    """What the command line at hand says of the data, as a user types it."""
    hydra = HydraConfig.get()
    told = [one.replace("data@data.", "data.") for one in hydra.overrides.task]
    said = [one for one in told if one.startswith(("data.", "paths.", "seed="))]
    return [f"data={hydra.runtime.choices['data']}", *said]
