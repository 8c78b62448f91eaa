"""Latents of pairs that share one concept, concept by concept: what the dimensions of factors are estimated from."""

import torch
from torch import Tensor

from iin_lightning.data.latents import LatentCache
from iin_lightning.data.pairs import PairIndex
from iin_lightning.errors import FactorError
from iin_lightning.seeding import FIXED, generator


def sharing_pairs(latents: LatentCache, count: int = 10_000) -> dict[str, tuple[Tensor, Tensor]]:
    """Latent means of pairs that share a concept and differ elsewhere, the same pairs for every encoder.

    Args:
        latents: of items with K concepts.
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
    if not latents.concepts:
        raise FactorError("These data have no concepts, so no pairs share one: name the factors (model.factors).")
    index = PairIndex(latents.labels)
    key = generator(FIXED, "sharing")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for column, name in enumerate(latents.concepts):
        order = torch.randperm(len(latents), generator=key)
        anchors = order[index.has_partner(order)[:, column]][:count]
        if len(anchors) < 2:
            raise FactorError(f"No two items share a {name}: leave the concept out, or take more of the data.")
        partners = index.draw(anchors, torch.full_like(anchors, column), key)
        pairs[name] = latents.mean[anchors], latents.mean[partners]
    return pairs
