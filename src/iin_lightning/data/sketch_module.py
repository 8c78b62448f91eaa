"""A concept from two sketches: each image of a data set is there as it was, and in the strokes of either sketch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iin_lightning.data.changes import ChangedImages, Changes
from iin_lightning.data.module import DataModule
from iin_lightning.data.stylize import Stylize, Stylizer
from iin_lightning.errors import ConfigError


class Sketches(ChangedImages):
    """Images and their versions in the strokes of sketches; a version is named after its sketch's file.

    The pairs (x, x_a), (x, x_b) and (x_a, x_b) differ in the concept only.

    Args:
        base: the data set, of images in RGB.
        stylizer: what paints an image in a sketch's strokes.
        concept: its name.
        sketch_a: name of one of the project's own, "round" or "angular", or path of an image.
        sketch_b: the other one.
        sketches: concept -> sketches, for several concepts at once, in place of concept, sketch_a and sketch_b.
        changes: concepts besides these, see ``ChangedImages``.
        **loading: see ``ChangedImages``.

    Raises:
        DataNotFoundError: there is no such sketch.
        ConfigError: a sketch is no image, a concept has no sketch, or two of the same name, or is among changes, too;
            and see ``ChangedImages``.
        ChangeError: see ``ChangedImages``.

    Example:
        >>> from iin_lightning.data.color_mnist import ColorMNISTMini
        >>> def blend(content, style):
        ...     return (content + style.mean()) / 2
        >>> base = ColorMNISTMini(views=1)
        >>> data = Sketches(base, blend, concept="roundness", sketch_a="round", sketch_b="angular")
        >>> data.classes["roundness"]
        ('original', 'round', 'angular')
    """

    def __init__(
        self,
        base: DataModule,
        stylizer: Stylizer,
        *,
        concept: str,
        sketch_a: str | Path,
        sketch_b: str | Path,
        sketches: Mapping[str, Sequence[str | Path]] | None = None,
        changes: Changes | None = None,
        **loading: Any,
    ) -> None:
        sketches = {concept: [sketch_a, sketch_b]} if sketches is None else sketches
        drawn = {name: _versions(name, of_one, stylizer) for name, of_one in sketches.items()}
        if twice := sorted(set(drawn) & set(changes or {})):
            raise ConfigError(f"{', '.join(twice)} has sketches and is among data.changes, too: call one otherwise.")
        super().__init__(base, drawn | dict(changes or {}), **loading)


def _versions(concept: str, sketches: Sequence[str | Path], stylizer: Stylizer) -> dict[str, Stylize]:
    if isinstance(sketches, str | Path) or not sketches:
        raise ConfigError(
            f"data.sketches: {concept} needs a list of sketches, such as [round, angular], not {sketches!r}."
        )
    names = [Path(one).stem for one in sketches]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"The sketches of {concept} are called {', '.join(names)}: a version is named after its sketch's file, so "
            "rename one, and see that they are different sketches."
        )
    return {name: Stylize(stylizer, one) for name, one in zip(names, sketches)}
