"""What a command leaves behind: a line for each file, to be clicked or copied, and what to do next."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.style import Style
from rich.text import Text

from iin_lightning.cli.groups import as_typed
from iin_lightning.progress import Screen

LABEL = 9  # characters, with the gap behind

# An experiment names a data set and changes it, and so does trainer=smoke.
CARRIED = r"[+~]*(?:(?:data|paths|trainer)(?:[./@][^=]*)?|experiment|seed)(?:=|$)"


def show_files(files: Iterable[tuple[str, Path | str]], console: Screen | None = None) -> None:
    """Print what each file is and where it lies, to be clicked or copied: one line each, whatever the width.

    Args:
        files: a word for it, and its path.
        console: where to; by default stdout.
    """
    console = console or Screen(markup=False)
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


def show_next(commands: Iterable[Iterable[str]], title: str, console: Screen | None = None) -> None:
    """Print commands to be copied.

    Args:
        commands: a command of this project and its arguments, each.
        title: what they are for.
        console: where to; by default stdout.
    """
    text = Text("\n".join(["", title, *(f"  {command_line(*command)}" for command in commands)]))
    (console or Screen(markup=False)).print(text, soft_wrap=True)


def command_line(name: str, *arguments: str) -> str:
    """A command of this project as a shell reads it.

    Example:
        >>> command_line("explore", "run=a b")
        "python -m iin_lightning.explore 'run=a b'"
    """
    return shlex.join(["python", "-m", f"iin_lightning.{name}", *arguments])


def carried(overrides: Iterable[str], config_dir: str | None) -> list[str]:
    """The arguments by which another training takes the same data on the same hardware, as a user types them.

    Args:
        overrides: of a command line, as Hydra has them.
        config_dir: the user's folder of that command line.

    Example:
        >>> carried(["data=gray", "data@data.base=mine", "+data.x=3", "model=sup", "seed=1"], "conf")
        ['--config-dir', 'conf', 'data=gray', 'data.base=mine', '+data.x=3', 'seed=1']
    """
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    return folder + [as_typed(one) for one in overrides if re.match(CARRIED, one)]
