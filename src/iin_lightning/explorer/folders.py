"""Where things lie on the server is not for everyone who sees the page: sentences and commands without its folders."""

import os
import re
import sys
import tempfile
from pathlib import Path

_known: dict[str, str] = {}


def know(folder: Path | str, name: str) -> None:
    """Have a folder shown as ``<name>``.

    Example:
        >>> know("/mnt/my disk/faces", "paths.data")
        >>> without_folders("/mnt/my disk/faces/celeba is not there.")
        '<paths.data>/celeba is not there.'
    """
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        _known[path] = f"<{name}>"


def without_folders(text: str) -> str:
    """A text whose paths begin where the server was started, or at a folder with a name, such as ``<home>``.

    Of other paths only the last names are left: from the first one with a blank on.

    Example:
        >>> without_folders(f"{Path.cwd()}/outputs/my run: {Path.cwd()}2"), without_folders("/srv/someone/x is empty")
        ('outputs/my run: ...2', 'x is empty')
    """
    own = {os.path.expanduser("~"): "<home>", sys.prefix: "<python>", tempfile.gettempdir(): "<temporary>"}
    named = sorted((own | _known).items(), key=lambda item: len(item[0]), reverse=True)
    here = os.getcwd()
    for folder, name in [(f"{here}/", ""), (here, "."), *named]:
        if len(folder) > 1:  # not "/", in which everything lies
            text = re.sub(rf"(?<![\w.-]){re.escape(folder)}{_END if folder[-1] != '/' else ''}", name, text)
    return re.sub(r"(?<![\w/.>])/(?:[^\s/]+/)+", "", text)


_END = r"(?![\w-]|\.\w)"
"""Behind a whole name."""
