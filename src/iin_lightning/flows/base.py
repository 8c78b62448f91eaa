"""The contract of a bijection, and the two ways to build one from others.

Symbols of this room: x and y are the input and output of a bijection, z (B, N) is a latent of the explained
network and z̃ = T(z) its translation. logdet (B,) is log|det ∂y/∂x| in nats, where y is what the *called*
direction returns: both directions return the value and the log-determinant of their own Jacobian.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from torch import Tensor, nn


class Bijector(nn.Module, ABC):
    """An invertible map of R^N.

    A subclass promises that ``inverse(forward(x))`` is x, that the two log-determinants add up to zero, and
    that no example of a batch depends on another (but for the initialisation of `ActNorm`).
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, N) to y (B, N) and log|det ∂y/∂x| (B,)."""

    @abstractmethod
    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y (B, N) back to x (B, N) and log|det ∂x/∂y| (B,)."""


class Chain(Bijector):
    """Bijectors one after the other: ``y = f_n(... f_2(f_1(x)))``, log-determinants add.

    Args:
        bijectors: f_1, ..., f_n, or name -> bijector in that order; names appear in parameter names.

    Example:
        >>> from iin_lightning.flows import Permutation
        >>> chain = Chain([Permutation([1, 2, 0]), Permutation([0, 2, 1])])
        >>> chain(torch.tensor([[1.0, 2.0, 3.0]]))
        (tensor([[2., 1., 3.]]), tensor([0.]))
    """

    def __init__(self, bijectors: Iterable[Bijector] | Mapping[str, Bijector]) -> None:
        super().__init__()
        if not isinstance(bijectors, Mapping):
            bijectors = {str(i): bijector for i, bijector in enumerate(bijectors)}
        for name, bijector in bijectors.items():
            self.add_module(name, bijector)

    def __iter__(self) -> Iterator[Bijector]:
        # children() would leave out a bijector that comes twice
        return iter(cast(Iterable[Bijector], self._modules.values()))

    def __reversed__(self) -> Iterator[Bijector]:
        return reversed(list(self))

    def __len__(self) -> int:
        return len(self._modules)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run all from the first to the last."""
        logdet = x.new_zeros(x.shape[0])
        for bijector in self:
            x, step = bijector(x)
            logdet = logdet + step
        return x, logdet

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Run all inverses from the last to the first."""
        logdet = y.new_zeros(y.shape[0])
        for bijector in reversed(self):
            y, step = bijector.inverse(y)
            logdet = logdet + step
        return y, logdet


class Inverse(Bijector):
    """A bijector with its two directions exchanged.

    Args:
        bijector: the one to turn around.

    Example:
        >>> from iin_lightning.flows import Permutation
        >>> Inverse(Permutation([1, 2, 0]))(torch.tensor([[2.0, 3.0, 1.0]]))[0]
        tensor([[1., 2., 3.]])
    """

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the inverse of the wrapped bijector."""
        return self.bijector.inverse(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Run the forward direction of the wrapped bijector."""
        value, logdet = self.bijector(y)
        return value, logdet
