"""Random numbers as functions of a key, so that a batch can be drawn again and no two share their noise."""

from collections.abc import Sequence
from hashlib import blake2b
from math import prod

import numpy as np
import torch
from torch import Tensor

FIXED = 0
"""The seed of what is the same for every run, whatever its own seed: held-out colours, pairs and samples."""


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed is a hash of the key: ``generator(seed, "pairs", step)``.

    A hash, because sums of keys meet: ``seed + step`` gives run 1 at step 2 the noise of run 2 at step 1.

    Args:
        key: whole numbers and names of purposes; order and number matter.
        device: where the numbers will be drawn.

    Example:
        >>> torch.equal(torch.rand(3, generator=generator(1, 2)), torch.rand(3, generator=generator(1, 2)))
        True
        >>> torch.equal(torch.rand(3, generator=generator(1, 2)), torch.rand(3, generator=generator(2, 1)))
        False
    """
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    # torch's seeds are signed 64-bit numbers on some devices; 63 bits are valid on all.
    return torch.Generator(device).manual_seed(int.from_bytes(digest) >> 1)


class Noise:
    """The noise of a batch whose rows several processes share: each draws that of all rows, and takes its own.

    So a row gets the same noise whatever the number of processes. Each draw gives new numbers.

    Args:
        key: of the whole batch, see ``generator``.
        rank: of this process; it has the rows rank, rank + world_size, ... of the batch.
        world_size: number of processes.
        rows: of the whole batch; default: as many in each process as here.
        device: where normal numbers are drawn.

    Example:
        >>> whole, second = Noise(1, "x"), Noise(1, "x", rank=1, world_size=2)
        >>> torch.equal(second.normal((2, 3)), whole.normal((4, 3))[1::2])
        True
    """

    def __init__(
        self,
        *key: int | str,
        rank: int = 0,
        world_size: int = 1,
        rows: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rank, self.world_size, self.rows = rank, world_size, rows
        self._generator = generator(*key, device=device)

    def normal(self, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """Independent N(0, 1) of a shape (B, ...), B the rows of this process."""
        whole = self._whole(shape)
        drawn = torch.randn(whole, generator=self._generator, device=self._generator.device, dtype=dtype)
        return drawn[self.rank :: self.world_size]

    def bytes(self, shape: Sequence[int]) -> np.ndarray:
        """Uniform uint8 of a shape (B, ...), in an array that one may write into."""
        # From a generator that one draw of torch's seeds: this is a third of what random floating-point numbers take.
        key, whole = self._generator, self._whole(shape)
        seed = int(torch.randint(1 << 62, (), generator=key, device=key.device))
        count = prod(whole)
        drawn = np.random.SFC64(seed).random_raw(-(-count // 8)).view(np.uint8)[:count]
        return drawn.reshape(whole)[self.rank :: self.world_size]

    def _whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        rows = shape[0] * self.world_size if self.rows is None else self.rows
        return rows, *shape[1:]
