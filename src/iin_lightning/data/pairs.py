"""Pairs that share one concept and are independent otherwise: p(x_a, x_b | F), drawn without a loop.

Sorting the items by their label of concept k puts those that share it into one range. A partner of an anchor is then
one random number in the anchor's range, the anchor itself left out. Nothing more is asked of it: to have partners
differ in the other concepts, too, would make rare labels as frequent among partners as common ones, so that a
translator would learn the density of another population, and Eq. 11 would measure how concepts exclude one another.
"""

import torch
from torch import Tensor

from iin_lightning.data.base import ORIGIN
from iin_lightning.data.latents import LatentCache
from iin_lightning.errors import FactorError, ShapeError
from iin_lightning.seeding import FIXED, generator


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

    def draw(self, anchors: Tensor, concepts: Tensor, key: torch.Generator | None = None) -> Tensor:
        """Partners (B,) of the items ``anchors`` (B,) that share the columns ``concepts`` (B,) of the labels."""
        start, size = self._start[anchors, concepts], self._size[anchors, concepts]
        # 62 random bits modulo a count below 2^31: the probabilities differ by less than 2^-31 of themselves.
        bits = torch.randint(1 << 62, anchors.shape, generator=key, device=anchors.device)
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


def sharing_pairs(latents: LatentCache, count: int = 10_000) -> dict[str, tuple[Tensor, Tensor]]:
    """Latent means of pairs that share a concept and are independent otherwise, the same pairs for every encoder.

    Of images that have versions the two are of different images, since two versions of one image share the residual,
    too: each round takes one version of every image, and pairs are drawn within it. So a change is shared by the same
    version of two images, and by two originals. Each concept gets (z^a, z^b), both (n, N) with n <= count.

    Raises:
        FactorError: there is no concept, or one that no two items share.

    Example:
        >>> labels = torch.tensor([[0, 0], [0, 1], [1, 1]])
        >>> cache = LatentCache(torch.randn(3, 4), torch.zeros(3, 4), labels, ("digit", "color"))
        >>> {name: tuple(a.shape) for name, (a, b) in sharing_pairs(cache).items()}
        {'digit': (2, 4), 'color': (2, 4)}
    """
    concepts = [name for name in latents.concepts if name != ORIGIN]
    if not concepts:
        raise FactorError("These data have no concepts, so no pairs share one: name the factors (model.factors).")
    key = generator(FIXED, "sharing")
    rounds = [_one_of_each_image(latents, key) for _ in range(_versions(latents))]
    indices = [PairIndex(latents.labels[items]) for items in rounds]
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in concepts:
        column = latents.concepts.index(name)
        found = [items[_pairs(index, len(items), column, key)] for items, index in zip(rounds, indices)]
        drawn = torch.cat(found, dim=1)
        a, b = drawn[:, torch.randperm(drawn.shape[1], generator=key)[:count]]
        if len(a) < 2:
            raise FactorError(f"No two items share a {name}: leave the concept out, or take more of the data.")
        pairs[name] = latents.mean[a], latents.mean[b]
    return pairs


def _pairs(index: PairIndex, n: int, column: int, key: torch.Generator) -> Tensor:
    """Each of n items that has a partner for a concept, and a partner: (2, m)."""
    anchors = torch.arange(n)
    anchors = anchors[index.has_partner(anchors)[:, column]]
    return torch.stack([anchors, index.draw(anchors, torch.full_like(anchors, column), key)])


def _versions(latents: LatentCache) -> int:
    """How many versions an image has on average, rounded down."""
    if ORIGIN not in latents.concepts:
        return 1
    return len(latents) // len(latents.labels[:, latents.concepts.index(ORIGIN)].unique())


def _one_of_each_image(latents: LatentCache, key: torch.Generator) -> Tensor:
    """All items, or a random version of each image where there are versions."""
    order = torch.randperm(len(latents), generator=key)
    if ORIGIN not in latents.concepts:
        return order
    image = latents.labels[:, latents.concepts.index(ORIGIN)].unique(return_inverse=True)[1][order]
    size = image.bincount()
    first = size.cumsum(0) - size  # place of an image's first version, which is a random one
    return order[image.argsort(stable=True)[first]]
