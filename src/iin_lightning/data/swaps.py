"""Targets and sources for swaps of factors: who gives, who takes, fixed by seed."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.data.base import LabelledBatch, Source, draw_labelled
from iin_lightning.data.module import DataModule, StreamModule
from iin_lightning.data.order import shards
from iin_lightning.data.versions import image_of
from iin_lightning.seeding import FIXED, generator


def differing_partners(labels: Tensor, seed: int, rounds: int = 1000) -> Tensor:
    """For each of n items with labels (n, K) a random other item (n,) that differs from it in every concept.

    With a partner of the same class a swap that does nothing would look as if it worked. Where no item differs in
    every concept (of two changes of an image a version has at most one), it is the item that agrees in the fewest
    among those drawn. A draw misses with the share of items that agree in a concept, so that 1000 rounds leave hardly
    anybody behind, unless a concept has a single value.

    Example:
        >>> labels = torch.arange(6)[:, None] % 2
        >>> bool((labels[differing_partners(labels, seed=0)] != labels).all())
        True
    """
    key = generator(seed, "swaps")
    partners = torch.randint(len(labels), (len(labels),), generator=key)
    agreements = (labels == labels[partners]).sum(1)
    for _ in range(rounds):
        alike = agreements.nonzero()[:, 0]
        if not len(alike):
            break
        drawn = torch.randint(len(labels), alike.shape, generator=key)
        found = (labels[alike] == labels[drawn]).sum(1)
        better = found < agreements[alike]
        partners[alike[better]], agreements[alike[better]] = drawn[better], found[better]
    return partners


class FixedSwaps(Dataset[tuple[LabelledBatch, LabelledBatch, Tensor]]):
    """Evaluation batches (targets, sources, images): every item is a target once over all ranks.

    The third is long (B, 2), which image the target is or is a version of, and which one the source. The seed alone
    says the partners, so that every model is asked for the same swaps; for batch_size and ranks see ``shards``.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.source = source
        self._targets = shards(len(source), batch_size, rank, world_size)
        self._partners = differing_partners(source.labels, seed)
        self._image = image_of(source)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, batch: int) -> tuple[LabelledBatch, LabelledBatch, Tensor]:
        targets = self._targets[batch]
        sources = self._partners[targets]
        images = self._image[torch.stack([targets, sources], dim=1)]
        return draw_labelled(self.source, targets, None), draw_labelled(self.source, sources, None), images


class SwapData(StreamModule):
    """Targets and sources from a data set's test split, the same for every model and shared out over the processes."""

    def __init__(self, images: DataModule) -> None:
        super().__init__(eval_batch_size=images.eval_batch_size, num_workers=images.num_workers)
        self.images = images

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test image once as a target."""
        return self.eval_loader(FixedSwaps(self.images.source("test"), self.eval_batch_size, FIXED, **self.ranks))
