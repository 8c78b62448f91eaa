"""The networks inside a coupling: they make s and t, each (B, out_dim), of the half that passes (B, in_dim).

In training mode their products follow `torch.autocast`, in evaluation mode they ignore it: what is measured and edited
does not depend on the precision of training. Results have the precision of the input either way.
"""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iin_lightning.errors import ConfigError

NEGATIVE_SLOPE = 0.01


class Conditioner(nn.Module):
    """The paper's networks: an MLP for s and another for t, with one batched matrix product a layer for both.

    Each is ``in -> hidden``, ``depth`` times ``hidden -> hidden``, ``hidden -> out``, with LeakyReLU (slope 0.01)
    between. Weights and biases start as those of `torch.nn.Linear`: uniform within 1/sqrt(fan in).

    Raises:
        ConfigError: a width is below 1, or ``depth`` below 0.

    Example:
        >>> s, t = Conditioner(3, 4, hidden=16, depth=1)(torch.randn(5, 3))
        >>> s.shape, t.shape
        (torch.Size([5, 4]), torch.Size([5, 4]))
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: int, depth: int) -> None:
        super().__init__()
        _check(in_dim, out_dim, hidden, depth)
        self.in_dim, self.out_dim, self.hidden, self.depth = in_dim, out_dim, hidden, depth
        shapes = list(pairwise([in_dim, *[hidden] * (depth + 1), out_dim]))
        self.weights = nn.ParameterList(torch.empty(2, *shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.empty(2, out) for _, out in shapes)
        for weight, bias in zip(self.weights, self.biases):
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Make s and t, stacked as (2, B, out_dim), of x (B, in_dim)."""
        h = x.expand(2, -1, -1)
        with _precision(self, x):
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                if layer > 0:
                    h = F.leaky_relu(h, NEGATIVE_SLOPE, inplace=True)  # h is a product that nothing else reads
                h = torch.baddbmm(bias.unsqueeze(1), h, weight)
        return h.to(x.dtype)

    def __repr__(self) -> str:
        # One line; torch would list every parameter.
        return f"{type(self).__name__}({self.in_dim} -> {self.hidden} x {self.depth + 1} -> 2 x {self.out_dim})"


class ResidualConditioner(nn.Module):
    """A single network for s and t: a linear layer, ``depth`` residual blocks, and a linear layer that starts at zero.

    A block is ``h + Linear(GELU(Linear(LayerNorm(h))))`` whose last layer starts at zero, too: both outputs are 0
    before training, and early steps are those of a shallow network. The LayerNorm before the last layer bounds both
    outputs: far from the data, where nothing has taught them, they stay what they are at its edge.

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
        widths = f"{self.first.in_features} -> {self.first.out_features} x {len(self.blocks)} -> 2 x"
        return f"{type(self).__name__}({widths} {self.last.out_features // 2})"


def _precision(module: nn.Module, x: Tensor) -> AbstractContextManager[Any]:
    return nullcontext() if module.training else torch.autocast(x.device.type, enabled=False)


def _check(in_dim: int, out_dim: int, hidden: int, depth: int) -> None:
    if min(in_dim, out_dim, hidden) < 1 or depth < 0:
        raise ConfigError(
            "A conditioner needs widths of at least 1 and a depth of at least 0, but got "
            f"in_dim={in_dim}, out_dim={out_dim}, hidden={hidden}, depth={depth}."
        )
