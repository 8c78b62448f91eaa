"""What the machine refuses, said as sentences: memory, room on a disk, processes that something ended."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from iin_lightning.errors import ResourceError

# How torch says that main memory is used up, and that a process which loads batches is gone.
NO_MEMORY = ("can't allocate memory", "not enough memory")
NO_GPU_MEMORY = "CUDA error: out of memory"  # of CUDA itself; torch's own allocator has an exception for it
WORKER_GONE = "DataLoader worker"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say of the machine's failures within the block what they mean for a run, and what helps.

    Args:
        folder: of the run.

    Raises:
        ResourceError: in place of them; any other error goes through.

    Example:
        >>> with explained(Path("outputs/mine")):
        ...     raise OSError(errno.ENOSPC, "No space left on device", "cache/latents")
        Traceback (most recent call last):
        ...
        iin_lightning.errors.ResourceError: No space left on device: cache/latents. Make room there (cache/ may be ...
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(_out_of_memory(error)) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or f"the disk of {folder}"
        raise ResourceError(
            f"{error.strerror}: {where}. Make room there (cache/ may be deleted at any time), then go on with the run."
        ) from error
    except RuntimeError as error:
        text = str(error)
        if any(said in text for said in (*NO_MEMORY, NO_GPU_MEMORY)):
            raise ResourceError(_out_of_memory(error)) from error
        if text.startswith(WORKER_GONE):
            raise ResourceError(
                f"A process that loads batches was ended ({text.splitlines()[0]}), most often because memory ran out: "
                "take fewer of them (data.num_workers=0 needs none), then go on with the run."
            ) from error
        raise


def _out_of_memory(error: BaseException) -> str:
    on_gpu = isinstance(error, torch.OutOfMemoryError) or NO_GPU_MEMORY in str(error)
    where = "the GPU" if on_gpu else "main memory"
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return (
        f"There is not enough of {where} ({said}). Lower model.batch_size (trainer.accumulate_grad_batches=2 makes up "
        "for half of it) or data.eval_batch_size; a flow with flow.reversible=true keeps no activations of its blocks; "
        "on a GPU trainer.precision=bf16-mixed halves what is kept."
    )
