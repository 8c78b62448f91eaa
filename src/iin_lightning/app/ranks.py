"""Which of the processes of a distributed run this is, before any trainer knows, and how they meet without one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

PATIENCE = timedelta(days=2)
"""For the first process, which may have to train what all of them need."""


def is_main_process() -> bool:
    """Whether this process writes files and holds locks: the only one, or the first of the first node.

    Example:
        >>> is_main_process()
        True
    """
    # RANK is torchrun's and SLURM_PROCID is SLURM's number among all; Lightning's own launcher sets the other two.
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Let the processes that torchrun started wait for one another and be one group within the block.

    A process that it did not start is alone, and has no group.

    Args:
        device: where this one computes.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=device if on_gpu else None)
    try:
        dist.barrier()
        yield
        dist.barrier()  # else the first to leave would cut off those that still listen
    finally:
        dist.destroy_process_group()
