"""Which of the processes of a distributed run this is, before any trainer knows."""

import os


def is_main_process() -> bool:
    """Whether this process writes files and holds locks: the only one, or the first of the first node.

    Example:
        >>> is_main_process()
        True
    """
    # RANK is torchrun's and SLURM_PROCID is SLURM's number among all; Lightning's own launcher sets the other two.
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))
