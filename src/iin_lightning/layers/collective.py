"""What the processes of a distributed run have together; where there is one process, it is its own."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of processes that train together.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of what all processes hold, without gradient. Every process must call it.

    Args:
        x: of the same shape in each; it is not changed.

    Example:
        >>> sum_over_ranks(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    x = x.detach()
    if world_size() > 1:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
    return x


def count_over_ranks(count: int, device: torch.device) -> int:
    """The sum of what all processes count. Every process must call it; the host waits for the device."""
    return count if world_size() == 1 else int(sum_over_ranks(torch.tensor(count, device=device)))


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of what all processes hold, without gradient: see ``sum_over_ranks``."""
    return sum_over_ranks(x) / world_size() if world_size() > 1 else x.detach()


def mean_over_batch(x: Tensor) -> Tensor:
    """The mean of numbers (B,), one a row of the batch, over the rows of all processes, without gradient.

    Args:
        x: of the rows of this process, whose number may differ between processes.
    """
    if world_size() == 1:
        return x.detach().mean()
    total, count = sum_over_ranks(torch.stack([x.sum(), x.new_tensor(len(x))]))
    return total / count


def rank() -> int:
    """The number of this process among those that train together."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(x: Tensor) -> Tensor:
    """The rows of all processes, those of process 0 first, with gradient. Every process must call it, and go back.

    Args:
        x: (B, ...), of the same shape in each.

    Returns:
        (B * world size, ...). The gradient of a row is the sum of those that all processes have for it.

    Example:
        >>> gather_rows(torch.tensor([[1.0], [2.0]])).tolist()
        [[1.0], [2.0]]
    """
    return _Gather.apply(x) if world_size() > 1 else x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return sum_over_ranks(grad).chunk(world_size())[rank()]
