"""A learned linear map of all dimensions, which lets the next coupling split them along directions of its choice."""

import torch
from torch import Tensor, nn

from iin_lightning.errors import ShapeError
from iin_lightning.flows.base import Bijector


class Rotation(Bijector):
    """Multiply by a learned matrix that starts as a random rotation: ``y = W x``, ``W = P L U``.

    P is a fixed permutation, L is unit lower triangular and U upper triangular, so that the log-determinant is
    ``sum_i log|U_ii|`` and the inverse takes two triangular solves. L and U share one matrix as LAPACK stores them, but
    that its diagonal holds ``log|U_ii|``: no step of training can make W singular. Products run in the precision of x,
    under `torch.autocast`, too.

    Args:
        dim: N.
        generator: where the first rotation is drawn from, each as likely as any other.

    Raises:
        ShapeError: ``dim`` is below 1.

    References:
        Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", 2018, arXiv 1807.03039, Sec. 3.2.

    Example:
        >>> rotation = Rotation(3, torch.Generator().manual_seed(0))
        >>> x = torch.randn(5, 3)
        >>> y, logdet = rotation(x)
        >>> torch.allclose(y.norm(dim=1), x.norm(dim=1)), bool(logdet.abs().max() < 1e-6)
        (True, True)
    """

    place: Tensor
    sign: Tensor

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        if dim < 1:
            raise ShapeError(f"A rotation needs at least 1 dimension, got dim={dim}.")
        # QR of a Gaussian matrix, its signs settled, is uniform over the orthogonal matrices.
        q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
        p, lower, upper = torch.linalg.lu(q * r.diagonal().sign())
        diagonal = upper.diagonal()
        self.lu = nn.Parameter((lower.tril(-1) + upper.triu(1) + diagonal.abs().log().diag()).float())
        self.register_buffer("sign", diagonal.sign().float())
        self.register_buffer("place", p.argmax(1))  # row i of W is row place[i] of L U

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply x (B, N) by W."""
        with torch.autocast(x.device.type, enabled=False):
            lower, upper = self._factors()
            return x @ (lower @ upper)[self.place].T, self._logdet(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for x (B, N)."""
        with torch.autocast(y.device.type, enabled=False):
            lower, upper = self._factors()
            behind = torch.empty_like(y).index_copy_(1, self.place, y).T
            behind = torch.linalg.solve_triangular(lower, behind, upper=False, unitriangular=True)
            return torch.linalg.solve_triangular(upper, behind, upper=True).T, -self._logdet(y)

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = self.lu.tril(-1) + torch.eye(len(self.lu), dtype=self.lu.dtype, device=self.lu.device)
        return lower, self.lu.triu(1) + torch.diag(self.sign * self.lu.diagonal().exp())

    def _logdet(self, x: Tensor) -> Tensor:
        return self.lu.diagonal().sum().expand(len(x))

    def extra_repr(self) -> str:
        """Show the dimension."""
        return f"dim={len(self.lu)}"
