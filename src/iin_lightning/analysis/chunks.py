"""Many examples through a network, without the memory of all at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from iin_lightning.progress import track

CHUNK = 500  # examples that go through a network at once


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, what: str | None = None) -> Tensor:
    """Return ``function(rows)`` of n >= 1 rows, none of which depends on another; ``what`` names a progress bar."""
    parts = rows.split(CHUNK)
    return torch.cat([function(part) for part in (parts if what is None else track(parts, what))])
