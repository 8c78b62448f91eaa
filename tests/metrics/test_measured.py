"""Standard errors where the spread of a mean is known."""

import math

import pytest
import torch

from iin_lightning.metrics.measured import Measured, means, standard_error

N = 400


def single(generator):
    """An image a row."""
    return torch.randn(N, generator=generator), torch.arange(N)


def versions(generator):
    """Each image in four versions of the same score, in any order."""
    images = (torch.arange(N) // 4)[torch.randperm(N, generator=generator)]
    return torch.randn(N // 4, generator=generator)[images], images


def pairs(generator):
    """Each image meets another one by chance, as in held-out pairs: the score is what both add."""
    images = torch.stack([torch.arange(N), torch.randint(N, (N,), generator=generator)], 1)
    return torch.randn(N, generator=generator)[images].sum(1), images


def same_pairs(generator):
    """Each pair is there twice, once in each order."""
    images = torch.arange(N).reshape(-1, 2)
    scores = torch.randn(N // 2, generator=generator)
    return torch.cat([scores, scores]), torch.cat([images, images.flip(1)])


@pytest.mark.parametrize("world", [single, versions, pairs, same_pairs])
def test_the_error_is_the_spread_of_the_mean(world):
    worlds = [world(torch.Generator().manual_seed(seed)) for seed in range(300)]
    spread = torch.stack([scores.mean() for scores, _ in worlds]).std().item()
    errors = torch.stack([standard_error(scores[:, None], images)[0] for scores, images in worlds])
    assert errors.square().mean().sqrt().item() == pytest.approx(spread, rel=0.15)


def test_a_difference_is_paired():
    shared, own = torch.randn(2, N, generator=torch.Generator().manual_seed(0))
    one, other = (means({"nll": scores}, torch.arange(N))["nll"] for scores in (shared, shared + 1 + 0.01 * own))
    difference = other - one
    assert difference.value == pytest.approx(1, abs=0.01)
    assert difference.error < 0.05 * other.error
    assert math.isnan((one - Measured(1.0)).error), "of other images"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (Measured(1.41894, 0.00021), "1.4189 ± 0.0002"),
        (Measured(1.41894), "1.419"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(number, shown):
    assert f"{number}" == shown
