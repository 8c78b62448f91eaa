"""Where a picture can be moved to: the main directions of each factor, and those of attributes; found once, when asked.

Symbols: z̃_k (n, N_k) is one factor of n images.
"""

import threading
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.analysis.attributes import answers, attributes_in, examples
from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.analysis.directions import FEWEST, fit_directions
from iin_lightning.app.explore.alone import alone
from iin_lightning.app.subject import Subject
from iin_lightning.errors import ConfigError, choices

DIRECTIONS = 6  # of a factor that get a slider
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
    """

    def __init__(self, subject: Subject, translated: Callable[[], Tensor]) -> None:
        self._subject, self._translated = subject, translated
        self._lock = threading.RLock()
        self._principal: dict[str, Principal] = {}
        self._towards: dict[str, Tensor] = {}

    def principal(self, name: str) -> Principal:
        """The main directions of a factor, at most six."""
        with self._lock:
            if not self._principal:
                parts = self._subject.interpreter.factors.split(self._translated())
                self._principal = {factor: principal_directions(values) for factor, values in parts.items()}
            return self._principal[name]

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that can be walked along: those that held-out images have and lack often enough."""
        data = self._subject.data
        known, labels = attributes_in(data.classes), data.source("test").labels.cpu()
        counts = {name: examples(answer) for name, answer in answers(labels, data.concepts, known).items()}
        return tuple(name for name, (having, lacking) in counts.items() if min(having, lacking) >= FEWEST)

    def towards(self, attribute: str) -> Tensor:
        """The direction (N,) of an attribute, from training images as in ``analysis=directions``.

        Raises:
            ConfigError: there is no such attribute, or too few training images have or lack it.
        """
        if attribute not in self.attributes:
            raise ConfigError(f"There is no attribute {attribute!r}; {choices(attribute, self.attributes)}.")
        with self._lock:
            if attribute not in self._towards:
                data, labels = self._subject.data, self._subject.latents("train").labels
                asked = answers(labels, data.concepts, {attribute: attributes_in(data.classes)[attribute]})
                self._towards[attribute] = fit_directions(self._trained, asked)[attribute].vector
            return self._towards[attribute]

    @cached_property
    def _trained(self) -> Tensor:
        """z̃ of the training images."""
        interpreter = self._subject.interpreter

        @alone  # some at a time, so that others get their turn
        @torch.no_grad()
        def translate(z: Tensor) -> Tensor:
            return interpreter.translate(z.to(interpreter.device)).cpu()

        return in_chunks(translate, self._subject.latents("train").mean)


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
