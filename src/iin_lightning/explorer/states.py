"""What a tab shows, as plain values: all that its pictures depend on besides the model, and no path.

``read`` of a state takes what may come from anyone: ``Fields`` takes every value out, and refuses what is wrong with a
ConfigError.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from iin_lightning.data.base import ORIGIN
from iin_lightning.data.changes import ORIGINAL
from iin_lightning.errors import ConfigError, choices
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import Picture, clean_sketch
from iin_lightning.factors import RESIDUAL

FARTHEST = 4.0  # standard deviations: what lies further out T has never seen
MOST_ATTRIBUTES = 4
SEEDS = 2**31
SAMPLES = 24  # that a seed gives
FEWEST, MOST_CHANGED, MOST_STEPS = 10, 1000, 2000  # images, and steps of a short training
NAMES = "a letter, then at most 31 letters, digits or underscores"
SKETCH = r"(data:image/png;base64,)?[A-Za-z0-9+/=]{0,500000}"


class Fields:
    """The fields of a JSON object that came from anywhere, taken out one after the other; all methods refuse.

    Example:
        >>> fields = Fields({"blend": 0.5})
        >>> fields.number("blend", 0, 1), fields.end()
        (0.5, None)
        >>> Fields({"blend": 7}).number("blend", 0, 1)
        Traceback (most recent call last):
        ...
        iin_lightning.errors.ConfigError: The state says blend=7; allowed are numbers from 0 to 1.
    """

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise ConfigError("A state is a JSON object with names and values.")
        self._values: dict[str, Any] = dict(values)

    def take(self, name: str) -> Any:
        """Take out a value as it is."""
        if name not in self._values:
            raise ConfigError(f"The state lacks {name}.")
        return self._values.pop(name)

    def number(self, name: str, low: float, high: float) -> float:
        """Take out a number in [low, high]."""
        return _number(name, self.take(name), low, high)

    def whole(self, name: str, low: int, high: int) -> int:
        """Take out a whole number in [low, high]."""
        value = self.take(name)
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"The state says {name}={value!r:.40}; allowed are whole numbers from {low} to {high}.")
        return value

    def maybe_whole(self, name: str, low: int, high: int) -> int | None:
        """Take out a whole number in [low, high], or None."""
        if name in self._values and self._values[name] is None:
            return self.take(name)
        return self.whole(name, low, high)

    def choice(self, name: str, allowed: Iterable[str]) -> str:
        """Take out one of the allowed names."""
        return _choice(name, self.take(name), allowed)

    def chosen(self, name: str, allowed: Iterable[str]) -> tuple[str, ...]:
        """Take out some of the allowed names, each once, in the order in which they are allowed."""
        values, allowed = self.take(name), list(allowed)
        if not isinstance(values, list) or len(values) > len(allowed):
            raise ConfigError(f"The state's {name} is a list of at most {len(allowed)} names.")
        found = {_choice(name, value, allowed) for value in values}
        return tuple(value for value in allowed if value in found)

    def numbers(self, name: str, low: float, high: float, most: int) -> tuple[float, ...]:
        """Take out a list of at most so many numbers in [low, high]."""
        values = self.take(name)
        if not isinstance(values, list) or len(values) > most:
            raise ConfigError(f"The state's {name} is a list of at most {most} numbers.")
        return tuple(_number(name, value, low, high) for value in values)

    def named_numbers(self, name: str, allowed: Iterable[str], low: float, high: float, most: int) -> dict[str, float]:
        """Take out at most so many of the allowed names, each with a number in [low, high]."""
        values, allowed = self.take(name), list(allowed)
        if not isinstance(values, dict) or len(values) > most:
            raise ConfigError(f"The state's {name} is an object of at most {most} names with a number each.")
        return {_choice(name, key, allowed): _number(key, value, low, high) for key, value in values.items()}

    def picture(self, name: str, explored: Explored) -> Picture:
        """Take out a picture that fits the model."""
        return Picture.from_json(self.take(name), len(explored), explored.shape)

    def text(self, name: str, pattern: str, meaning: str) -> str:
        """Take out a text that fits a pattern as a whole; ``meaning`` says what is allowed."""
        value = self.take(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ConfigError(f"The state says {name}={value!r:.40}; allowed are {meaning}.")
        return value

    def end(self) -> None:
        """See that nothing is left."""
        if self._values:
            raise ConfigError(f"The state says {next(iter(self._values))!r:.40}, which means nothing here.")


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"The state says {name:.40}={value!r:.40}; allowed are numbers from {low:g} to {high:g}.")
    return float(value)


def _choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(f"The state says {name}={value!r:.40}; {choices(str(value)[:40], allowed)}.")
    return value


@dataclass(frozen=True)
class SwapState:
    """A target takes the named factors over from a source: a blend of 0 is its own, 1 the source's."""

    tab: ClassVar[str] = "swap"
    target: Picture
    source: Picture
    factors: tuple[str, ...]
    blend: float = 1.0

    @classmethod
    def read(cls, fields: Fields, explored: Explored) -> Self:
        """Check what came."""
        pictures = fields.picture("target", explored), fields.picture("source", explored)
        return cls(*pictures, fields.chosen("factors", explored.factors), fields.number("blend", 0, 1))

    def taking(self, role: str, picture: Picture) -> Self:
        """Return the same state with another target or source."""
        return replace(self, target=picture) if role == "target" else replace(self, source=picture)


@dataclass(frozen=True)
class WalkState:
    """A picture walks in one factor and along attributes.

    Attributes:
        steps: in standard deviations, one a main direction of the factor.
        attributes: name -> how far, 1 from the mean of those without it to that of those with it.
        draws: seed of the random samples of the factor that are shown; None: none.
    """

    tab: ClassVar[str] = "walk"
    picture: Picture
    factor: str
    steps: tuple[float, ...] = ()
    attributes: Mapping[str, float] = field(default_factory=dict)
    draws: int | None = None

    @classmethod
    def read(cls, fields: Fields, explored: Explored) -> Self:
        """Check what came."""
        picture, factor = fields.picture("picture", explored), fields.choice("factor", explored.factors)
        steps = fields.numbers("steps", -FARTHEST, FARTHEST, len(explored.principal(factor).steps))
        names = fields.named_numbers("attributes", explored.attributes, -FARTHEST, FARTHEST, MOST_ATTRIBUTES)
        return cls(picture, factor, steps, names, fields.maybe_whole("draws", 0, SEEDS))


@dataclass(frozen=True)
class SampleState:
    """New images of a seed, and the way between two of them, which are named by their places."""

    tab: ClassVar[str] = "sample"
    seed: int = 0
    first: int = 0
    last: int = 1
    blend: float = 0.5

    @classmethod
    def read(cls, fields: Fields, explored: Explored) -> Self:
        """Check what came."""
        first, last = (fields.whole(name, 0, SAMPLES - 1) for name in ("first", "last"))
        return cls(fields.whole("seed", 0, SEEDS), first, last, fields.number("blend", 0, 1))


@dataclass(frozen=True)
class MapState:
    """A map of a factor, by umap or pca, coloured by the classes of a concept ("": none); an item was clicked."""

    tab: ClassVar[str] = "map"
    factor: str
    concept: str = ""
    method: str = "pca"
    item: int | None = None

    @classmethod
    def read(cls, fields: Fields, explored: Explored) -> Self:
        """Check what came."""
        return cls(
            fields.choice("factor", explored.factors),
            fields.choice("concept", ["", *explored.data.classes]),
            fields.choice("method", ("umap", "pca")),
            fields.maybe_whole("item", 0, len(explored) - 1),
        )


@dataclass(frozen=True)
class ConceptState:
    """Two sketches, the concept that they define, and its training on so many images of each split."""

    tab: ClassVar[str] = "concept"
    name: str = "roundness"
    sketch_a: str = "round"
    sketch_b: str = "angular"
    images: int = 200
    steps: int = 200

    @classmethod
    def read(cls, fields: Fields, explored: Explored) -> Self:
        """Check what came; sketches are written anew."""
        name = fields.text("name", r"[A-Za-z][A-Za-z0-9_]{0,31}", NAMES)
        if name in (RESIDUAL, ORIGIN, ORIGINAL):
            raise ConfigError(f"{name} has a meaning already: call the concept otherwise.")
        a, b = (
            clean_sketch(fields.text(key, SKETCH, "base64 of a PNG, or a name")) for key in ("sketch_a", "sketch_b")
        )
        return cls(name, a, b, fields.whole("images", FEWEST, MOST_CHANGED), fields.whole("steps", FEWEST, MOST_STEPS))


State = SwapState | WalkState | SampleState | MapState | ConceptState
STATES: dict[str, type[State]] = {
    state.tab: state for state in (SwapState, WalkState, SampleState, MapState, ConceptState)
}
