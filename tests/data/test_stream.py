import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.order import EpochOrder, StepSampler, shards
from iin_lightning.data.stream import ConceptPairs, FixedPairs, FixedSingles, Groups, Pairs, Singles
from iin_lightning.errors import ConfigError, FactorError
from iin_lightning.factors import Factors
from iin_lightning.seeding import Noise, generator

FACTORS = Factors({"residual": 3, "color": 1, "digit": 2}, latent_dim=6)  # another order than the data's
STREAMS = {
    "singles": lambda source, **ranks: Singles(source, 12, 5, **ranks),
    "pairs": lambda source, **ranks: Pairs(source, FACTORS, 12, 5, **ranks),
    "groups": lambda source, **ranks: Groups(source, FACTORS, 12, 5, **ranks),
}
every_stream = pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS.keys())
FIXED = {
    "singles": lambda source, **ranks: FixedSingles(source, 7, **ranks),
    "pairs": lambda source, **ranks: FixedPairs(source, FACTORS, 7, 5, **ranks),
}
every_fixed = pytest.mark.parametrize("make", FIXED.values(), ids=FIXED.keys())


@pytest.fixture(scope="module")
def source(mnist_root):
    return ColorMNIST(mnist_root, views=2).source("train")


@pytest.fixture(scope="module")
def held_out(mnist_root):
    return ColorMNIST(mnist_root).source("test")


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        assert torch.equal(left, right)


def items(indices):
    """The items of a batch of singles (B,) or pairs (2, B)."""
    return indices if isinstance(indices, torch.Tensor) else torch.stack(indices)


@every_stream
def test_a_batch_is_a_function_of_the_step_whatever_came_before(make, source):
    stream = make(source)
    batches = [stream[t] for t in range(25)]
    assert_same(make(source)[24], batches[24])
    assert_same(stream[3], batches[3])
    assert len({batch[0].sum().item() for batch in batches}) == 25


@every_stream
def test_the_same_image_has_other_noise_at_another_step(make, source):
    stream = make(source)
    seen = {}
    for t in range(30):
        batch, indices = stream[t], items(stream.indices(t)).reshape(-1, 12)[0]
        for item, x in zip(indices.tolist(), batch[0]):
            assert item not in seen or not torch.equal(seen[item], x)
            seen[item] = x
    assert len(seen) == len(source)


def interleaved(parts):
    """The whole of what the ranks have: rows 0, 1, ... come from ranks 0, 1, ..., 0, ..."""
    together = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        together[rank :: len(parts)] = part
    return together


@every_stream
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_out_the_batch_of_a_single_process_with_its_noise(make, source, world_size):
    # Steps 9 and 10 meet the end of an epoch: neither batch nor world divides the items.
    assert len(source) % 12
    for step in (0, 9, 10):
        ranks = [make(source, rank=rank, world_size=world_size)[step] for rank in range(world_size)]
        assert_same((interleaved(parts) for parts in zip(*ranks, strict=True)), make(source)[step])


@every_stream
def test_a_batch_that_cannot_be_shared_out_is_refused(make, source):
    with pytest.raises(ConfigError, match=r"batch of 12 .* 5 processes.*multiple of 5"):
        make(source, rank=0, world_size=5)


@every_stream
def test_workers_give_the_batches_of_the_main_process(make, source):
    def batches(**workers):
        return list(DataLoader(make(source), sampler=range(4, 9), batch_size=None, **workers))

    for alone, worked in zip(batches(), batches(num_workers=2), strict=True):
        assert_same(alone, worked)


@every_stream
def test_a_stream_can_be_sent_to_a_spawned_worker(make, source):
    stream = make(source)
    assert_same(pickle.loads(pickle.dumps(stream))[7], stream[7])


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (10, 10), (10, 25), (1, 4), (7, 1)])
def test_batches_run_on_across_epochs_and_every_epoch_has_every_item(n, batch_size):
    order = EpochOrder(n, batch_size, seed=1)
    steps = [order.step(t) for t in range(8 * n)]
    assert {len(step) for step in steps} == {batch_size}
    epochs = torch.cat(steps)[: 8 * n].reshape(8, n)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(n).expand(8, n))
    assert n == 1 or len(epochs.unique(dim=0)) > 1


@pytest.mark.parametrize(("n", "batch_size"), [(0, 3), (3, 0)])
def test_an_empty_order_is_refused(n, batch_size):
    with pytest.raises(ConfigError, match="at least 1"):
        EpochOrder(n, batch_size, seed=0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("n", [6, 20, 21, 22])
def test_shards_of_several_ranks_are_the_batches_of_one(n, world_size):
    batches = shards(n, 4)
    assert torch.equal(torch.cat(batches), torch.arange(n))
    assert all(0 < len(batch) <= 4 for batch in batches)
    ranks = [shards(n, 4, rank, world_size) for rank in range(world_size)]
    assert_same((interleaved(parts) for parts in zip(*ranks, strict=True)), batches)


def test_a_pass_starts_where_training_stands():
    sampler = StepSampler(10, reached=lambda: 27)
    assert list(sampler) == [27, 28, 29]
    assert len(sampler) == 10


@every_fixed
def test_fixed_batches_show_every_item_once_and_are_always_the_same(make, held_out):
    data, again = make(held_out), make(held_out)
    anchors = torch.cat([items(data.indices(i)).reshape(-1, len(data[i][0]))[0] for i in range(len(data))])
    assert torch.equal(anchors.sort().values, torch.arange(len(held_out)))
    for i in range(len(data)):
        assert_same(data[i], again[i])
    assert torch.equal(torch.cat([data[i][0] for i in range(len(data))]), held_out.draw(anchors, None))


@every_fixed
def test_fixed_batches_do_not_depend_on_the_number_of_processes(make, held_out):
    def all_items(world_size):
        ranks = [make(held_out, rank=rank, world_size=world_size) for rank in range(world_size)]
        return {
            tuple(column.tolist())
            for data in ranks
            for i in range(len(data))
            for column in items(data.indices(i)).reshape(-1, len(data[i][0])).T
        }

    assert all_items(1) == all_items(3)


def test_pairs_say_in_the_columns_of_the_factors_what_both_share(source):
    pairs = Pairs(source, FACTORS, 48, 0)
    shared = []
    for step in range(40):
        a, b = pairs.indices(step)
        mask = pairs[step].shared
        agree = source.labels[a] == source.labels[b]
        assert torch.equal(mask[:, FACTORS.index("digit")], agree[:, 0])
        assert torch.equal(mask[:, FACTORS.index("color")], agree[:, 1])
        assert not mask[:, FACTORS.index("residual")].any()
        assert mask.any(dim=1).all()
        shared.append(mask)
    # Each concept is asked for half of the time, and shared by chance otherwise.
    agree = source.labels[:, None] == source.labels  # (n, n, K)
    both = agree.all(2).sum(1).sub(1)[:, None] / agree.sum(1).sub(1)  # the other one, given that k is shared
    expected = (1 + both.mean(0).flip(0)) / 2
    torch.testing.assert_close(torch.cat(shared).float().mean(dim=0)[[2, 1]], expected, rtol=0, atol=0.05)


def test_both_halves_of_a_pair_are_drawn_with_noise_of_their_own(source):
    same = source.labels[:, 1].argsort()[:1]
    x_a, x_b = source.draw(torch.cat([same, same]), Noise(0))
    assert not torch.equal(x_a, x_b)


def test_a_concept_of_the_data_that_is_no_factor_plays_no_part(source):
    factors = Factors({"residual": 4, "color": 2}, latent_dim=6)
    pairs = Pairs(source, factors, 60, 0)
    a, b = pairs.indices(0)
    assert pairs[0].shared.shape == (60, 2)
    assert torch.equal(source.labels[a, 1], source.labels[b, 1])
    assert (source.labels[a, 0] != source.labels[b, 0]).any()
    assert (a != b).all()


@pytest.mark.parametrize("make", [Pairs, FixedPairs])
def test_a_factor_that_the_data_do_not_know_is_refused_with_the_choices(make, source):
    with pytest.raises(FactorError, match=r"no concept 'colour'; allowed are: digit, color \(did you mean color"):
        make(source, Factors({"residual": 4, "colour": 2}, 6), 10, 0)


@pytest.mark.parametrize("make", [Pairs, FixedPairs])
def test_pairs_without_a_concept_are_refused_with_the_cure(make, source):
    with pytest.raises(FactorError, match=r"residual=6.* has none.*digit, color.*model=unsup"):
        make(source, Factors.unsupervised(6), 10, 0)


def test_a_concept_that_cannot_be_shared_is_not_drawn_and_a_loner_meets_anybody():
    # Items 0 and 1 share the first concept, 2 and 3 the second, 4 nothing.
    labels = torch.tensor([[0, 0], [0, 1], [1, 2], [2, 2], [3, 3]])
    source = ImageTensor(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), labels, ("digit", "color"))
    pairs = ConceptPairs(source, Factors({"residual": 1, "digit": 1, "color": 1}, 3))
    anchors = torch.arange(5).repeat(200)
    partners = pairs.partners(anchors, generator(0))
    assert [set(partners[anchors == i].tolist()) for i in range(5)] == [{1}, {0}, {3}, {2}, {0, 1, 2, 3}]


def groups_of(n, sizes):
    """A source of n items whose concept k has classes of so many items each, in random order."""
    key = generator(0)
    labels = torch.stack([torch.randperm(n, generator=key) // size for size in sizes], dim=1)
    return ImageTensor(torch.zeros(n, 1, 1, 1).byte(), labels, tuple(f"c{k}" for k in range(len(sizes))))


def test_what_chance_would_not_bring_together_stands_in_groups():
    source = groups_of(4000, (2000, 40, 10))
    stream = Groups(source, Factors({"residual": 1, "c0": 1, "c1": 1, "c2": 1}, latent_dim=4), 64, 5)
    for step, concept in enumerate(
        (2, 3, 2, 3)
    ):  # of classes of 40 a batch has 0.6 others, of those of 2,000 it has 31
        groups = stream[step].groups
        met = (groups[:, concept][:, None] == groups[:, concept]).sum(1) - 1
        assert met.float().mean() > 5
        assert (groups[:, 0] == -1).all()


def test_an_epoch_of_groups_has_each_item_once():
    source = groups_of(4000, (10,))
    stream = Groups(source, Factors({"residual": 1, "c0": 1}, latent_dim=2), 80, 5)
    first = torch.cat([stream.indices(step) for step in range(50)])
    assert first.bincount(minlength=4000).tolist() == [1] * 4000
    second = torch.cat([stream.indices(step) for step in range(50, 100)])
    assert not torch.equal(first, second)


def test_an_item_that_comes_twice_in_a_batch_is_in_no_group_the_second_time():
    source = groups_of(20, (5,))
    batch = Groups(source, Factors({"residual": 1, "c0": 1}, latent_dim=2), 48, 5)[0]
    assert (batch.groups[:, 1] >= 0).sum() == 20
    assert batch.groups[batch.groups[:, 1] >= 0, 1].bincount().tolist() == [5] * 4


def test_who_stands_with_whom_is_drawn_anew_in_each_epoch():
    source = groups_of(4000, (20,))
    stream = Groups(source, Factors({"residual": 1, "c0": 1}, latent_dim=2), 80, 5)
    together = []
    for epoch in range(2):
        rows = [stream.indices(step) for step in range(50 * epoch, 50 * (epoch + 1))]
        pairs = torch.cat([torch.stack([row[:-1], row[1:]], 1) for row in rows])
        same = source.labels[pairs[:, 0], 0] == source.labels[pairs[:, 1], 0]
        together.append({tuple(sorted(pair)) for pair in pairs[same].tolist()})
        assert same.float().mean() > 0.8
    assert len(together[0] & together[1]) < 0.3 * len(together[0])
