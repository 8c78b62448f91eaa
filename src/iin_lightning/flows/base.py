"""The contract of a bijection, and the chain of several.

Symbols: x and y are the input and output of a bijection, z (B, N) is a latent of the explained network
and z̃ = T(z) its translation. Each direction returns its value and logdet (B,), the logarithm of the absolute
determinant of *its own* Jacobian, in nats.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

Gradients = dict[nn.Parameter, Tensor]
"""The gradients of a scalar with respect to parameters that require them."""


class Bijector(nn.Module, ABC):
    """An invertible map of R^N.

    A subclass promises that ``inverse(forward(x))`` is x, that the two log-determinants add up to zero, and that no
    example of a batch depends on another (except where `ActNorm` takes its start from the first batch).
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, N) to y (B, N) and log|det ∂y/∂x| (B,)."""

    @abstractmethod
    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y (B, N) back to x (B, N) and log|det ∂x/∂y| (B,)."""

    def rewind(self, y: Tensor, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor, Tensor, Gradients]:
        """Go back from y (B, N) to x (B, N) and differentiate on the way, where the forward pass kept no activations.

        Given the gradients of a loss at the outputs of ``forward``, ``grad_y`` (B, N) and ``grad_logdet`` (B,), return
        x, the gradient at x (B, N), and those of the parameters. A subclass overrides this where its two directions can
        share work.
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
    """Back-propagate ``grad_outputs``; return the gradients at the inputs and at the parameters of the module."""
    # autograd refuses an output without a graph, such as the log-determinant of a permutation.
    ends, grads = zip(*((value, grad) for value, grad in zip(outputs, grad_outputs) if value.requires_grad))
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    values = torch.autograd.grad(ends, [*inputs, *learned], grads, allow_unused=True)
    gradients = {parameter: value for parameter, value in zip(learned, values[len(inputs) :]) if value is not None}
    return values[: len(inputs)], gradients


class Chain(Bijector):
    """Bijectors in sequence: ``y = f_n(... f_2(f_1(x)))``, log-determinants add.

    Given as f_1, ..., f_n, or as a mapping in that order whose names become those of the parameters.

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
        # Not children(), which yields a bijector that comes twice only once.
        return iter(cast(Iterable[Bijector], self._modules.values()))

    def __reversed__(self) -> Iterator[Bijector]:
        return reversed(list(self))

    def __len__(self) -> int:
        return len(self._modules)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run all bijectors from the first to the last."""
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
        """Rewind all bijectors from the last to the first: only a single graph exists at a time."""
        total: Gradients = {}
        for bijector in reversed(self):
            y, grad_y, gradients = bijector.rewind(y, grad_y, grad_logdet)
            for parameter, value in gradients.items():
                total[parameter] = total[parameter] + value if parameter in total else value
        return y, grad_y, total
