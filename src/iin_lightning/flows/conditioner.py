"""The networks inside a coupling: what makes s and t (each (B, out_dim)) of the half that passes (B, in_dim)."""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iin_lightning.errors import ConfigError

NEGATIVE_SLOPE = 0.01


class Conditioner(nn.Module):
    """Independent MLPs of equal shape on the same input, as one batched matrix product a layer.

    Each head is ``in -> hidden``, ``depth`` times ``hidden -> hidden``, ``hidden -> out``, with LeakyReLU
    (slope 0.01) between; no head sees the weights of another. Weights and biases start as those of
    `torch.nn.Linear` do: uniform within 1/sqrt(fan in).

    In training mode the products follow `torch.autocast`, in evaluation mode they do not: what is measured and edited
    does not depend on the precision of training. The result has the input's precision either way.

    Args:
        in_dim: dimension of the input.
        out_dim: dimension of the output of each head.
        hidden: width of the hidden layers.
        depth: number of hidden-to-hidden layers, may be 0.
        heads: number of networks.

    Raises:
        ConfigError: a width or ``heads`` is below 1, or ``depth`` below 0.

    Example:
        >>> s, t = Conditioner(3, 4, hidden=16, depth=1)(torch.randn(5, 3))
        >>> s.shape, t.shape
        (torch.Size([5, 4]), torch.Size([5, 4]))
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: int, depth: int, *, heads: int = 2) -> None:
        super().__init__()
        _check(in_dim, out_dim, hidden, depth, heads)
        self.in_dim, self.out_dim, self.hidden, self.depth, self.heads = in_dim, out_dim, hidden, depth, heads
        widths = [in_dim, *[hidden] * (depth + 1), out_dim]
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(torch.empty(heads, *shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.empty(heads, out) for _, out in shapes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        for weight, bias in zip(self.weights, self.biases):
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Run all heads on x (B, in_dim); returns (heads, B, out_dim)."""
        h = x.expand(self.heads, -1, -1)
        with _precision(self, x):
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                if layer > 0:
                    h = F.leaky_relu(h, NEGATIVE_SLOPE, inplace=True)  # its own product, which nobody else reads
                h = torch.baddbmm(bias.unsqueeze(1), h, weight)
        return h.to(x.dtype)

    def __repr__(self) -> str:
        # A line a coupling; torch would list every parameter.
        widths = f"{self.in_dim} -> {self.hidden} x {self.depth + 1} -> {self.out_dim}"
        return f"{type(self).__name__}({widths}, heads={self.heads})"


class ResidualConditioner(nn.Module):
    """One network for s and t: a linear layer, residual blocks, and a linear layer that starts at zero.

    A block is ``h + Linear(GELU(Linear(LayerNorm(h))))`` and starts as the identity, since its last layer starts at
    zero, too. So both outputs are 0 before training, and early steps are those of a shallow network. Another LayerNorm
    before the last layer bounds both: far from the data, where nothing has taught them, they stay what they are at its
    edge instead of growing without end. Precision is as in `Conditioner`.

    Args:
        in_dim: dimension of the input.
        out_dim: dimension of s, and of t.
        hidden: width of all layers.
        depth: number of blocks, may be 0.

    Raises:
        ConfigError: a width is below 1, or ``depth`` below 0.

    Example:
        >>> s, t = ResidualConditioner(3, 4, hidden=16, depth=1)(torch.randn(5, 3))
        >>> s.shape, t.abs().max().item()
        (torch.Size([5, 4]), 0.0)
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: int, depth: int) -> None:
        super().__init__()
        _check(in_dim, out_dim, hidden, depth)
        self.first = nn.Linear(in_dim, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(hidden)
        self.last = nn.Linear(hidden, 2 * out_dim)
        for layer in (self.last, *(cast(nn.Sequential, block)[-1] for block in self.blocks)):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Make s and t, each (B, out_dim), of x (B, in_dim)."""
        with _precision(self, x):
            h = self.first(x)
            for block in self.blocks:
                h = h + block(h)
            s, t = self.last(F.gelu(self.norm(h))).to(x.dtype).chunk(2, dim=1)
        return s, t

    def __repr__(self) -> str:
        # A line a coupling, as above.
        widths = f"{self.first.in_features} -> {self.first.out_features} x {len(self.blocks)} -> 2 x"
        return f"{type(self).__name__}({widths} {self.last.out_features // 2})"


def _precision(module: nn.Module, x: Tensor) -> AbstractContextManager[Any]:
    return nullcontext() if module.training else torch.autocast(x.device.type, enabled=False)


def _check(in_dim: int, out_dim: int, hidden: int, depth: int, heads: int = 1) -> None:
    if min(in_dim, out_dim, hidden, heads) < 1 or depth < 0:
        raise ConfigError(
            "A conditioner needs widths and heads of at least 1 and a depth of at least 0, but got "
            f"in_dim={in_dim}, out_dim={out_dim}, hidden={hidden}, heads={heads}, depth={depth}."
        )
