import pytest
import torch

from iin_lightning.data.limit import choose


@pytest.mark.parametrize("limit", [1, 7, 20, 50])
def test_items_are_drawn_by_seed_in_order_and_at_most_once(limit):
    labels = torch.zeros(20, 1, dtype=torch.long)
    items = choose(labels, limit, seed=0)
    assert len(items) == min(limit, 20)
    assert (items.diff() > 0).all()
    assert torch.equal(items, choose(labels, limit, seed=0))


def test_seeds_draw_differently_and_every_item_is_as_likely():
    labels = torch.zeros(20, 1, dtype=torch.long)
    counts = torch.stack([choose(labels, 5, seed=seed) for seed in range(400)]).flatten().bincount(minlength=20)
    assert counts.sum() == 2000
    assert counts.min() > 60  # 100 each on average, with a standard deviation of 9


@pytest.mark.parametrize("limit", [1, 5, 12, 29, 30])
def test_groups_stay_whole(limit):
    labels = torch.stack([torch.arange(30) % 4, torch.arange(30) // 3], dim=1)
    items = choose(labels, limit, seed=1, by=1)
    assert 0 < len(items) <= max(limit, 3)
    assert (labels[items, 1].bincount()[labels[items, 1].unique()] == 3).all()
    assert (items.diff() > 0).all()


def test_a_group_beyond_the_limit_is_better_than_nothing():
    assert len(choose(torch.zeros(9, 1, dtype=torch.long), 4, seed=0, by=0)) == 9
