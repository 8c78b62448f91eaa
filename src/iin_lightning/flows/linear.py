"""The linear layers between couplings: ActNorm scales, a permutation or a rotation mixes the dimensions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iin_lightning.errors import ShapeError
from iin_lightning.flows.base import Bijector
from iin_lightning.layers.actnorm import ActNormalization


class ActNorm(Bijector):
    """Scale and shift each of N dimensions: ``y = exp(log_scale) * (x + loc)``, ``logdet = sum_i log_scale_i``.

    The first batch that goes *forward* in training mode sets both parameters, so that it comes out with mean 0 and
    deviation 1; `ActNormalization` lists the exceptions. The inverse never sets them.

    References:
        Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", 2018, arXiv 1807.03039, Sec. 3.1.

    Example:
        >>> actnorm = ActNorm(2)
        >>> y, logdet = actnorm(torch.tensor([[0.0, 1.0], [4.0, 1.5], [8.0, 2.0]]))
        >>> y.round(decimals=3).tolist()
        [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
        >>> logdet.exp()  # 1 / (4 * 0.5)
        tensor([0.5000, 0.5000, 0.5000]...)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = ActNormalization(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise x (B, N)."""
        y = self.layer(x)
        return y, self.layer.log_scale.sum().expand(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the normalisation of y (B, N)."""
        log_scale = self.layer.log_scale
        return y * torch.exp(-log_scale) - self.layer.loc, -log_scale.sum().expand(y.shape[0])


class Permutation(Bijector):
    """Reorder the dimensions by a fixed permutation of 0, ..., N-1: ``y_i = x_index[i]``, ``logdet = 0``.

    The index is a buffer and travels with the weights that were trained behind it.

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
            raise ShapeError(f"A permutation holds each of 0, ..., N-1 once, got {index.flatten().tolist()}.")
        self.register_buffer("index", index)

    @classmethod
    def random(cls, dim: int, generator: torch.Generator) -> "Permutation":
        """Draw from the ``dim!`` permutations uniformly."""
        return cls(torch.randperm(dim, generator=generator))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gather the dimensions of x (B, N)."""
        return x.index_select(1, self.index), x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Scatter the dimensions of y (B, N)."""
        return y.index_copy(1, self.index, y), y.new_zeros(y.shape[0])

    def extra_repr(self) -> str:
        """Show the dimension."""
        return f"dim={len(self.index)}"


class Rotation(Bijector):
    """Turn by a learned rotation, which starts as a random one: ``y = Q x``, ``logdet = 0``.

    ``Q = (I + A)^-1 (I - A)`` with ``A = U - U^T`` of a learned strictly upper triangular U (the Cayley map), drawn
    from N(0, 1/N). Q is orthogonal whatever U is: its inverse is its transpose, and training cannot make it lose
    precision, as it can a free matrix; scales are for ActNorm to learn. Products keep the precision of x under
    `torch.autocast`.

    Raises:
        ShapeError: ``dim`` is below 1.

    References:
        Kingma and Dhariwal (above), Sec. 3.2; Golinski, Lezcano-Casado and Rainforth, "Improving Normalizing Flows via
        Better Orthogonal Parameterizations", 2019.

    Example:
        >>> rotation = Rotation(3, torch.Generator().manual_seed(0))
        >>> x = torch.randn(5, 3)
        >>> y, logdet = rotation(x)
        >>> torch.allclose(y.norm(dim=1), x.norm(dim=1)), logdet
        (True, tensor([0., 0., 0., 0., 0.]))
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        if dim < 1:
            raise ShapeError(f"A rotation needs at least 1 dimension, got dim={dim}.")
        self.turn = nn.Parameter(torch.randn(dim, dim, generator=generator) * dim**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn x (B, N)."""
        with torch.autocast(x.device.type, enabled=False):
            return x @ self._matrix().T, x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Turn y (B, N) back."""
        with torch.autocast(y.device.type, enabled=False):
            return y @ self._matrix(), y.new_zeros(y.shape[0])

    def _matrix(self) -> Tensor:
        upper = self.turn.triu(1)
        upper = upper if upper.dtype == torch.float64 else upper.float()  # torch solves in no smaller precision
        skew, eye = upper - upper.T, torch.eye(len(upper), dtype=upper.dtype, device=upper.device)
        # I + A is never singular, and to look for an error would make the host wait for a GPU.
        return torch.linalg.solve_ex(eye + skew, eye - skew)[0].to(self.turn.dtype)

    def extra_repr(self) -> str:
        """Show the dimension."""
        return f"dim={len(self.turn)}"
