"""Many examples through a network, without the memory of all at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from iin_lightning.progress import track

CHUNK = 500  # examples that go through a network at once


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, what: str | None = None) -> Tensor:
    """``function(rows)`` of rows (n, ...), n >= 1, where no row depends on another.

    Args:
        function: rows (m, ...) -> what becomes of them (m, ...).
        rows: all of them.
        what: is done with them, for a progress bar; None: it takes no time.

    Example:
        >>> in_chunks(lambda part: part.sum(1), torch.ones(1001, 2)).shape
        torch.Size([1001])
    """
    parts = rows.split(CHUNK)
    return torch.cat([function(part) for part in (parts if what is None else track(parts, what))])
