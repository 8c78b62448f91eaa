"""Laws of splits that are drawn: an item's side is its own, and each split gets enough of every group."""

from unicodedata import normalize

import pytest
import torch

from iin_lightning.data.splits import check_fraction, choose, split_groups, split_within
from iin_lightning.errors import ConfigError


def names_of(n: int) -> list[str]:
    return [f"cat/{number}.png" for number in range(n)]


@pytest.mark.parametrize("n", [1, 2, 6, 7, 200])
@pytest.mark.parametrize(("val_fraction", "test_fraction"), [(0.05, 0.1), (0.3, 0.3), (0.001, 1 / 3)])
def test_a_held_out_split_has_two_of_a_group_and_at_most_a_third(n, val_fraction, test_fraction):
    groups = torch.arange(3).repeat(n)
    split = split_within(names_of(3 * n), groups, val_fraction, test_fraction, seed=0)
    for group in range(3):
        _, val, test = split[groups == group].bincount(minlength=3).tolist()
        assert min(2, n // 3) <= val <= n // 3
        assert min(2, n // 3) <= test <= n // 3


def test_a_split_has_about_its_fraction_of_each_group():
    groups = torch.arange(2).repeat_interleave(10_000)
    split = split_within(names_of(20_000), groups, 0.05, 0.1, seed=0)
    for group in range(2):
        shares = split[groups == group].bincount() / 10_000
        torch.testing.assert_close(shares, torch.tensor([0.85, 0.05, 0.1]), rtol=0, atol=0.01)


def test_the_sides_are_those_of_every_version_and_platform():
    split = split_within(names_of(40), torch.zeros(40).long(), 0.15, 0.15, seed=3)
    assert (split == 2).nonzero()[:, 0].tolist() == [2, 4, 7, 10, 11, 13, 19, 20, 24, 39]
    assert (split == 1).nonzero()[:, 0].tolist() == [5, 6, 12, 23, 31]


def test_no_item_changes_sides_as_others_come_and_go_in_any_order():
    n = 600
    names, groups = names_of(n), torch.arange(n) % 3
    split = split_within(names, groups, 0.15, 0.2, seed=1)
    for trial in range(5):
        part = torch.randperm(n, generator=torch.Generator().manual_seed(trial))[: n // 2]
        again = split_within([names[item] for item in part.tolist()], groups[part], 0.15, 0.2, seed=1)
        assert torch.equal(again, split[part])


def test_a_side_does_not_depend_on_the_other_fraction_but_on_the_seed():
    names, groups = names_of(300), torch.zeros(300).long()
    one, more, other = (split_within(names, groups, val, 0.2, seed) for val, seed in ((0.1, 0), (0.3, 0), (0.1, 1)))
    assert torch.equal(one == 2, more == 2)
    assert (more[one == 1] == 1).all()
    assert not torch.equal(one, other)


def test_a_fraction_of_nothing_takes_nothing():
    names, groups = names_of(30), torch.zeros(30).long()
    assert split_within(names, groups, 0, 0.2, seed=0).unique().tolist() == [0, 2]
    assert split_within(names, groups, 0.2, 0, seed=0).unique().tolist() == [0, 1]
    assert split_within([], groups[:0], 0.2, 0.2, seed=0).shape == (0,)


def test_a_name_need_not_be_valid_text():
    names = ["\udce9.png", "ü/ß.png", "\U0001f408.png"]
    assert split_within(names, torch.zeros(3).long(), 0.1, 0.1, seed=0).sort().values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("fraction", [0, 0.34, 0.5, 1, -0.1, float("nan")])
def test_a_fraction_that_leaves_too_little_for_training_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"some_fraction=.* between 0 and 1/3: .* leave a third or more for training"):
        check_fraction("some_fraction", fraction)


@pytest.mark.parametrize("fraction", [0.001, 0.2, 1 / 3])
def test_a_fraction_that_is_allowed_is_met(fraction):
    check_fraction("some_fraction", fraction)
    split = split_within(names_of(9000), torch.zeros(9000).long(), fraction, fraction, seed=0)
    shares = split.bincount(minlength=3) / 9000
    torch.testing.assert_close(shares, torch.tensor([1 - 2 * fraction, fraction, fraction]), rtol=0, atol=0.01)


def test_a_name_has_one_side_however_its_accents_are_written():
    names = [f"Café/Größe {number}.png" for number in range(100)]
    composed, apart = (
        split_within([normalize(form, name) for name in names], torch.zeros(100).long(), 0.2, 0.3, seed=0)
        for form in ("NFC", "NFD")
    )
    assert torch.equal(composed, apart)


@pytest.mark.parametrize("seed", range(6))
def test_a_held_out_group_is_no_larger_than_its_fraction_or_the_mean(seed):
    sizes = [2] * 30 + [3] * 10 + [25, 100, 900]
    names = [f"{number}" for number, size in enumerate(sizes) for _ in range(size)]
    split = split_groups(names, 0.02, 0.1, seed)
    largest = {1: 25, 2: 100}  # the mean is 26, and the fractions are 22 and 112
    for side, most in largest.items():
        held_out = {name for name, number in zip(names, split.tolist()) if number == side}
        assert len(held_out) >= 2
        assert max(sizes[int(name)] for name in held_out) <= most


def test_groups_stay_together_and_none_changes_sides_as_others_come():
    names = [f"id_{number}" for number in range(200)]
    split = split_groups(names * 2, 0.1, 0.2, seed=3)
    assert torch.equal(split[:200], split[200:])
    assert torch.equal(split[:200], split_within(names, torch.zeros(200).long(), 0.1, 0.2, seed=3))
    assert torch.equal(split_groups(names[100:], 0.1, 0.2, seed=3), split[100:200])
    assert split_groups([], 0.1, 0.2, seed=3).shape == (0,)


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
