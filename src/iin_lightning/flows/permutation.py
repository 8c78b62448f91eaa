"""Fixed permutations of the dimensions, which let the next coupling split them another way."""

from collections.abc import Sequence

import torch
from torch import Tensor

from iin_lightning.errors import ShapeError
from iin_lightning.flows.base import Bijector


class Permutation(Bijector):
    """Reorder the dimensions: ``y_i = x_index[i]``, ``logdet = 0``.

    Args:
        index: a permutation of 0, ..., N-1; a buffer, saved with the weights that were trained behind it.

    Raises:
        ShapeError: ``index`` is not a permutation.

    Example:
        >>> permutation = Permutation([2, 0, 1])
        >>> y, logdet = permutation(torch.tensor([[10.0, 20.0, 30.0]]))
        >>> y
        tensor([[30., 10., 20.]])
        >>> permutation.inverse(y)[0]
        tensor([[10., 20., 30.]])
    """

    index: Tensor

    def __init__(self, index: Sequence[int] | Tensor) -> None:
        super().__init__()
        index = torch.as_tensor(index, dtype=torch.long).clone()
        if index.ndim != 1 or not torch.equal(index.sort().values, torch.arange(len(index))):
            raise ShapeError(f"A permutation holds each of 0, ..., N-1 once, got {_elide(index.flatten().tolist())}.")
        self.register_buffer("index", index)

    @classmethod
    def random(cls, dim: int, generator: torch.Generator) -> "Permutation":
        """Draw one of the ``dim!`` permutations, each as likely as any other.

        Example:
            >>> Permutation.random(5, torch.Generator().manual_seed(0)).index.sort().values
            tensor([0, 1, 2, 3, 4])
        """
        return cls(torch.randperm(dim, generator=generator))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gather the dimensions of x (B, N)."""
        return x.index_select(1, self.index), x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Scatter the dimensions of y (B, N)."""
        return y.index_copy(1, self.index, y), y.new_zeros(y.shape[0])

    def extra_repr(self) -> str:
        """Show the beginning of the index."""
        return _elide(self.index.tolist())


def _elide(index: list[int]) -> str:
    shown = ", ".join(map(str, index[:8]))
    return f"[{shown}, ...]" if len(index) > 8 else f"[{shown}]"
