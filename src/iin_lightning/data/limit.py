"""A part of a split for a quick look."""

import torch
from torch import Tensor

from iin_lightning.seeding import generator


def choose(labels: Tensor, limit: int, seed: int, by: int | None = None) -> Tensor:
    """At most ``limit`` items, drawn by seed, in their order.

    Args:
        labels: long (n, K).
        limit: at least 1.
        seed: of the draw.
        by: a column; items that are equal in it come together or not at all, so that pairs survive. The first group
            drawn is taken whatever its size.

    Returns:
        Items (m,), ascending.

    Example:
        >>> look = torch.tensor([[0], [1], [0], [1], [2]])
        >>> look[choose(look, 3, seed=0, by=0), 0].bincount().tolist() in ([2], [2, 0, 1], [0, 2], [0, 2, 1])
        True
    """
    key = generator(seed, "limit")
    if by is None:
        return torch.randperm(len(labels), generator=key)[:limit].sort().values
    _, group, sizes = labels[:, by].unique(return_inverse=True, return_counts=True)
    drawn = torch.randperm(len(sizes), generator=key)
    fits = sizes[drawn].cumsum(0) <= limit
    fits[0] = True
    taken = torch.zeros(len(sizes), dtype=torch.bool)
    taken[drawn[fits]] = True
    return taken[group].nonzero()[:, 0]
