"""Splits of data that have none: by seed, and so that no image is on two sides.

The splits have the numbers 0 train, 1 val, 2 test, as in CelebA's partition.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.data.files import Listing
from iin_lightning.errors import ConfigError
from iin_lightning.seeding import generator

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Records(NamedTuple):
    """All images of a data set, and the split of each.

    Attributes:
        files: n absolute paths as text, of which a hundred thousand take far less memory than as objects.
        labels: long (n, K).
        split: long (n,), the number of each image's split; -1: it is in none.
    """

    files: Sequence[str]
    labels: Tensor
    split: Tensor

    def mixed(self) -> "Records":
        """The same in an order by chance, always that one, so that the first images of a split are of many classes."""
        order = torch.randperm(len(self.files), generator=generator("mixed", len(self.files)))
        return Records([self.files[item] for item in order.tolist()], self.labels[order], self.split[order])

    def listing(self, split: Split) -> Listing:
        """The images of a split."""
        items = (self.split == SPLITS.index(split)).nonzero()[:, 0]
        return Listing(tuple(Path(self.files[item]) for item in items.tolist()), self.labels[items])


def check_fraction(name: str, fraction: float) -> None:
    """A part must lie between nothing and all.

    Raises:
        ConfigError: it does not.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"{name}={fraction} must lie between 0 and 1: it is a part of the images.")


def split_within(groups: Tensor, val_fraction: float, test_fraction: float, seed: int) -> Tensor:
    """Share out the items of every group over the splits.

    A held-out split gets its part of each group, but at least two items, which make a pair, and at most a third of
    the group; so a group of one or two is for training alone.

    Args:
        groups: long (n,), 0, 1, ...
        val_fraction: part of each group for validation; 0: no item.
        test_fraction: the same for test.
        seed: of the draw.

    Returns:
        The number (n,) of each item's split.

    Example:
        >>> split_within(torch.zeros(100).long(), 0.05, 0.1, seed=0).bincount().tolist()
        [85, 5, 10]
    """
    order = torch.randperm(len(groups), generator=generator(seed, "split"))
    order = order[groups[order].argsort(stable=True)]
    sizes = groups.bincount()
    place = torch.arange(len(groups)) - (sizes.cumsum(0) - sizes)[groups[order]]  # within the item's group
    n_test, n_val = (_held_out(sizes, fraction)[groups[order]] for fraction in (test_fraction, val_fraction))
    split = torch.zeros_like(groups)
    split[order] = torch.where(place < n_test, 2, torch.where(place < n_test + n_val, 1, 0))
    return split


def split_groups(groups: Tensor, val_fraction: float, test_fraction: float, seed: int) -> Tensor:
    """Share out whole groups over the splits; see ``split_within``, of which a group is one item.

    Example:
        >>> person = torch.arange(50).repeat(2)
        >>> split = split_groups(person, 0.1, 0.1, seed=0)
        >>> torch.equal(split[:50], split[50:]), split.bincount().tolist()
        (True, [80, 10, 10])
    """
    names, group = groups.unique(return_inverse=True)
    return split_within(torch.zeros(len(names), dtype=torch.long), val_fraction, test_fraction, seed)[group]


def _held_out(sizes: Tensor, fraction: float) -> Tensor:
    if fraction == 0:
        return torch.zeros_like(sizes)
    return sizes.mul(fraction).round().long().clamp(min=2).minimum(sizes // 3)
