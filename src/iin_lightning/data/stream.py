"""Streams: map-style data sets whose item t is the whole batch of step t, a pure function of (seed, t).

So a resumed run continues exactly. Ranks share out the rows of a batch, which is the same whatever their number, noise
included; it is drawn in one vectorised call. Training streams (``Singles``, ``Pairs``, ``Groups``) never end;
``FixedSingles`` and ``FixedPairs`` show every item of a split once, always the same.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iin_lightning.data.base import ORIGIN, LabelledBatch, Source, draw_labelled
from iin_lightning.data.order import EpochOrder, GroupedOrder, shards
from iin_lightning.data.pairs import PairIndex, shared_mask
from iin_lightning.data.versions import FactorGroups, image_of, pair_columns
from iin_lightning.errors import ConfigError, FactorError, choices
from iin_lightning.factors import Factors, GroupBatch, PairBatch
from iin_lightning.seeding import Noise, generator

Batch_co = TypeVar("Batch_co", covariant=True)
TOGETHER = 8  # items of a group that stand in a batch together


class TrainingStream(Dataset[Batch_co]):
    """Batches of training, of which each rank gets the rows rank, rank + world_size, ...

    Args:
        source: where the items come from.
        batch_size: rows of a step over all ranks, a multiple of ``world_size``.
        seed: of the order, the partners and the noise.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size % world_size:
            raise ConfigError(
                f"A batch of {batch_size} cannot be shared out evenly over {world_size} processes: model.batch_size "
                f"counts the rows of all, make it a multiple of {world_size}."
            )
        self.source = source
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._own = slice(rank, None, world_size)
        self._orders: Sequence[EpochOrder] = [EpochOrder(len(source), batch_size, seed)]

    def _items(self, step: int) -> Tensor:
        """The items of a step on all ranks; several orders take turns."""
        turn, order = divmod(step, len(self._orders))
        return self._orders[order].step(turn)

    def _noise(self, step: int) -> Noise:
        place = {"rank": self.rank, "world_size": self.world_size}
        return Noise(self.seed, "noise", step, 0, **place, device=self.source.device)


class Singles(TrainingStream[LabelledBatch]):
    """Training batches of single examples; see ``TrainingStream``."""

    def indices(self, step: int) -> Tensor:
        """The items (B / world_size,) of a step on this rank."""
        return self._items(step)[self._own]

    def __getitem__(self, step: int) -> LabelledBatch:
        return draw_labelled(self.source, self.indices(step), self._noise(step))


class Pairs(TrainingStream[PairBatch]):
    """Training batches of pairs that share a concept, the training data of Eq. 6-9.

    Anchors come in the order of ``Singles``; each gets a concept and a partner, see ``ConceptPairs``. The mask is what
    the labels of the two say, whichever concept was drawn.

    Args:
        source: where the items come from.
        factors: K concepts, each one of the source's; they name the columns of the mask.
        batch_size: pairs of a step; this and all else see ``TrainingStream``.

    Raises:
        FactorError: there is no concept, or the source does not know it.
    """

    def __init__(
        self, source: Source, factors: Factors, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(source, batch_size, seed, rank=rank, world_size=world_size)
        self._pairs = ConceptPairs(source, factors)

    def indices(self, step: int) -> tuple[Tensor, Tensor]:
        """Anchors and partners (B / world_size,) of a step on this rank."""
        # Drawn for all ranks, so that the number of processes does not change who meets whom.
        device = self.source.device
        anchors = self._items(step).to(device, non_blocking=True)
        partners = self._pairs.partners(anchors, generator(self.seed, "pairs", step, device=device))
        return anchors[self._own], partners[self._own]

    def __getitem__(self, step: int) -> PairBatch:
        return self._pairs.batch(*self.indices(step), self._noise(step))


class Groups(TrainingStream[GroupBatch]):
    """Training batches of examples with the groups that share each factor, for a likelihood of whole batches.

    A factor of few, large groups recurs in any batch by chance. Where in some factor an example of a random batch
    would meet fewer than 7 others of its group, batches are made of 8 examples each that share it, taking turns if
    several factors are rare. In the order of each factor every item comes once before any comes twice, so that
    batches are of the population that the data are of. An item that is in a batch for a second time is in no group: two
    samples of one image are no two images of a class.

    Args: see ``Pairs``.
    """

    def __init__(
        self, source: Source, factors: Factors, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(source, batch_size, seed, rank=rank, world_size=world_size)
        check_factors(source, factors)
        self._groups = FactorGroups(source, factors.concepts)
        columns = self._groups(source.labels).cpu().T
        rare = [column for column in columns if 0 < _met(column, batch_size) < TOGETHER - 1]
        self._orders = [GroupedOrder(column, batch_size, seed, TOGETHER) for column in rare] or self._orders

    def indices(self, step: int) -> Tensor:
        """The items (B / world_size,) of a step on this rank."""
        return self._items(step)[self._own]

    def __getitem__(self, step: int) -> GroupBatch:
        x, labels = draw_labelled(self.source, self.indices(step), self._noise(step))
        again = _repeated(self._items(step))[self._own].to(self.source.device, non_blocking=True)
        return GroupBatch(x, self._groups(labels).masked_fill(again[:, None], -1))


class FixedSingles(Dataset[LabelledBatch]):
    """Evaluation batches of single examples: every item once over all ranks; see ``shards``."""

    def __init__(self, source: Source, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.source = source
        self._items = shards(len(source), batch_size, rank, world_size)

    def __len__(self) -> int:
        return len(self._items)

    def indices(self, batch: int) -> Tensor:
        """The items of a batch on this rank."""
        return self._items[batch]

    def images(self, batch: int) -> Tensor:
        """The images (B,) that the items of a batch are, or are versions of."""
        return image_of(self.source)[self.indices(batch)]

    def __getitem__(self, batch: int) -> LabelledBatch:
        return draw_labelled(self.source, self.indices(batch), None)


class FixedPairs(Dataset[PairBatch]):
    """Evaluation batches of pairs: every item is an anchor once over all ranks, with a partner fixed by seed alone.

    Raises:
        FactorError: there is no concept, or the source does not know it.
    """

    def __init__(
        self, source: Source, factors: Factors, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        # Drawn on the processor, so that they are the same on every machine.
        self._pairs = ConceptPairs(source, factors, torch.device("cpu"))
        self._anchors = shards(len(source), batch_size, rank, world_size)
        self._partners = self._pairs.partners(torch.arange(len(source)), generator(seed, "fixed pairs"))

    def __len__(self) -> int:
        return len(self._anchors)

    def indices(self, batch: int) -> tuple[Tensor, Tensor]:
        """Anchors and partners of a batch on this rank."""
        anchors = self._anchors[batch]
        return anchors, self._partners[anchors]

    def images(self, batch: int) -> Tensor:
        """The images (B, 2) that the anchors and partners of a batch are, or are versions of."""
        return image_of(self._pairs.source)[torch.stack(self.indices(batch), dim=1)]

    def __getitem__(self, batch: int) -> PairBatch:
        return self._pairs.batch(*self.indices(batch), None)


class ConceptPairs:
    """The pairs of a source in terms of factors: who is a partner of whom, and what both share; see ``versions``.

    Concepts of the source that are not among the factors play no part. Partners are drawn on ``device``, by default
    where items are.

    Raises:
        FactorError: there is no concept, or the source does not know it.
    """

    def __init__(self, source: Source, factors: Factors, device: torch.device | None = None) -> None:
        check_factors(source, factors)
        self.source = source
        self.groups = FactorGroups(source, factors.concepts)
        self.index = PairIndex(pair_columns(source, factors.concepts).to(device or source.device))

    def partners(self, anchors: Tensor, key: torch.Generator) -> Tensor:
        """Partners (B,) of anchors (B,), each pair for a concept that is drawn uniformly among those that have one.

        For a label the partner is any other item that shares it, so that all else is independent; for a change it is
        another version of the same image, which differs in that alone. All partners have the same chance.

        An item that shares nothing with any other, such as the only picture of a person, gets any other item: a pair
        that shares nothing is one, too. Anchors and key are of the device where partners are drawn.
        """
        possible = self.index.has_partner(anchors)
        chances = torch.rand(possible.shape, generator=key, device=anchors.device)
        concepts = chances.masked_fill_(~possible, -1).argmax(1)
        partners = self.index.draw(anchors, concepts, key)
        n = len(self.source)
        steps = torch.randint(1, max(n, 2), anchors.shape, generator=key, device=anchors.device)
        return torch.where(possible.any(1), partners, (anchors + steps) % n)

    def batch(self, a: Tensor, b: Tensor, noise: Noise | None) -> PairBatch:
        """The examples of pairs of items, drawn in one call, and the mask that their labels say."""
        x, labels = draw_labelled(self.source, torch.cat([a, b]), noise)
        (x_a, x_b), (labels_a, labels_b) = x.chunk(2), labels.chunk(2)
        return PairBatch(x_a, x_b, self.shared(labels_a, labels_b))

    def shared(self, labels_a: Tensor, labels_b: Tensor) -> Tensor:
        """The mask, bool (B, K+1), the residual first, of labels (B, L) of all the source's concepts."""
        return shared_mask(self.groups(labels_a), self.groups(labels_b))


def check_factors(source: Source, factors: Factors) -> None:
    """Raise a FactorError unless every factor is a concept of the source, and at least one is."""
    known = [name for name in source.concepts if name != ORIGIN]
    if not factors.concepts:
        raise FactorError(
            f"model=sup needs a concept that examples share, but {factors} has none: name a factor after one of the "
            f"data's concepts ({', '.join(known)}), or train without concepts (model=unsup)."
        )
    for name in factors.concepts:
        if name not in known:
            raise FactorError(f"The data know no concept {name!r}; {choices(name, known)}.")


def _repeated(items: Tensor) -> Tensor:
    """Which of items (B,) have come before in them: bool (B,)."""
    order = items.argsort(stable=True)
    again = torch.zeros_like(items, dtype=torch.bool)
    again[order[1:]] = items[order[1:]] == items[order[:-1]]
    return again


def _met(column: Tensor, batch: int) -> float:
    """How many others of its group an item meets in a random batch, on average over items; 0 if groups are single."""
    _, counts = column[column >= 0].unique(return_counts=True)
    pairs = float((counts.double() * (counts - 1)).sum())
    return (batch - 1) * pairs / (len(column) * max(len(column) - 1, 1))
