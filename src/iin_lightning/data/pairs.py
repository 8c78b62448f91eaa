"""Pairs that share one concept, drawn exactly uniformly and without a loop.

Sorting all items by (label of concept k, all labels) puts the partners that share k into one range, and
within it the items that equal the anchor in every concept into one subrange. A partner that shares k and
differs elsewhere is then one random number in the range minus the subrange.
"""

import torch
from torch import Tensor

from iin_lightning.errors import ShapeError


class PairIndex:
    """Draws, for an anchor i and a concept k, a partner that has the same label k and differs elsewhere.

    Every such partner is equally likely. Where there is none (a single concept, or all others equal too), it
    is any other item that shares k; where the anchor is the only one, itself.

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
        # A kind is one combination of all K labels; tables per kind are far smaller than tables per item.
        kinds, kind = labels.unique(dim=0, return_inverse=True)
        self._kind = kind
        self._kind_size = torch.bincount(kind, minlength=len(kinds))
        by_kind = kind.argsort(stable=True)
        first_of_kind = self._kind_size.cumsum(0) - self._kind_size
        self._rank_in_kind = torch.empty_like(kind)
        self._rank_in_kind[by_kind] = torch.arange(len(kind), device=kind.device) - first_of_kind[kind[by_kind]]
        tables = [self._tables(kinds[:, k]) for k in range(labels.shape[1])]
        self._order, self._kind_start, self._group_start, self._group_size = map(torch.stack, zip(*tables))

    def _tables(self, label_of_kind: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For one concept: the items in order, and where the ranges of each kind and of its group start."""
        _, group = label_of_kind.unique(return_inverse=True)
        # kinds are numbered in lexicographic order, so a stable sort by group sorts by (group, kind).
        kinds_in_order = group.argsort(stable=True)
        sizes = self._kind_size[kinds_in_order]
        kind_start = torch.empty_like(sizes)
        kind_start[kinds_in_order] = sizes.cumsum(0) - sizes
        order = kind_start[self._kind].add(self._rank_in_kind).argsort()
        group_size = torch.zeros_like(self._kind_size).index_add_(0, group, self._kind_size)
        group_start = group_size.cumsum(0) - group_size
        return order, kind_start, group_start[group], group_size[group]

    def has_partner(self, anchors: Tensor) -> Tensor:
        """Whether another item shares concept k with anchor i: bool (B, K)."""
        return self._group_size[:, self._kind[anchors]].T > 1

    def draw(self, anchors: Tensor, concepts: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Partners (B,) of the items ``anchors`` (B,) that share the concepts ``concepts`` (B,).

        Args:
            anchors: long (B,), item numbers.
            concepts: long (B,), a column of the labels for each anchor.
            generator: of the labels' device; without one torch's global generator is used.
        """
        kind = self._kind[anchors]
        start, size = self._group_start[concepts, kind], self._group_size[concepts, kind]
        skip_start, skip_size = self._kind_start[concepts, kind], self._kind_size[kind]
        alike = size == skip_size  # the whole group equals the anchor: leave out the anchor alone
        skip_start = torch.where(alike, skip_start + self._rank_in_kind[anchors], skip_start)
        skip_size = torch.where(alike, (size > 1).long(), skip_size)
        # 62 random bits modulo a count below 2^31: the probabilities differ by less than 2^-31 of themselves.
        bits = torch.randint(1 << 62, anchors.shape, generator=generator, device=anchors.device)
        position = start + bits % (size - skip_size)
        position = position + torch.where(position >= skip_start, skip_size, 0)
        return self._order[concepts, position]


def shared_mask(labels_a: Tensor, labels_b: Tensor) -> Tensor:
    """The mask (B, K+1) of what items share by their labels, each (B, K); the residual, column 0, never is."""
    residual = labels_a.new_zeros(len(labels_a), 1, dtype=torch.bool)
    return torch.cat([residual, labels_a == labels_b], dim=1)
