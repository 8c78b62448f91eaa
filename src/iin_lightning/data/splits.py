"""Splits of data that have none: an item's side is a hash of its own name, so that no item moves as others come or go.

A model that was trained on a folder before it grew has still seen none of the images that test it. Where items are
linked into groups this holds of groups: what links two of them or enlarges one can move it. The splits have the numbers
0 train, 1 val, 2 test, as in CelebA's partition.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import torch
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.data.files import Listing
from iin_lightning.errors import ConfigError
from iin_lightning.seeding import generator

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Records(NamedTuple):
    """The n images of a data set, with labels long (n, K) and the number (n,) of the split of each, -1 for none.

    Files are absolute paths as text, of which a hundred thousand take far less memory than as objects.
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
    """Raise a ConfigError unless a held-out part is in (0, 1/3]: two of them leave a third for training."""
    if not 0 < fraction <= 1 / 3:
        raise ConfigError(
            f"{name}={fraction} must lie between 0 and 1/3: it is the part of the images that is held out, and "
            "validation and test together must leave a third or more for training."
        )


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
    meet one of these bounds, being small or of a fraction near a third, may an item move as others come or go.

    A name is an item's own and the same wherever the data lie, such as a path relative to their root. Fractions are at
    most 1/3, or 0 for no item. The result is the number (n,) of each item's split.

    Example:
        >>> names = [f"{number}.png" for number in range(1000)]
        >>> split = split_within(names, torch.zeros(1000).long(), 0.05, 0.1, seed=0)
        >>> split.bincount().tolist()
        [852, 46, 102]
        >>> torch.equal(split[:500], split_within(names[:500], torch.zeros(500).long(), 0.05, 0.1, seed=0))
        True
    """
    return _share_out(names, groups, torch.ones_like(groups), val_fraction, test_fraction, seed)


def split_groups(names: Sequence[str], val_fraction: float, test_fraction: float, seed: int) -> Tensor:
    """Share out whole groups over the splits; see ``split_within``, of which a group is one item.

    A group is too large for a held-out split, and trains, if it has more images than the split's fraction of them all
    and also more than the mean group: one that has most of the images must not test on them. A group keeps its side for
    as long as it keeps its name and comes to neither side of that bound; so linking two groups, or enlarging one, can
    move it.

    Args:
        names: of the group of each of the n items.
        val_fraction: about which part of the groups is for validation, at most 1/3; 0: no group.
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
    group = torch.tensor([number[name] for name in names], dtype=torch.long)
    one = torch.zeros(len(number), dtype=torch.long)
    return _share_out(list(number), one, group.bincount(), val_fraction, test_fraction, seed)[group]


def hashed(name: str, salt: object) -> float:
    """A number in [0, 1), which says nothing of any other name's, nor of that of another salt.

    Example:
        >>> hashed("caf\u00e9.png", 0) == hashed("cafe\u0301.png", 0)
        True
    """
    # A Mac may write a letter and its accent one by one. A file's name may be no valid text.
    digest = sha256(f"{salt} {normalize('NFC', name)}".encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53  # as many bits as a float has


def _share_out(
    names: Sequence[str], groups: Tensor, images: Tensor, val_fraction: float, test_fraction: float, seed: int
) -> Tensor:
    """The split of items, of which each is as many images as ``images`` (n,) says; see ``split_within``."""
    u = torch.tensor([hashed(name, seed) for name in names], dtype=torch.float64)
    sizes = groups.bincount()
    order = u.argsort(stable=True)
    order = order[groups[order].argsort(stable=True)]
    split = torch.zeros_like(groups)
    n_images = int(images.sum())
    for side, start, fraction in ((2, 0.0, test_fraction), (1, test_fraction, val_fraction)):
        fits = images.double() <= max(fraction * n_images, n_images / max(1, len(images)))
        inside = groups[fits & (start <= u) & (u < start + fraction)].bincount(minlength=len(sizes))
        wanted = inside.clamp(min=2 if fraction else 0).minimum(sizes // 3)
        free = order[(fits & (split == 0))[order]]
        group = groups[free]
        n_free = group.bincount(minlength=len(sizes))
        place = torch.arange(len(free)) - (n_free.cumsum(0) - n_free)[group]  # within the item's group
        split[free[place < wanted[group]]] = side
    return split


def choose(labels: Tensor, limit: int, seed: int, by: int | None = None) -> Tensor:
    """At most ``limit`` of the items with labels (n, K), drawn by seed, in ascending order: a part for a quick look.

    Items that are equal in the column ``by`` come together or not at all, so that pairs survive. The first group drawn
    is taken whatever its size.

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
