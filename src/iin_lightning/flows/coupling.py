"""Affine coupling: half of the dimensions is scaled and shifted by functions of the other half."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError, ShapeError, choices
from iin_lightning.flows.base import Bijector, Gradients, pull_back

Half = Literal["first", "second"]
Networks = Callable[[int, int], nn.Module]
"""Makes of dimensions (in_dim, out_dim) a module x_a (B, in_dim) -> s, t, each (B, out_dim)."""


class AffineCoupling(Bijector):
    """Transform half of the dimensions, x_b, given the other half x_a, which passes unchanged.

    ``y_b = x_b * exp(tanh s(x_a)) + t(x_a)``, ``logdet = sum_i tanh s_i(x_a)``. The tanh keeps every scale within
    (1/e, e), so that the inverse never divides by a number that training drove to zero. Under `torch.autocast` only
    the products inside s and t run in low precision, and those of the inverse never do.

    The first half has floor(N/2) dimensions, the second the rest; ``transformed`` says which is x_b. ``networks`` makes
    s and t, such as ``partial(Conditioner, hidden=512, depth=2)``.

    Raises:
        ShapeError: ``dim`` N is below 2.
        ConfigError: ``transformed`` is neither "first" nor "second".

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, arXiv 1605.08803, Eq. 7-8.

    Example:
        >>> from functools import partial
        >>> from iin_lightning.flows import Conditioner
        >>> coupling = AffineCoupling(5, "second", partial(Conditioner, hidden=16, depth=1))
        >>> x = torch.randn(3, 5)
        >>> y, logdet = coupling(x)
        >>> bool((y[:, :2] == x[:, :2]).all()), logdet.shape
        (True, torch.Size([3]))
    """

    def __init__(self, dim: int, transformed: Half, networks: Networks) -> None:
        super().__init__()
        if dim < 2:
            raise ShapeError(f"A coupling needs at least 2 dimensions to split, got dim={dim}.")
        if transformed not in get_args(Half):
            raise ConfigError(f"There is no half {transformed!r} to transform; {choices(transformed, get_args(Half))}.")
        self.dim, self.transformed = dim, transformed
        self.sizes = [dim // 2, dim - dim // 2]
        out_dim, in_dim = self.sizes if transformed == "first" else self.sizes[::-1]
        self.conditioner = networks(in_dim, out_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, then shift x_b."""
        x_a, x_b = self._split(x)
        log_scale, t = self._scale_and_shift(x_a)
        return self._merge(x_a, x_b * torch.exp(log_scale) + t), log_scale.sum(1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back, then scale back y_b."""
        y_a, y_b = self._split(y)
        with torch.autocast(y.device.type, enabled=False):
            log_scale, t = self._scale_and_shift(y_a)
        return self._merge(y_a, (y_b - t) * torch.exp(-log_scale)), -log_scale.sum(1)

    def rewind(self, y: Tensor, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor, Tensor, Gradients]:
        """Recover x and build the graph with one run of the conditioner, not two, since y_a is x_a."""
        y_a, y_b = self._split(y)
        grad_y_a, grad_y_b = self._split(grad_y)
        x_a = y_a.detach().requires_grad_()
        with torch.enable_grad():
            log_scale, t = self._scale_and_shift(x_a)
            with torch.no_grad():
                x_b = (y_b - t) * torch.exp(-log_scale)
            outputs = x_b.requires_grad_() * torch.exp(log_scale) + t, log_scale.sum(1)
        (grad_x_a, grad_x_b), gradients = pull_back(self, outputs, (grad_y_b, grad_logdet), [x_a, x_b])
        x = self._merge(x_a.detach(), x_b.detach())
        return x, self._merge(grad_y_a + grad_x_a, grad_x_b), gradients

    def _scale_and_shift(self, x_a: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.conditioner(x_a)
        return torch.tanh(s), t

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, dim=1)
        return (second, first) if self.transformed == "first" else (first, second)

    def _merge(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.transformed == "first" else [a, b], dim=1)

    def extra_repr(self) -> str:
        """Show both sizes and the half that changes."""
        return f"{self.sizes[0]} + {self.sizes[1]}, transformed={self.transformed!r}"
