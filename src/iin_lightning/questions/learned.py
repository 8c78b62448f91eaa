"""Whether factors have learned their concepts: what every answer that concludes from a factor says beside it.

A swapped factor carries its concept over, or T has not learned it. The rule: a factor's transfer is to be believed if
it is at least half way from chance to its bound, which the reconstructions give. Where these are no nearer to the
images than chance is, nothing can be read from them, and no factor is to be believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from iin_lightning.metrics.measured import Measured
from iin_lightning.metrics.transfer import CHANCE, IMAGES, RECONSTRUCTION
from iin_lightning.printing import pasted
from iin_lightning.progress import Screen
from iin_lightning.questions.results import measured, section, transfer_scores

ENOUGH = 0.5
"""Part of the way from chance to the bound."""

NOT_YET = "not to be believed yet"


@dataclass(frozen=True)
class Learned:
    """Factor transfer of a concept, in the unit of its reading; NaN where it is not known.

    Attributes:
        transfer: score when its own factor is swapped.
        bound: score of reconstructions.
        chance: score of outputs that have nothing to do with what they should show.
        images: score of the images themselves, which says on which side of chance better scores lie.
        error: standard error of the bound.

    Example:
        >>> print(Learned(0.09, 0.91, 0.1, images=0.99))
        transfer 0.09 of 0.91 (chance 0.1): not to be believed yet
        >>> Learned(0.05, 0.02, 0.3, images=0.0).believed  # distances of colours
        True
        >>> Learned(0.05, 0.08, 0.1, images=0.99).believed  # reconstructions that show nothing
        False
    """

    transfer: float = nan
    bound: float = nan
    chance: float = nan
    images: float = nan
    error: float = 0.0

    @property
    def known(self) -> bool:
        """Whether all numbers are."""
        return all(map(isfinite, (self.transfer, self.bound, self.chance, self.images)))

    @property
    def believed(self) -> bool:
        """Whether conclusions from this factor are to be believed."""
        better = 1 if self.images > self.chance else -1
        way = better * (self.bound - self.chance)
        return self.known and way > 2 * self.error and better * (self.transfer - self.chance) >= ENOUGH * way

    @property
    def record(self) -> dict[str, Any]:
        """For ``results.json``."""
        numbers = {"transfer": self.transfer, "bound": self.bound, "chance": self.chance} if self.known else {}
        return numbers | {"so": "believed" if self.believed else NOT_YET if self.known else "unknown"}

    def __str__(self) -> str:
        """The numbers, and what follows."""
        if not self.known:
            return "transfer is not known"
        numbers = f"transfer {self.transfer:.2g} of {self.bound:.2g} (chance {self.chance:.2g})"
        return numbers if self.believed else f"{numbers}: {NOT_YET}"


def learned(outcome: Mapping[str, Any], concepts: Iterable[str]) -> dict[str, Learned]:
    """What is known of concepts, from what ``results.json`` holds: of ``evaluate``, or else of the training.

    Args:
        outcome: all of it.
        concepts: with a factor each.
    """
    evaluated = measured(section(section(outcome, "evaluation"), "transfer"))
    scores = evaluated or transfer_scores(section(outcome, "metrics"))
    found = {}
    for name in concepts:
        transfer, bound, chance, images = (
            scores.get(f"{name}/{case}", Measured(nan)) for case in (name, RECONSTRUCTION, CHANCE, IMAGES)
        )
        error = bound.error if isfinite(bound.error) else 0.0
        found[name] = Learned(transfer.value, bound.value, chance.value, images.value, error)
    return found


def known(found: Mapping[str, Learned]) -> dict[str, Learned]:
    """Those of which transfer is known."""
    return {name: one for name, one in found.items() if one.known}


def sentences(found: Mapping[str, Learned], run: Path) -> list[str]:
    """What is said of factors, those that are not to be believed first; and how to measure what is not known.

    Args:
        found: concept -> what is known of it.
        run: the folder, for the command.
    """
    said = [f"{name}: {one}" for name, one in sorted(found.items(), key=lambda entry: entry[1].believed)]
    unknown = [name for name, one in found.items() if not one.known]
    if len(unknown) == len(found):
        said.append(f"To measure transfer: python -m iin_lightning.evaluate {pasted('run', run)} 'metric=[transfer]'")
    elif unknown:
        said.append(f"Nothing reads {', '.join(unknown)} from what the network gives; a probe does: 'metric=[leakage]'")
    return said


def warn(found: Mapping[str, Learned], run: Path) -> None:
    """Print what is said of factors, if any of them is not to be believed."""
    if not all(one.believed for one in found.values()):
        for sentence in sentences(found, run):
            Screen().print(sentence, style="yellow", soft_wrap=True, highlight=False, markup=False)
