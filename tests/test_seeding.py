"""Noise of a batch that processes share."""

import numpy as np
import pytest
import torch

from iin_lightning.seeding import Noise, generator

DRAWS = {
    "normal": lambda noise, rows: noise.normal((rows, 3, 2)),
    "float64": lambda noise, rows: noise.normal((rows, 5), torch.float64),
    "bytes": lambda noise, rows: torch.from_numpy(np.ascontiguousarray(noise.bytes((rows, 3, 2)))),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("rows", [24, 17])
def test_each_process_has_the_noise_of_its_rows(draw, world_size, rows):
    whole = Noise(1, "x")
    ranks = [Noise(1, "x", rank=r, world_size=world_size, rows=rows) for r in range(world_size)]
    for _ in range(2):  # what is drawn next is new
        expected = draw(whole, rows)
        for rank, noise in enumerate(ranks):
            own = expected[rank::world_size]
            assert torch.equal(draw(noise, len(own)), own)


def test_processes_have_equally_many_rows_if_nothing_else_is_said():
    whole, part = Noise(2, 7).normal((6, 4)), Noise(2, 7, rank=1, world_size=3).normal((2, 4))
    assert torch.equal(part, whole[1::3])


def test_draws_differ():
    noise = Noise(0)
    assert not torch.equal(noise.normal((5, 3)), noise.normal((5, 3)))
    assert (noise.bytes((50, 3)) != noise.bytes((50, 3))).any()
    assert not torch.equal(Noise(0, "a").normal((5, 3)), Noise(0, "b").normal((5, 3)))


def test_a_key_gives_the_same_numbers_again_and_any_other_key_gives_others():
    keys = [(), (0,), (0, 0), (1, 2), (2, 1), (3,), (-1,), (1 << 32,), (1,), ("a", 1), ("a", 2), ("b", 1)]
    numbers = {tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys}
    assert len(numbers) == len(keys)
    assert numbers == {tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys}
