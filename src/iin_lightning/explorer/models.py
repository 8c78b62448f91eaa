"""The models of the page: those that the command names, and those that are trained on the page."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from iin_lightning.errors import ConfigError, choices
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.folders import know

MOST_ADDED = 8  # models trained on the page that are kept; each has its networks in memory


class Models:
    """Models by name, shared by all users.

    Args:
        explored: those that the command names, at least one.
        load: a run folder and a name -> the model, for those that are trained on the page.
    """

    def __init__(self, explored: Iterable[Explored], load: Callable[[Path, str], Explored]) -> None:
        self._given = {one.name: one for one in explored}
        self._added: dict[str, Explored] = {}
        self._load = load
        self._lock = threading.Lock()
        for name, one in self._given.items():
            know(one.subject.folder, name)
            recipe = one.subject.recipe
            for key, path in ({} if recipe is None else recipe.paths).items():
                know(path, f"paths.{key}")

    def __getitem__(self, name: str) -> Explored:
        """A model.

        Raises:
            ConfigError: there is none of that name.
        """
        with self._lock:
            known = self._given | self._added
        if name not in known:
            raise ConfigError(f"There is no model {name!s:.80}; {choices(str(name), known)}.")
        return known[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they came."""
        with self._lock:
            return iter([*self._given, *self._added])

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    @property
    def first(self) -> Explored:
        """The one that the page opens with."""
        return next(iter(self._given.values()))

    def add(self, folder: Path, name: str) -> Explored:
        """Load the model of a run folder for all users; of more than eight so added the oldest is forgotten.

        Raises:
            CheckpointError: the folder holds no model.
        """
        explored = self._load(folder, name)
        with self._lock:
            self._added.pop(name, None)
            self._added[name] = explored
            for oldest in list(self._added)[:-MOST_ADDED]:
                del self._added[oldest]
        return explored
