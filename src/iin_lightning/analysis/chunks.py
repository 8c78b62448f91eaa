"""Many examples through a network, without the memory of all at once."""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 500  # examples that go through a network at once


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """``function(rows)`` of rows (n, ...), n >= 1, where no row depends on another.

    Example:
        >>> in_chunks(lambda part: part.sum(1), torch.ones(1001, 2)).shape
        torch.Size([1001])
    """
    return torch.cat([function(part) for part in rows.split(CHUNK)])
