"""Sums, means and rows over the processes of a distributed run; a single process is all of them.

Every process must call these functions. None has a gradient except `gather_rows`.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among those that train together."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of the processes' tensors, which have the same shape; x itself is not changed."""
    x = x.detach()
    if world_size() > 1:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
    return x


def count_over_ranks(count: int, device: torch.device) -> int:
    """Return the sum of the processes' counts; the host waits for the device."""
    return count if world_size() == 1 else int(sum_over_ranks(torch.tensor(count, device=device)))


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of the processes' tensors, see `sum_over_ranks`."""
    return sum_over_ranks(x) / world_size() if world_size() > 1 else x.detach()


def mean_over_batch(x: Tensor) -> Tensor:
    """Return the mean of numbers (B,) over the rows of all processes, which may differ in B."""
    if world_size() == 1:
        return x.detach().mean()
    total, count = sum_over_ranks(torch.stack([x.sum(), x.new_tensor(len(x))]))
    return total / count


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows (B * world size, ...) of the processes' tensors (B, ...), those of process 0 first.

    The gradient of a row is the sum of the gradients that all processes have for it, so all must go back.
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
