"""Latents of pairs that share one concept, concept by concept: what the dimensions of factors are estimated from."""

import torch
from torch import Tensor

from iin_lightning.data.base import ORIGIN
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.pairs import PairIndex
from iin_lightning.errors import FactorError
from iin_lightning.seeding import FIXED, generator


def sharing_pairs(latents: LatentCache, count: int = 10_000) -> dict[str, tuple[Tensor, Tensor]]:
    """Latent means of pairs that share a concept and differ elsewhere, the same pairs for every encoder.

    Versions of images share a label with those of other images only, since two of one image share the residual, too. A
    change is shared by the same version of two images, and by two originals: without these a change that has one
    version would have one value in all its pairs, which nothing varies with.

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
    index, column = PairIndex(latents.labels), 0
    key = generator(FIXED, "sharing")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in concepts:
        if ORIGIN in latents.concepts:  # partners differ in the image, whatever else they have in common
            index = PairIndex(latents.labels[:, [latents.concepts.index(name), latents.concepts.index(ORIGIN)]])
        else:
            column = latents.concepts.index(name)
        order = torch.randperm(len(latents), generator=key)
        anchors = order[index.has_partner(order)[:, column]][:count]
        if len(anchors) < 2:
            raise FactorError(f"No two items share a {name}: leave the concept out, or take more of the data.")
        partners = index.draw(anchors, torch.full_like(anchors, column), key)
        pairs[name] = latents.mean[anchors], latents.mean[partners]
    return pairs
