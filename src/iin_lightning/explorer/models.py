"""The models of the page by name, and sentences without the folders of the server."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from iin_lightning.errors import ConfigError, choices
from iin_lightning.explorer.explored import Explored

MOST_ADDED = 8  # models trained on the page that are kept; each has its networks in memory


class Models:
    """Models by name, shared by all users: those that the command names, and those that are trained on the page.

    Args:
        explored: those that the command names, at least one.
        load: a run folder and a name -> the model.
    """

    def __init__(self, explored: Iterable[Explored], load: Callable[[Path, str], Explored]) -> None:
        self._given = {model.name: model for model in explored}
        self._added: dict[str, Explored] = {}
        self._load = load
        self._lock = threading.Lock()
        self.first = next(iter(self._given.values()))

    def _all(self) -> dict[str, Explored]:
        with self._lock:
            return self._given | self._added

    def __getitem__(self, name: str) -> Explored:
        """The model of that name, or a ConfigError."""
        known = self._all()
        if name not in known:
            raise ConfigError(f"There is no model {name!s:.80}; {choices(str(name), known)}.")
        return known[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they came."""
        return iter(self._all())

    def add(self, folder: Path, name: str) -> Explored:
        """Load the model of a run folder for all users; of more than eight so added the oldest is forgotten."""
        explored = self._load(folder, name)
        with self._lock:
            self._added.pop(name, None)
            self._added[name] = explored
            for oldest in list(self._added)[:-MOST_ADDED]:
                del self._added[oldest]
        return explored


_names: dict[str, str] = {}
_END = r"(?![\w-]|\.\w)"
"""Behind a whole name."""


def name_folder(folder: Path | str, name: str) -> None:
    """Have ``without_folders`` show a folder as ``<name>``.

    Example:
        >>> name_folder("/mnt/my disk/faces", "paths.data")
        >>> without_folders("/mnt/my disk/faces/celeba is not there.")
        '<paths.data>/celeba is not there.'
    """
    _names.update(dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder)), f"<{name}>"))


def without_folders(text: str) -> str:
    """Return a text whose paths begin where the server was started, or at a folder with a name, such as ``<home>``.

    Of other paths only the last names are left: where things lie on the server is not for everyone who sees the page.

    Example:
        >>> without_folders(f"{Path.cwd()}/outputs/my run: {Path.cwd()}2"), without_folders("/srv/someone/x is empty")
        ('outputs/my run: ...2', 'x is empty')
    """
    own = {os.path.expanduser("~"): "<home>", sys.prefix: "<python>", tempfile.gettempdir(): "<temporary>"}
    named = sorted((own | _names).items(), key=lambda item: len(item[0]), reverse=True)
    here = os.getcwd()
    for folder, name in [(f"{here}/", ""), (here, "."), *named]:
        if len(folder) > 1:  # not "/", in which everything lies
            text = re.sub(rf"(?<![\w.-]){re.escape(folder)}{_END if folder[-1] != '/' else ''}", name, text)
    return re.sub(r"(?<![\w/.>])/(?:[^\s/]+/)+", "", text)
