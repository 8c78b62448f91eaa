"""Training with memory that does not grow with depth: inputs are computed again from outputs, not kept."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from iin_lightning.flows.base import Bijector


# Compiled, it would fall into pieces, and CUDA graphs write over what one of them returned.
def run_reversibly(bijector: Bijector, x: Tensor) -> tuple[Tensor, Tensor]:
    """``bijector(x)`` for training, of which the output alone is kept until gradients are asked for.

    They are those of plain autograd but for what the way back loses to rounding: nothing to speak of while the round
    trip ``inverse(forward(x))`` is good. They cannot be differentiated again.

    Args:
        bijector: goes back by `Bijector.rewind`, a `Chain` part by part.
        x: (B, N).

    References:
        Gomez, Ren, Urtasun and Grosse, "The Reversible Residual Network: Backpropagation Without Storing
        Activations", 2017, arXiv 1707.04585, Sec. 3.

    Example:
        >>> from iin_lightning.flows import Translator
        >>> chain, x = Translator(4, n_blocks=2, hidden=8).blocks, torch.randn(5, 4)
        >>> y, logdet = run_reversibly(chain, x)
        >>> torch.equal(y, chain(x)[0])
        True
    """
    y, logdet = _Reversible.apply(bijector, x, *bijector.parameters())
    return y, logdet


class _Reversible(torch.autograd.Function):
    # The parameters are arguments, so that autograd and its hooks (those of distributed training) see their gradients.

    @staticmethod
    def forward(ctx: Any, bijector: Bijector, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        device = x.device.type
        ctx.bijector = bijector
        # The way back repeats the way there, so in its precision. Each weight is cast once a way: a cache would hold
        # the casts of all blocks.
        ctx.precision = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
            "cache_enabled": False,
        }
        with torch.autocast(**ctx.precision):
            y, logdet = bijector(x)
        # Parameters are saved for autograd to say so if an optimizer changed them before the way back.
        ctx.save_for_backward(y, *parameters)
        return y, logdet

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
        y, *parameters = ctx.saved_tensors
        with torch.autocast(**ctx.precision):
            _, grad_x, gradients = ctx.bijector.rewind(y.detach(), grad_y, grad_logdet)
        return None, grad_x, *(gradients.get(parameter) for parameter in parameters)
