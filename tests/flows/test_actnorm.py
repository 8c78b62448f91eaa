"""ActNorm starts from its first batch, once, and from nothing else."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist

from iin_lightning.errors import NonFiniteError
from iin_lightning.layers.actnorm import ActNormalization


def batch(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Values whose mean and deviation differ from channel to channel."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    channels = torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2))
    return (1 + channels) * x + 10 * channels


@pytest.mark.parametrize("shape", [(2, 3), (25, 3), (64, 7, 4, 5), (1, 3, 8, 8)])
def test_the_first_batch_comes_out_standardised(shape):
    layer = ActNormalization(shape[1])
    y = layer(batch(shape)).transpose(0, 1).flatten(1)
    assert layer.ready
    assert layer.initialized
    torch.testing.assert_close(y.mean(1), torch.zeros(shape[1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(y.std(1), torch.ones(shape[1]), rtol=0, atol=1e-4)


def test_the_second_batch_changes_nothing():
    layer = ActNormalization(3)
    layer(batch((25, 3)))
    before = layer.loc.clone(), layer.log_scale.clone()
    layer(100 + batch((25, 3)))
    assert torch.equal(layer.loc, before[0])
    assert torch.equal(layer.log_scale, before[1])


def test_evaluation_does_not_initialise():
    layer, x = ActNormalization(3).eval(), batch((25, 3))
    assert torch.equal(layer(x), x)
    assert not layer.ready
    assert not layer.initialized


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1), (0, 3)])
def test_a_single_sample_leaves_the_start_to_a_later_batch(shape):
    layer, x = ActNormalization(3), batch(shape)
    assert torch.equal(layer(x), x)
    assert not layer.ready
    layer(batch((25, 3)))
    assert layer.ready


@pytest.mark.parametrize("constant", [0.0, 3.0, 1e6])
def test_a_dead_dimension_keeps_its_scale_and_its_neighbours_do_not(constant):
    layer, x = ActNormalization(3), batch((25, 3))
    x[:, 1] = constant
    y = layer(x)
    assert layer.log_scale[1] == 0
    assert torch.equal(y[:, 1], torch.zeros(25))
    torch.testing.assert_close(y[:, [0, 2]].std(0), torch.ones(2), rtol=0, atol=1e-4)
    y.square().sum().backward()
    assert layer.log_scale.grad is not None
    assert layer.log_scale.grad.isfinite().all()


def test_a_large_mean_does_not_swallow_a_small_deviation():
    layer, x = ActNormalization(1), 1000 + 0.01 * torch.randn(4096, 1)
    layer(x)
    assert layer.log_scale.exp().item() == pytest.approx(1 / x.double().std().item(), rel=1e-3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_non_finite_batch_is_counted(bad):
    layer, x = ActNormalization(3), batch((25, 3))
    x[4:6, 1] = bad
    with pytest.raises(NonFiniteError, match="2 of 75 values are NaN or infinite"):
        layer(x)
    assert not layer.ready
    assert torch.equal(layer.loc, torch.zeros(3))


@pytest.mark.parametrize("was_ready", [True, False])
@pytest.mark.parametrize("is_ready", [True, False])
def test_loading_takes_over_whether_it_was_initialised(was_ready, is_ready):
    saved, loaded = ActNormalization(3), ActNormalization(3)
    if is_ready:
        saved(batch((25, 3)))
    if was_ready:
        loaded(batch((25, 3), seed=1))
    loaded.load_state_dict(saved.state_dict())
    assert loaded.ready is is_ready
    loaded(batch((25, 3), seed=2))
    assert torch.equal(loaded.loc, saved.loc) is is_ready


def one_of_two(rank, x, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    layer = ActNormalization(x.shape[1])
    layer(x)
    torch.save(layer.state_dict(), folder / f"state{rank}.pt")
    if rank == 1:
        x[0, 0, 0] = torch.nan
    try:
        ActNormalization(x.shape[1])(x)
    except NonFiniteError as error:
        (folder / f"error{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


def test_two_processes_start_as_one_with_both_batches(tmp_path):
    shards = [batch((9, 3, 2, 2), seed=1), 5 * batch((4, 3, 2, 2), seed=2)]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=one_of_two, args=(rank, shard, tmp_path)) for rank, shard in enumerate(shards)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    together = ActNormalization(3)
    together(torch.cat(shards))
    states = [torch.load(tmp_path / f"state{rank}.pt") for rank in (0, 1)]
    for key, value in together.state_dict().items():
        assert torch.equal(states[0][key], states[1][key]), key
        torch.testing.assert_close(states[0][key], value)
    # Rank 1 alone had NaN in its second batch; both say so, neither waits for the other.
    for rank in (0, 1):
        assert "2 of 156 values" in (tmp_path / f"error{rank}.txt").read_text()
