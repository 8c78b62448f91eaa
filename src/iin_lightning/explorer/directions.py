"""Where a picture can be moved to: the main directions of each factor, and those of attributes; found once, when asked.

Symbols: z̃_k (n, N_k) is one factor of n images.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.analysis.directions import FEWEST, answers, attributes_in, choose_method, examples, fit_directions
from iin_lightning.data.base import LabelledBatch, Source
from iin_lightning.errors import ConfigError, choices
from iin_lightning.explorer.once import Once
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import FIXED, generator

DIRECTIONS = 6  # of a factor that get a slider
EXAMPLES = 1000  # training images that have an attribute, and as many that lack it: their means are near those of all
NARROWEST = 1e-3  # of the widest direction's deviation: what is narrower is rounding, or nothing


class Principal(NamedTuple):
    """Where a factor varies most over held-out images, as principal components of z̃_k.

    Attributes:
        steps: (D, N_k), one standard deviation along each, the widest first.
        shares: (D,) of the factor's variance.
    """

    steps: Tensor
    shares: Tensor


class Directions:
    """The directions of one model, shared by all users.

    Args:
        subject: the model and its data.
        translated: gives z̃ (n, N) of held-out images.
        translate: a source of images and which of them -> their z̃ and labels.
    """

    def __init__(
        self,
        subject: Subject,
        translated: Callable[[], Tensor],
        translate: Callable[[Source, Sequence[int]], LabelledBatch],
    ) -> None:
        self._subject, self._translated, self._translate = subject, translated, translate
        self._principal = Once(self._find_principal)
        self._towards = Once(self._find_towards)

    def principal(self, name: str) -> Principal:
        """The main directions of a factor, at most six."""
        return self._principal(name)

    def _find_principal(self, name: str) -> Principal:
        return principal_directions(self._subject.interpreter.factors.split(self._translated())[name])

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that can be walked along: those that held-out images have and lack often enough."""
        data = self._subject.data
        known, labels = attributes_in(data.classes), data.source("test").labels.cpu()
        counts = {name: examples(answer) for name, answer in answers(labels, data.concepts, known).items()}
        return tuple(name for name, (having, lacking) in counts.items() if min(having, lacking) >= FEWEST)

    def towards(self, attribute: str) -> Tensor:
        """The direction (N,) of an attribute, as in ``analysis=directions``, from some training images alone.

        Raises:
            ConfigError: there is no such attribute, or too few training images have or lack it.
        """
        if attribute not in self.attributes:
            raise ConfigError(f"There is no attribute {attribute!r}; {choices(attribute, self.attributes)}.")
        return self._towards(attribute)

    def _find_towards(self, attribute: str) -> Tensor:
        data = self._subject.data
        source, asked = data.source("train"), {attribute: attributes_in(data.classes)[attribute]}
        found = self._translate(source, _examples(answers(source.labels.cpu(), data.concepts, asked)[attribute]))
        method = choose_method(found.x, self._subject.interpreter.factors)
        return fit_directions(found.x, answers(found.labels.cpu(), data.concepts, asked), method)[attribute].vector


def _examples(answer: Tensor) -> list[int]:
    """Places of some examples that have an attribute and of some that lack it, at random, the same ones each time."""
    mixed = torch.randperm(len(answer), generator=generator(FIXED, "explore attributes"))
    return torch.cat([mixed[answer[mixed] == value][:EXAMPLES] for value in (1, 0)]).sort().values.tolist()


def principal_directions(values: Tensor) -> Principal:
    """The principal components of a factor z̃_k (n, N_k), at most six; directions in which nothing differs are left out.

    Example:
        >>> values = torch.randn(5000, 3) * torch.tensor([1.0, 3.0, 0.0])
        >>> steps, shares = principal_directions(values)
        >>> steps.abs().round().tolist(), [round(share, 1) for share in shares.tolist()]
        ([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]], [0.9, 0.1])
    """
    values = values.double()
    variances, axes = torch.linalg.eigh(values.T.cov().reshape(2 * values.shape[1:]))
    variances, axes = variances.flip(0)[:DIRECTIONS], axes.flip(1).T[:DIRECTIONS]
    kept = variances > NARROWEST**2 * variances.max().clamp(min=1e-12)
    variances, axes = variances[kept], axes[kept]
    # An axis has no sign: its largest entry is made positive, so that it is the same on every machine.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    shares = variances / values.var(0).sum()
    return Principal((axes * variances.sqrt()[:, None]).float(), shares.float())
