"""A learned rotation of all dimensions, which lets the next coupling split them along directions of its choice."""

import torch
from torch import Tensor, nn

from iin_lightning.errors import ShapeError
from iin_lightning.flows.base import Bijector


class Rotation(Bijector):
    """Turn by a learned rotation, which starts as a random one: ``y = Q x``, ``logdet = 0``.

    ``Q = (I + A)^-1 (I - A)`` with ``A = U - U^T`` of a learned strictly upper triangular U, the Cayley map. Q is
    orthogonal whatever U is, so that its inverse is its transpose and no training makes it lose precision, as a free
    matrix does; scales are for ActNorm to learn. Products run in the precision of x, under `torch.autocast`, too.

    Args:
        dim: N.
        generator: where U is drawn from, independent N(0, 1/N).

    Raises:
        ShapeError: ``dim`` is below 1.

    References:
        Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", 2018, arXiv 1807.03039, Sec. 3.2;
        Golinski, Lezcano-Casado and Rainforth, "Improving Normalizing Flows via Better Orthogonal Parameterizations",
        2019.

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
        upper = upper if upper.dtype == torch.float64 else upper.float()  # nothing smaller is solved
        skew, eye = upper - upper.T, torch.eye(len(upper), dtype=upper.dtype, device=upper.device)
        # I + A is never singular, and to look for an error would make the host wait for a GPU.
        return torch.linalg.solve_ex(eye + skew, eye - skew)[0].to(self.turn.dtype)

    def extra_repr(self) -> str:
        """Show the dimension."""
        return f"dim={len(self.turn)}"
