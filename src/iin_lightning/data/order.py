"""Which items a step gets: an endless shuffled order for training, every item once for evaluation."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from iin_lightning.errors import ConfigError
from iin_lightning.seeding import generator


class EpochOrder:
    """The endless sequence of items 0...n-1, a new permutation an epoch, cut into batches of one size.

    Step t has the places [t·B, (t+1)·B) of the sequence, across epochs where they meet. Permutation e is a function of
    (seed, e).

    Example:
        >>> order = EpochOrder(4, batch_size=3, seed=0)
        >>> torch.cat([order.step(t) for t in range(4)]).bincount().tolist()
        [3, 3, 3, 3]
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        if n < 1 or batch_size < 1:
            raise ConfigError(f"Batches of {batch_size} from {n} items: both must be at least 1.")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.long)

    def step(self, step: int) -> Tensor:
        """Items (B,) of a step."""
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        epochs = range(first // self.n, (end - 1) // self.n + 1)
        # Cut before they are joined: a copy of a whole epoch would make a step cost more the more items there are.
        return torch.cat([self._epoch_order(e)[max(first - e * self.n, 0) : end - e * self.n] for e in epochs])

    def _epoch_order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            key = generator(self.seed, "order", epoch)
            self._epoch, self._permutation = epoch, self._arrange(torch.randperm(self.n, generator=key), key)
        return self._permutation

    def _arrange(self, permutation: Tensor, key: torch.Generator) -> Tensor:
        return permutation


class GroupedOrder(EpochOrder):
    """An `EpochOrder` in which items of one label stand together, a few at a time.

    An epoch has each item once; who stands with whom is drawn anew in each. Of a label ``size`` items stand together,
    fewer where no more are left of it.

    Example:
        >>> labels = torch.arange(4000) // 8
        >>> first = GroupedOrder(labels, batch_size=64, seed=0, size=4).step(0)
        >>> labels[first].view(16, 4).diff().abs().max().item(), len(labels[first].unique()) > 12
        (0, True)
    """

    def __init__(self, labels: Tensor, batch_size: int, seed: int, size: int) -> None:
        super().__init__(len(labels), batch_size, seed)
        self.labels, self.size = labels, size

    def _arrange(self, permutation: Tensor, key: torch.Generator) -> Tensor:
        by_label = permutation[self.labels[permutation].argsort(stable=True)]
        _, counts = self.labels[by_label].unique_consecutive(return_counts=True)
        first = (counts.cumsum(0) - counts).repeat_interleave(counts)  # where the label of each place begins
        within = torch.arange(self.n) - first
        part = (within % self.size == 0).cumsum(0) - 1
        turn = torch.randperm(int(part[-1]) + 1, generator=key)
        return by_label[turn[part].argsort(stable=True)]


def shards(n: int, batch_size: int, rank: int = 0, world_size: int = 1) -> tuple[Tensor, ...]:
    """The rows rank, rank + world_size, ... of each of the batches into which the items 0...n-1 are cut.

    A batch has at most ``batch_size`` rows over all ranks, and is the same whatever their number. No item is repeated
    to fill one, so sizes may differ by one, and so may those of ranks. Each rank has a row in every batch, which
    collective operations need: where there are more ranks than ``batch_size``, a batch has more rows.

    Raises:
        ConfigError: there are more ranks than items.

    Example:
        >>> [batch.tolist() for batch in shards(9, batch_size=5, rank=1, world_size=2)]
        [[1, 3], [6, 8]]
    """
    if n < world_size:
        raise ConfigError(f"{n} items cannot be shared out over {world_size} processes: take fewer processes.")
    batches = torch.arange(n).tensor_split(min(-(-n // batch_size), n // world_size))
    return tuple(batch[rank::world_size] for batch in batches)


class StepSampler(Sampler[int]):
    """The steps of one pass, from the step that training has reached to the end of the pass.

    Pass e has the steps [e·length, (e+1)·length). ``reached`` says how many steps have been made; it is asked at the
    start of each pass, so that a resumed run begins in the middle of a pass.

    Example:
        >>> list(StepSampler(5, reached=lambda: 3)), list(StepSampler(5, reached=lambda: 5))
        ([3, 4], [5, 6, 7, 8, 9])
    """

    def __init__(self, length: int, reached: Callable[[], int]) -> None:
        self.length = length
        self.reached = reached

    def __iter__(self) -> Iterator[int]:
        first = self.reached()
        return iter(range(first, (first // self.length + 1) * self.length))

    def __len__(self) -> int:
        """Steps of the whole pass: Lightning adds those that a resumed run has behind it itself."""
        return self.length
