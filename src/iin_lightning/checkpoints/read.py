"""A checkpoint file from elsewhere, read without running what it holds."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iin_lightning.errors import CheckpointError

MODEL = "model"


class Checkpoint(NamedTuple):
    """What a file of the authors' holds.

    Attributes:
        tensors: the state dict of the network, on the CPU.
        rest: names of what else is in the file, which is not converted: loss (the discriminator), optimizer.
        step: training steps, by the file's name ``model-<step>.ckpt``; None if it says none.
        sha256: of the file, 64 hexadecimal digits.
    """

    tensors: dict[str, Tensor]
    rest: tuple[str, ...]
    step: int | None
    sha256: str


def read(path: Path) -> Checkpoint:
    """Read a file of ``torch.save``: a state dict, or one under ``model`` beside other things.

    Containers of before torch 1.6 (the published files are of 1.4) and tensors of a GPU are read, too.

    Args:
        path: ``logs/<run>/train/checkpoints/model-<step>.ckpt``, say.

    Raises:
        CheckpointError: there is no file, it is damaged, holds objects (which could run code), or no state dict.
    """
    if not path.is_file():
        found = sorted(p.name for p in path.glob("*.ckpt"))[:8] if path.is_dir() else []
        raise CheckpointError(
            f"{path} is no file: name a checkpoint of the authors' training, logs/<run>/train/checkpoints/"
            f"model-<step>.ckpt{f' (this folder has {found})' if found else ''}."
        )
    content = _load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    nested = isinstance(content.get(MODEL), Mapping)
    tensors = content[MODEL] if nested else content
    odd = [str(name) for name, value in tensors.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd or not tensors:
        raise CheckpointError(
            f"{path} holds no state dict, alone or under {MODEL!r}: "
            + (f"no tensors are {listed(odd)}." if odd else "it is empty.")
        )
    step = re.search(r"-(\d+)$", path.stem)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rest = tuple(str(name) for name in content if name != MODEL) if nested else ()
    return Checkpoint(dict(tensors), rest, int(step[1]) if step else None, digest)


def listed(names: list[str], most: int = 8) -> str:
    """Names for a sentence, at most so many of them.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _load(path: Path) -> Any:
    try:
        # Without map_location a file of a GPU cannot be read where there is none.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way
        if (name := re.search(r"GLOBAL (\S+)", str(error))) is not None:
            raise CheckpointError(
                f"{path} holds {name[1]} beside tensors and plain values. Loading it could run code of whoever wrote "
                "the file, so it is not read: save the state dict alone where you trust it."
            ) from error
        reason = str(error).splitlines()[0] if isinstance(error, RuntimeError | OSError) else type(error).__name__
        raise CheckpointError(
            f"{path} is no file of torch.save, or damaged ({reason}): copy or download it again."
        ) from error
