"""Random numbers as functions of a key, so that a batch can be drawn again and no two share their noise."""

from hashlib import blake2b

import torch

FIXED = 0
"""The seed of what is the same for every run, whatever its own seed: held-out colours, pairs and samples."""


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed is a hash of the key: ``generator(seed, "noise", step, rank)``.

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
