"""ActNorm as a bijection."""

import torch
from torch import Tensor

from iin_lightning.flows.base import Bijector
from iin_lightning.layers.actnorm import ActNormalization


class ActNorm(Bijector):
    """Scale and shift each dimension: ``y = exp(log_scale) * (x + loc)``, ``logdet = sum_i log_scale_i``.

    The first batch that goes *forward* in training mode sets both parameters, so that it comes out with mean
    0 and deviation 1; see `ActNormalization` for when this happens and when not. The inverse never does.

    Args:
        dim: N.

    References:
        Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", 2018,
        arXiv 1807.03039, Sec. 3.1.

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
