"""Latents of pairs that share one concept, concept by concept: what the dimensions of factors are estimated from."""

import torch
from torch import Tensor

from iin_lightning.data.base import ORIGIN
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.pairs import PairIndex
from iin_lightning.errors import FactorError
from iin_lightning.seeding import FIXED, generator


def sharing_pairs(latents: LatentCache, count: int = 10_000) -> dict[str, tuple[Tensor, Tensor]]:
    """Latent means of pairs that share a concept and are independent otherwise, the same pairs for every encoder.

    Of images that have versions the two are of different images, since two versions of one image share the residual,
    too: each round takes one version of every image, and pairs are drawn within it. So a change is shared by the same
    version of two images, and by two originals.

    Args:
        latents: of items with K concepts, perhaps of versions of images.
        count: at most so many pairs of each concept.

    Returns:
        Concept -> (z^a, z^b), each (n, N), n <= count.

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
