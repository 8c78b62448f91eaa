"""Which of the processes of a distributed run this is, before any trainer knows."""

import os


def is_main_process() -> bool:
    """Whether this process writes files and holds locks: the only one, or the first of the first node.

    Example:
        >>> is_main_process()
        True
    """
    # As Lightning finds it out: its own launcher and torchrun set the first, SLURM the second.
    return all(int(os.environ.get(name, "0")) == 0 for name in ("LOCAL_RANK", "SLURM_LOCALID", "NODE_RANK"))
