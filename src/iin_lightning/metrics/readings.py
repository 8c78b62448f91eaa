"""Readings: how one tells from an image, without the network that is explained, which concept it shows.

A reading compares decoded images with what they should show, and gives one score an example. It is independent of
the translator: a classifier that was trained on images, or a measurement on the pixels.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn


class Reading(Protocol):
    """How well decoded images show a concept that was asked for."""

    unit: str
    higher_is_better: bool

    def __call__(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """Score (B,) of ``decoded`` outputs, wanted to show the concept of ``image``, whose label is ``label`` (B,)."""


class ClassReading(nn.Module):
    """Whether an independent classifier sees the wanted class: 1 or 0.

    Args:
        judge: images (B,C,H,W) in [-1,1] -> logits (B, classes).

    Example:
        >>> reading = ClassReading(nn.Flatten())
        >>> image = torch.tensor([[[[0.0, 1.0]]], [[[1.0, 0.0]]]])
        >>> reading(image, image, torch.tensor([1, 1])).tolist()
        [1.0, 0.0]
    """

    unit = "share"
    higher_is_better = True

    def __init__(self, judge: nn.Module) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """See ``Reading``."""
        return (self.judge(decoded).argmax(1) == label).float()


class PredictionReading(nn.Module):
    """Whether the explained classifier's own logits name the wanted class: for networks that decode to logits.

    Example:
        >>> PredictionReading()(torch.tensor([[0.1, 0.9]]), torch.zeros(1), torch.tensor([1])).tolist()
        [1.0]
    """

    unit = "share"
    higher_is_better = True

    def forward(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """See ``Reading``; ``decoded`` are logits (B, classes)."""
        return (decoded.argmax(1) == label).float()


def stroke_color(images: Tensor) -> Tensor:
    """The colour of a stroke on black: the mean over the pixels that are at least half as bright as the brightest.

    Strokes are soft at their edge, so this is darker than the paint; two images that are measured alike compare.

    Args:
        images: (B,3,H,W) in [-1,1].

    Returns:
        Colours (B,3) in [0,1].

    Example:
        >>> image = torch.full((1, 3, 8, 8), -1.0)
        >>> image[0, 0, 2:6, 2:6] = 0.5
        >>> stroke_color(image).tolist()
        [[0.75, 0.0, 0.0]]
    """
    flat = ((images + 1) / 2).flatten(2)
    brightness = flat.amax(1, keepdim=True)
    stroke = (brightness >= 0.5 * brightness.amax(2, keepdim=True)).float()
    return (flat * stroke).sum(2) / stroke.sum(2)


class ColorReading(nn.Module):
    """Mean absolute RGB difference between the stroke's colour and the wanted one, in [0,1].

    Example:
        >>> white, black = torch.ones(1, 3, 8, 8), -torch.ones(1, 3, 8, 8)
        >>> ColorReading()(white, black, torch.zeros(1)).tolist()
        [1.0]
    """

    unit = "RGB difference"
    higher_is_better = False

    def forward(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """See ``Reading``; both sides are measured in the same way."""
        return (stroke_color(decoded) - stroke_color(image)).abs().mean(1)


class TraitReading(nn.Module):
    """Absolute difference of a trait from the wanted one: of what no label names, such as the slant of a digit.

    Args:
        measure: images (B,C,H,W) in [-1,1] -> values (B,).

    Example:
        >>> from iin_lightning.data.images import ink
        >>> white, black = torch.ones(1, 3, 8, 8), -torch.ones(1, 3, 8, 8)
        >>> TraitReading(ink)(white, black, torch.zeros(1)).tolist()
        [1.0]
    """

    unit = "difference"
    higher_is_better = False

    def __init__(self, measure: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.measure = measure

    def forward(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """See ``Reading``."""
        return (self.measure(decoded) - self.measure(image)).abs()


def readings_for(
    kinds: Mapping[str, str],
    judges: Mapping[str, nn.Module],
    traits: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    predicted: str | None = None,
) -> dict[str, nn.Module]:
    """Choose a reading for each concept that can be read, and for each trait.

    Args:
        kinds: concept -> ``class``, ``color`` or ``identity``, as the data says.
        judges: concept -> classifier of images for it.
        traits: name -> measure, of what no label names.
        predicted: the concept whose classes the explained network's own logits tell; None if it decodes to images.

    Returns:
        Name -> reading. A concept without a judge, an identity (whose labels mean nothing on another split), or
        anything but the predicted concept where there are logits, cannot be read and is left out.

    Example:
        >>> list(readings_for({"digit": "class", "color": "color"}, {}, predicted="digit"))
        ['digit']
    """
    if predicted is not None:
        return {predicted: PredictionReading()}
    readings: dict[str, nn.Module] = {}
    for concept, kind in kinds.items():
        if kind == "color":
            readings[concept] = ColorReading()
        elif kind == "class" and concept in judges:
            readings[concept] = ClassReading(judges[concept])
    return readings | {name: TraitReading(measure) for name, measure in (traits or {}).items()}
