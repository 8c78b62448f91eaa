"""The networks inside a coupling: several independent MLPs of one shape, run as one."""

from contextlib import nullcontext
from itertools import pairwise

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
        zero_init: start the last layer at zero, so that all heads return 0 before training.

    Raises:
        ConfigError: a width or ``heads`` is below 1, or ``depth`` below 0.

    Example:
        >>> s, t = Conditioner(3, 4, hidden=16, depth=1)(torch.randn(5, 3))
        >>> s.shape, t.shape
        (torch.Size([5, 4]), torch.Size([5, 4]))
    """

    def __init__(
        self, in_dim: int, out_dim: int, hidden: int, depth: int, *, heads: int = 2, zero_init: bool = False
    ) -> None:
        super().__init__()
        if min(in_dim, out_dim, hidden, heads) < 1 or depth < 0:
            raise ConfigError(
                "A conditioner needs widths and heads of at least 1 and a depth of at least 0, but got "
                f"in_dim={in_dim}, out_dim={out_dim}, hidden={hidden}, heads={heads}, depth={depth}."
            )
        self.in_dim, self.out_dim, self.hidden, self.depth = in_dim, out_dim, hidden, depth
        self.heads, self.zero_init = heads, zero_init
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
        if self.zero_init:
            nn.init.zeros_(self.weights[-1])
            nn.init.zeros_(self.biases[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Run all heads on x (B, in_dim); returns (heads, B, out_dim)."""
        h = x.expand(self.heads, -1, -1)
        with nullcontext() if self.training else torch.autocast(x.device.type, enabled=False):
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                if layer > 0:
                    h = F.leaky_relu(h, NEGATIVE_SLOPE, inplace=True)  # its own product, which nobody else reads
                h = torch.baddbmm(bias.unsqueeze(1), h, weight)
        return h.to(x.dtype)

    def __repr__(self) -> str:
        # A line a coupling; torch would list every parameter.
        widths = f"{self.in_dim} -> {self.hidden} x {self.depth + 1} -> {self.out_dim}"
        return f"{type(self).__name__}({widths}, heads={self.heads})"
