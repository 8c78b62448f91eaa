"""The contract of a bijection, and the two ways to build one from others.

Symbols of this room: x and y are the input and output of a bijection, z (B, N) is a latent of the explained
network and z̃ = T(z) its translation. logdet (B,) is log|det ∂y/∂x| in nats, where y is what the *called*
direction returns: both directions return the value and the log-determinant of their own Jacobian.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

Gradients = dict[nn.Parameter, Tensor]
"""Of a scalar, with respect to the parameters that want one."""


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

    def rewind(self, y: Tensor, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor, Tensor, Gradients]:
        """Go back from y to x and take the gradients of a scalar along, where nothing was kept of the way forward.

        A subclass that saves work by doing ``inverse`` and ``forward`` at once overrides it.

        Args:
            y: (B, N), what ``forward`` returned.
            grad_y: (B, N), the scalar's gradient with respect to y.
            grad_logdet: (B,), and with respect to the log-determinant.

        Returns:
            x (B, N), the scalar's gradient with respect to it (B, N), and those of the parameters.
        """
        with torch.no_grad():
            x = self.inverse(y)[0].detach().requires_grad_()
        with torch.enable_grad():
            outputs = self(x)
        (grad_x,), gradients = pull_back(self, outputs, (grad_y, grad_logdet), [x])
        return x.detach(), grad_x, gradients


def pull_back(
    module: nn.Module, outputs: Sequence[Tensor], grad_outputs: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], Gradients]:
    """Gradients of inputs, and of the parameters of the module that made outputs of them."""
    # autograd refuses outputs that nothing reaches: the log-determinant of a permutation.
    ends, grads = zip(*((value, grad) for value, grad in zip(outputs, grad_outputs) if value.requires_grad))
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(ends, [*inputs, *wanted], grads, allow_unused=True)
    gradients = {parameter: value for parameter, value in zip(wanted, found[len(inputs) :]) if value is not None}
    return found[: len(inputs)], gradients


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

    def rewind(self, y: Tensor, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor, Tensor, Gradients]:
        """Rewind all from the last to the first, each after the other, so that one graph exists at a time."""
        total: Gradients = {}
        for bijector in reversed(self):
            y, grad_y, gradients = bijector.rewind(y, grad_y, grad_logdet)
            for parameter, value in gradients.items():
                total[parameter] = total[parameter] + value if parameter in total else value
        return y, grad_y, total


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
