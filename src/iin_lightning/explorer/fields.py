"""Values that came from anywhere, taken out one by one and checked."""

import re
from collections.abc import Iterable
from typing import Any

from iin_lightning.errors import ConfigError, choices
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import Picture


class Fields:
    """The fields of a state that came from somewhere, taken out one by one and checked.

    Args:
        values: what should be a JSON object.

    Raises:
        ConfigError: here and in all methods: what came is not what it should be.

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
        """The value of a field, as it is."""
        if name not in self._values:
            raise ConfigError(f"The state lacks {name}.")
        return self._values.pop(name)

    def number(self, name: str, low: float, high: float) -> float:
        """A number in [low, high]."""
        return _number(name, self.take(name), low, high)

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self.take(name)
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"The state says {name}={value!r:.40}; allowed are whole numbers from {low} to {high}.")
        return value

    def choice(self, name: str, allowed: Iterable[str]) -> str:
        """One of the allowed names."""
        return _choice(name, self.take(name), allowed)

    def chosen(self, name: str, allowed: Iterable[str]) -> tuple[str, ...]:
        """Some of the allowed names, each once, in the order in which they are allowed."""
        values, allowed = self.take(name), list(allowed)
        if not isinstance(values, list) or len(values) > len(allowed):
            raise ConfigError(f"The state's {name} is a list of at most {len(allowed)} names.")
        found = {_choice(name, value, allowed) for value in values}
        return tuple(value for value in allowed if value in found)

    def numbers(self, name: str, low: float, high: float, most: int) -> tuple[float, ...]:
        """A list of at most so many numbers in [low, high]."""
        values = self.take(name)
        if not isinstance(values, list) or len(values) > most:
            raise ConfigError(f"The state's {name} is a list of at most {most} numbers.")
        return tuple(_number(name, value, low, high) for value in values)

    def named_numbers(self, name: str, allowed: Iterable[str], low: float, high: float, most: int) -> dict[str, float]:
        """At most so many of the allowed names, each with a number in [low, high]."""
        values, allowed = self.take(name), list(allowed)
        if not isinstance(values, dict) or len(values) > most:
            raise ConfigError(f"The state's {name} is an object of at most {most} names with a number each.")
        return {_choice(name, key, allowed): _number(key, value, low, high) for key, value in values.items()}

    def picture(self, name: str, explored: Explored) -> Picture:
        """A picture that fits the model."""
        return Picture.from_json(self.take(name), len(explored), explored.shape)

    def text(self, name: str, pattern: str, meaning: str) -> str:
        """A text that fits a pattern as a whole; ``meaning`` says what is allowed."""
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
