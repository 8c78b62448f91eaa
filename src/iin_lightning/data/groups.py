"""Training batches of single examples in which enough of them share each factor, for a likelihood of whole batches."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iin_lightning.data.base import Source, draw_labelled
from iin_lightning.data.order import EpochOrder, GroupedOrder
from iin_lightning.data.stream import check_divisible, check_factors
from iin_lightning.data.versions import FactorGroups
from iin_lightning.factors import Factors, GroupBatch
from iin_lightning.seeding import Noise

TOGETHER = 8  # items of one group that stand in a batch together


class Groups(Dataset[GroupBatch]):
    """Training batches of examples with the groups that share each factor.

    A factor of few, large groups recurs in any batch by chance. Where in some factor an example of a random batch
    would meet fewer than 7 others of its group, batches are made of 8 examples each that share it, taking turns if
    there are several such factors. In the order of each factor every item comes once before any comes twice, so that
    batches are of the population that the data are of. An item that is in a batch for a second time is in no group: two
    samples of one image are no two images of a class.

    Args:
        source: where the items come from.
        factors: K concepts, each one of the source's; they name the columns of the groups.
        batch_size: rows of a step over all ranks, a multiple of ``world_size``.
        seed: of the order and the noise.
        rank: of this process; it gets the rows rank, rank + world_size, ... of each step's batch.
        world_size: number of processes.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
        FactorError: no concept, or one that the source does not know.
    """

    def __init__(
        self,
        source: Source,
        factors: Factors,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_divisible(batch_size, world_size)
        check_factors(source, factors)
        self.source = source
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._groups = FactorGroups(source, factors.concepts)
        columns = self._groups(source.labels).cpu().T
        rare = [column for column in columns if 0 < _met(column, batch_size) < TOGETHER - 1]
        grouped = [GroupedOrder(column, batch_size, seed, TOGETHER) for column in rare]
        self._orders: Sequence[EpochOrder] = grouped or [EpochOrder(len(source), batch_size, seed)]

    def indices(self, step: int) -> Tensor:
        """The items (B / world_size,) of a step on this rank."""
        return self._whole(step)[self.rank :: self.world_size]

    def __getitem__(self, step: int) -> GroupBatch:
        noise = Noise(
            self.seed, "noise", step, 0, rank=self.rank, world_size=self.world_size, device=self.source.device
        )
        whole, own = self._whole(step), slice(self.rank, None, self.world_size)
        x, labels = draw_labelled(self.source, whole[own], noise)
        again = _repeated(whole)[own].to(self.source.device, non_blocking=True)
        return GroupBatch(x, self._groups(labels).masked_fill(again[:, None], -1))

    def _whole(self, step: int) -> Tensor:
        turn, order = divmod(step, len(self._orders))
        return self._orders[order].step(turn)


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
