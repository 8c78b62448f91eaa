"""Splits of data that have none: an item's side is a hash of its own name, so that no item moves as others come or go.

A model that was trained on a folder before it grew has still seen none of the images that test it. The splits have the
numbers 0 train, 1 val, 2 test, as in CelebA's partition.
"""

from collections.abc import Sequence
from hashlib import sha256
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


def relative_names(files: Sequence[str], root: Path) -> list[str]:
    """The path of each file from the root on, as it is written on every platform, to be the name of an item.

    Example:
        >>> relative_names(["/data/cat/1.png"], Path("/data"))
        ['cat/1.png']
    """
    return [Path(file).relative_to(root).as_posix() for file in files]


def split_within(names: Sequence[str], groups: Tensor, val_fraction: float, test_fraction: float, seed: int) -> Tensor:
    """Share out the items of every group over the splits.

    With u in [0, 1), a hash of the seed and an item's name, the item is for test where u < test_fraction, for
    validation where test_fraction <= u < test_fraction + val_fraction, and else for training; so a split has about its
    fraction of the items. But of each group a held-out split has at least two items, which make a pair, and at most a
    third, those of the smallest u going first; so a group of one or two is for training alone, and only in groups that
    are small for their fractions may an item move as others come or go.

    Args:
        names: of the n items, each its own and the same wherever the data lie, such as a path relative to their root.
        groups: long (n,), 0, 1, ...
        val_fraction: about which part of each group is for validation; 0: no item.
        test_fraction: the same for test.
        seed: of the hash.

    Returns:
        The number (n,) of each item's split.

    Example:
        >>> names = [f"{number}.png" for number in range(1000)]
        >>> split = split_within(names, torch.zeros(1000).long(), 0.05, 0.1, seed=0)
        >>> split.bincount().tolist()
        [852, 46, 102]
        >>> torch.equal(split[:500], split_within(names[:500], torch.zeros(500).long(), 0.05, 0.1, seed=0))
        True
    """
    u = torch.tensor([_hashed(name, seed) for name in names], dtype=torch.float64)
    sizes = groups.bincount()
    n_test = _held_out(groups[u < test_fraction], sizes, test_fraction)
    n_val = _held_out(groups[(test_fraction <= u) & (u < test_fraction + val_fraction)], sizes, val_fraction)
    order = u.argsort()
    order = order[groups[order].argsort(stable=True)]
    group = groups[order]
    place = torch.arange(len(groups)) - (sizes.cumsum(0) - sizes)[group]  # within the item's group
    split = torch.zeros_like(groups)
    split[order] = torch.where(place < n_test[group], 2, torch.where(place < (n_test + n_val)[group], 1, 0))
    return split


def split_groups(names: Sequence[str], val_fraction: float, test_fraction: float, seed: int) -> Tensor:
    """Share out whole groups over the splits; see ``split_within``, of which a group is one item.

    Args:
        names: of the group of each of the n items.
        val_fraction: about which part of the groups is for validation; 0: no group.
        test_fraction: the same for test.
        seed: of the hash.

    Returns:
        The number (n,) of each item's split.

    Example:
        >>> split = split_groups(["ann", "bob", "cleo", "dan", "eve", "fay"] * 2, 0.1, 0.1, seed=0)
        >>> torch.equal(split[:6], split[6:]), split.bincount().tolist()
        (True, [4, 4, 4])
    """
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    split = split_within(list(number), torch.zeros(len(number), dtype=torch.long), val_fraction, test_fraction, seed)
    return split[torch.tensor([number[name] for name in names], dtype=torch.long)]


def _hashed(name: str, seed: int) -> float:
    """A number in [0, 1), which says nothing of any other name's."""
    digest = sha256(f"{seed} {name}".encode(errors="surrogatepass")).digest()  # a file's name may be no valid text
    return (int.from_bytes(digest[:8]) >> 11) / 2**53  # as many bits as a float has


def _held_out(inside: Tensor, sizes: Tensor, fraction: float) -> Tensor:
    """How many items of each group a split gets, of whose interval the items of the groups ``inside`` are."""
    return inside.bincount(minlength=len(sizes)).clamp(min=2 if fraction else 0).minimum(sizes // 3)
