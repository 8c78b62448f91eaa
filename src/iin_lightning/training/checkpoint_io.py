"""How checkpoints reach the disk: whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from iin_lightning.bounded import read_torch
from iin_lightning.errors import ResourceError


class AtomicCheckpointIO(CheckpointIO):
    """Write beside the target, under a temporary name, and rename; read tensors and plain values alone.

    Lightning writes into the system's folder for temporary files, which is often another disk, and then copies: who
    looks meanwhile, or after a power cut, finds half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; what lay there stays until the new one is whole.

        Raises:
            ResourceError: the disk is full, or may not be written to.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # else the name could reach the disk before what it stands for
            part.replace(target)
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of some failures to write
            part.unlink(missing_ok=True)
            kept = f"the last state is still in {target}" if target.is_file() else "there is none before it"
            raise ResourceError(
                f"The state could not be written to {target} ({_reason(error)}); {kept}. Make room on that disk, then "
                "go on with the run."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU; no code in it is run.

        Raises:
            CheckpointError: it is damaged, or holds objects.
        """
        checkpoint: dict[str, Any] = read_torch(Path(path))
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """What the system said first: torch closes the file on its way out, and fails again."""
    while error.__context__ is not None:
        error = error.__context__
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).splitlines()[0]
