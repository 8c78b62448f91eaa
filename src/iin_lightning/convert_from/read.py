"""A checkpoint file from elsewhere, read without running what it holds."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from iin_lightning.bounded import read_torch
from iin_lightning.errors import CheckpointError, listed

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
    content = read_torch(path)
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
