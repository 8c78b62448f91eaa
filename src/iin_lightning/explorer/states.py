"""What a tab shows, as plain values: all that its pictures depend on besides the model, and no path.

``read`` of a state takes what may come from anyone, and refuses what is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

from iin_lightning.data.base import ORIGIN
from iin_lightning.data.changes import ORIGINAL
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.fields import Fields
from iin_lightning.explorer.pictures import Picture
from iin_lightning.explorer.sketched import clean
from iin_lightning.factors import RESIDUAL

FARTHEST = 4.0  # standard deviations: what lies further out T has never seen
MOST_ATTRIBUTES = 4
SEEDS = 2**31
SAMPLES = 24  # that a seed gives
FEWEST, MOST_CHANGED, MOST_STEPS = 10, 1000, 2000  # images, and steps of a short training
NAMES = "a letter, then at most 31 letters, digits or underscores"
SKETCH = r"(data:image/png;base64,)?[A-Za-z0-9+/=]{0,500000}"


@dataclass(frozen=True)
class SwapState:
    """A target that takes factors over from a source.

    Attributes:
        target: keeps all other factors.
        source: gives the named ones.
        factors: names.
        blend: 0 is the target's own factors, 1 the source's.
    """

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


@dataclass(frozen=True)
class WalkState:
    """A picture that walks in one factor and along attributes.

    Attributes:
        picture: where it starts.
        factor: the one that walks.
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
        steps = fields.numbers("steps", -FARTHEST, FARTHEST, len(explored.directions.principal(factor).steps))
        attributes = fields.named_numbers(
            "attributes", explored.directions.attributes, -FARTHEST, FARTHEST, MOST_ATTRIBUTES
        )
        draws = fields.take("draws")
        return cls(
            picture, factor, steps, attributes, None if draws is None else Fields({"d": draws}).whole("d", 0, SEEDS)
        )


@dataclass(frozen=True)
class SampleState:
    """New images, and the way between two of them.

    Attributes:
        seed: of all of them.
        first: the place of one of them.
        last: and of another.
        blend: how far between them.
    """

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
    """A map of a factor.

    Attributes:
        factor: whose values lie near each other where the factor is alike.
        concept: whose classes colour it; "" for none.
        method: umap or pca.
        item: the held-out image that was clicked; None: none.
    """

    tab: ClassVar[str] = "map"
    factor: str
    concept: str = ""
    method: str = "pca"
    item: int | None = None

    @classmethod
    def read(cls, fields: Fields, explored: Explored) -> Self:
        """Check what came."""
        concepts = ["", *explored.subject.data.classes]
        item = fields.take("item")
        return cls(
            fields.choice("factor", explored.factors),
            fields.choice("concept", concepts),
            fields.choice("method", ("umap", "pca")),
            None if item is None else Fields({"item": item}).whole("item", 0, len(explored) - 1),
        )


@dataclass(frozen=True)
class ConceptState:
    """Two sketches, and the concept that they define.

    Attributes:
        name: of the concept: letters, digits and underscores.
        sketch_a: base64 of a PNG, or the name of one that is built in.
        sketch_b: the other.
        images: of each split, that are changed by both.
        steps: of the training.
    """

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
        a, b = (clean(fields.text(key, SKETCH, "base64 of a PNG, or a name")) for key in ("sketch_a", "sketch_b"))
        images, steps = fields.whole("images", FEWEST, MOST_CHANGED), fields.whole("steps", FEWEST, MOST_STEPS)
        return cls(name, a, b, images, steps)


State = SwapState | WalkState | SampleState | MapState | ConceptState
STATES: dict[str, type[State]] = {
    state.tab: state for state in (SwapState, WalkState, SampleState, MapState, ConceptState)
}
