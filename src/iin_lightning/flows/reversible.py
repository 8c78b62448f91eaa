"""Training with memory that does not grow with depth: activations are computed again from outputs, not kept."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from iin_lightning.flows.base import Bijector


# Not for torch.compile: it would break into several graphs, and CUDA graphs overwrite what an earlier graph returned.
def run_reversibly(bijector: Bijector, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``bijector(x)`` for training and keep only its output; the backward pass is `Bijector.rewind`.

    Gradients are those of plain autograd up to the rounding of the round trip ``inverse(forward(x))``. They cannot be
    differentiated again.

    References:
        Gomez, Ren, Urtasun and Grosse, "The Reversible Residual Network: Backpropagation Without Storing
        Activations", 2017, arXiv 1707.04585, Sec. 3.
    """
    y, logdet = _Reversible.apply(bijector, x, *bijector.parameters())
    return y, logdet


class _Reversible(torch.autograd.Function):
    # Parameters are arguments, so that autograd and its hooks (those of distributed training) see their gradients.

    @staticmethod
    def forward(ctx: Any, bijector: Bijector, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        device = x.device.type
        ctx.bijector = bijector
        # The way back repeats the forward pass in its precision; a cache would keep the casts of all blocks.
        ctx.precision = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
            "cache_enabled": False,
        }
        with torch.autocast(**ctx.precision):
            y, logdet = bijector(x)
        # Saved parameters let autograd complain where an optimizer changes them before the backward pass.
        ctx.save_for_backward(y, *parameters)
        return y, logdet

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
        y, *parameters = ctx.saved_tensors
        with torch.autocast(**ctx.precision):
            _, grad_x, gradients = ctx.bijector.rewind(y.detach(), grad_y, grad_logdet)
        return None, grad_x, *(gradients.get(parameter) for parameter in parameters)
