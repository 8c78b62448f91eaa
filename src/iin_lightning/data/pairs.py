"""Pairs that share one concept and are independent otherwise: p(x_a, x_b | F), drawn without a loop.

Sorting the items by their label of concept k puts those that share it into one range. A partner of an anchor is then
one random number in the anchor's range, the anchor itself left out. Nothing more is asked of it: to have partners
differ in the other concepts, too, would make rare labels as frequent among partners as common ones, so that a
translator would learn the density of another population, and Eq. 11 would measure how concepts exclude one another.
"""

import torch
from torch import Tensor

from iin_lightning.errors import ShapeError


class PairIndex:
    """Draws, for an anchor i and a concept k, another item with the same label k, each with the same chance.

    Where the anchor is the only item with that label, it is its own partner; see ``has_partner``.

    Args:
        labels: long (n, K), K >= 1. Drawing happens on its device, without a synchronisation with the host.

    Raises:
        ShapeError: labels are not (n, K) with n, K >= 1.

    Example:
        >>> digit_and_color = torch.tensor([[7, 0], [7, 1], [2, 1]])
        >>> index = PairIndex(digit_and_color)
        >>> index.draw(torch.tensor([1, 1]), torch.tensor([0, 1]), torch.Generator()).tolist()
        [0, 2]
    """

    def __init__(self, labels: Tensor) -> None:
        if labels.dim() != 2 or 0 in labels.shape:
            raise ShapeError(f"Labels must be (items, concepts), at least one each, got {tuple(labels.shape)}.")
        # All (n, K): the items in the order of their labels, the place of each item there, and its range.
        self._order = labels.argsort(dim=0, stable=True)
        self._place = self._order.argsort(dim=0)
        start, size = zip(*map(_ranges, labels.T))
        self._start, self._size = torch.stack(start, 1), torch.stack(size, 1)

    def has_partner(self, anchors: Tensor) -> Tensor:
        """Whether another item shares concept k with anchor i: bool (B, K)."""
        return self._size[anchors] > 1

    def draw(self, anchors: Tensor, concepts: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Partners (B,) of the items ``anchors`` (B,) that share the concepts ``concepts`` (B,).

        Args:
            anchors: long (B,), item numbers.
            concepts: long (B,), a column of the labels for each anchor.
            generator: of the labels' device; without one torch's global generator is used.
        """
        start, size = self._start[anchors, concepts], self._size[anchors, concepts]
        # 62 random bits modulo a count below 2^31: the probabilities differ by less than 2^-31 of themselves.
        bits = torch.randint(1 << 62, anchors.shape, generator=generator, device=anchors.device)
        # Any other place of the range, going round it from the anchor's own.
        steps = 1 + bits % (size - 1).clamp(min=1)
        place = self._place[anchors, concepts]
        return self._order[start + (place - start + steps) % size, concepts]


def _ranges(label: Tensor) -> tuple[Tensor, Tensor]:
    """Where the range of each item's label starts in the sorted order, and how long it is: both (n,)."""
    _, group, size = label.unique(return_inverse=True, return_counts=True)
    return (size.cumsum(0) - size)[group], size[group]


def shared_mask(groups_a: Tensor, groups_b: Tensor) -> Tensor:
    """The mask (B, K+1) of the factors that examples share by their groups, each (B, K+1); see `GroupBatch`."""
    return (groups_a == groups_b) & (groups_a >= 0)
