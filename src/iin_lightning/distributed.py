"""Which of the processes of a distributed run this is, before any trainer knows, and how they meet without one."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
from torch import distributed as dist

from iin_lightning.errors import ConfigError

PATIENCE = timedelta(days=2)
"""For the first process, which may have to train what all of them need."""

JOB = "IIN_LIGHTNING_JOB"
"""The variable that Lightning's launcher hands from the first process to those that it starts."""


def is_main_process() -> bool:
    """Say whether this process writes files and holds locks: the only process, or the first of the first node.

    Example:
        >>> is_main_process()
        True
    """
    # RANK is torchrun's, SLURM_PROCID is SLURM's and the last one submitit's number among all; Lightning's own launcher
    # sets the other two.
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "SUBMITIT_LOCAL_GLOBALID")
    return all(int(os.environ.get(name, "0")) == 0 for name in names)


def under_srun() -> bool:
    """Say whether SLURM started this process as a task of a step; not in a shell that srun opened to type in."""
    # Lightning goes by the names; a task has no terminal either.
    typed = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") or (
        sys.stdin is not None and sys.stdin.isatty()
    )
    return "SLURM_STEP_ID" in os.environ and not typed


def under_submitit() -> bool:
    """Say whether submitit started this process on this machine, as SLURM would."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "local"


def join(devices: Any, num_nodes: int) -> None:
    """Take this process's place among those that torchrun, srun or submitit have started. Call it before training.

    Both arguments are the trainer's. Lightning knows torchrun and SLURM, and is told of submitit.

    Raises:
        ConfigError: the trainer wants another number of processes than were started.
    """
    job_name()  # before there are others who could ask for it
    if dist.is_torchelastic_launched():
        starter, started = "torchrun", int(os.environ["WORLD_SIZE"])
    elif under_srun():
        starter, started = "srun", int(os.environ.get("SLURM_NTASKS", "1"))
    elif under_submitit():
        starter, started = "submitit", int(os.environ["SUBMITIT_LOCAL_NTASKS"])
    else:
        return
    if isinstance(devices, int) and devices > 0 and devices * num_nodes != started:
        raise ConfigError(
            f"{starter} has started {started} processes, but trainer.devices={devices} on trainer.num_nodes="
            f"{num_nodes} machines makes {devices * num_nodes}: choose trainer=ddp or trainer=ddp_cpu and set both as "
            "they were started."
        )
    if starter == "submitit" and started > 1:
        from submitit.helpers import TorchDistributedEnvironment  # noqa: PLC0415  of an extra

        # Whoever submitted the job may be one of several processes, too.
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def job_name() -> str:
    """Return a name of this run's processes that all of them know, and nobody else has, not even their next attempt.

    Raises:
        ConfigError: they were started by hand, so that nobody knows who belongs together.
    """
    if dist.is_torchelastic_launched():
        return agreed(f"name {os.environ['TORCHELASTIC_RESTART_COUNT']}", lambda: uuid4().hex)
    if under_srun():
        parts = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        return ".".join(["slurm", *(os.environ.get(part, "0") for part in parts)])
    if under_submitit():
        return f"submitit {os.environ['SUBMITIT_FOLDER']} {os.environ['SUBMITIT_LOCAL_JOB_ID']}"
    own = f"{os.getpid()} "  # a name that does not begin so is that of a process that has started this one
    if is_main_process() and not os.environ.get(JOB, "").startswith(own):
        os.environ[JOB] = own + uuid4().hex
    if JOB not in os.environ:
        raise ConfigError(
            "This process is one of several that were started by hand: let torchrun or srun start them, on several "
            "machines, too."
        )
    return os.environ[JOB]


def agreed(what: str, make: Callable[[], str]) -> str:
    """Return what the first of the processes that torchrun started makes, in all of them and after a restart.

    Raises:
        ConfigError: torchrun keeps no store in which they could agree.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # noqa: PLC0415  not in every build of torch

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise ConfigError(
            "The processes that torchrun has started cannot agree on a folder without its store: start them with "
            "--rdzv-backend=c10d or static, and without TORCH_DISABLE_SHARE_RDZV_TCP_STORE."
        )
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(minutes=10))
    key = f"iin_lightning {what}"
    if is_main_process() and not store.check([key]):
        store.set(key, make())
    return store.get(key).decode()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Let the processes that torchrun started be a group within the block, each on its device, and wait for the last.

    A process that it did not start is alone, and has no group.
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
