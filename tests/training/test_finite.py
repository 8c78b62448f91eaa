"""What is not finite reaches no weight, is traced to its items, and can be skipped."""

from functools import partial
from itertools import pairwise
from operator import attrgetter

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import StreamModule
from iin_lightning.data.stream import FixedSingles, Pairs, Singles
from iin_lightning.errors import ConfigError, NonFiniteError
from iin_lightning.factors import Factors
from iin_lightning.training import finite
from iin_lightning.training.classify import Classify

BROKEN = 17


class Latents(StreamModule):
    """40 latents, of which one, or all, are not finite."""

    factors = None

    def __init__(self, broken, value, **loading):
        super().__init__(**loading)
        z = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
        z[broken] = value
        self.cache = LatentCache(z, torch.zeros_like(z), (torch.arange(40) % 4)[:, None], ("digit",))
        self.finite = LatentCache(z.nan_to_num(0.0), torch.zeros_like(z), self.cache.labels, ("digit",))

    def train_dataloader(self):
        if self.factors is None:
            stream, collate = Singles(self.cache, self.batch_size, self.seed), attrgetter("x")
        else:
            stream, collate = Pairs(self.cache, self.factors, self.batch_size, self.seed), None
        return self.train_loader(stream, 40, collate)

    def val_dataloader(self):
        return self.eval_loader(FixedSingles(self.finite, 40), attrgetter("x"))


def steps_with(data, steps):
    """The steps of a run that have the broken item in their batch."""
    stream = Singles(data.cache, data.batch_size, data.seed)
    return [step for step in range(steps) if BROKEN in stream.indices(step).tolist()]


@pytest.fixture
def ready(interpret):
    """A task whose first batch, from which ActNorm starts, is behind it."""

    def make(**options):
        task = interpret(lr=1e-2, **options)
        task.interpreter.translator.train()
        task.interpreter.translator(torch.randn(50, 6, generator=torch.Generator().manual_seed(3)))
        return task

    return make


def weights(task):
    return [p.detach().clone() for p in task.interpreter.translator.parameters()]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_skipped_leaves_the_weights_and_no_trace(ready, trainer, value):
    data, task = Latents(BROKEN, value, batch_size=10, seed=2), ready(on_nan="skip")
    seen = [weights(task)]
    task.on_train_batch_end = lambda *_: seen.append(weights(task))
    run = trainer(12)
    run.fit(task, datamodule=data)
    moved = [any(not torch.equal(a, b) for a, b in zip(before, after)) for before, after in pairwise(seen)]
    broken = steps_with(data, 12)
    assert broken
    assert [step for step, has_moved in enumerate(moved) if not has_moved] == broken
    assert task.skipped == len(broken)
    state = run.optimizers[0].state_dict()["state"]
    assert {int(entry["step"]) for entry in state.values()} == {12 - len(broken)}, "Adam counted none of them"


def test_a_step_that_is_skipped_leaves_the_running_statistics(trainer):
    def fit(*steps):
        torch.manual_seed(0)
        network = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))
        adam, constant = partial(torch.optim.Adam, lr=0.01), partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
        x = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1))
        x[1, 3] = float("nan")
        batches = [(x[step], torch.zeros(8, 1).long()) for step in steps]
        run = trainer(len(steps), max_epochs=1, limit_val_batches=0)
        run.fit(Classify(network, 0, adam, constant, on_nan="skip"), DataLoader(batches, batch_size=None))
        return network.state_dict()

    skipped, without = fit(0, 1, 2, 3), fit(0, 2, 3)
    del skipped["0.num_batches_tracked"], without["0.num_batches_tracked"]
    assert all(torch.equal(value, without[name]) for name, value in skipped.items())


def test_skipping_is_said_with_the_items(ready, trainer, caplog):
    data = Latents(BROKEN, float("nan"), batch_size=10, seed=2)
    trainer(6).fit(ready(on_nan="skip"), datamodule=data)
    said = [record.message for record in caplog.records if "is skipped" in record.message]
    steps = steps_with(data, 6)
    assert len(said) == len(steps) == len({*said})
    assert all(f"Step {step} is skipped" in text and str(BROKEN) in text for step, text in zip(steps, said))


def test_skipping_without_end_stops(ready, trainer):
    data = Latents(slice(None), float("nan"), batch_size=10, seed=2)
    with pytest.raises(NonFiniteError, match=f"gradients of {finite.MOST_SKIPPED} steps in a row"):
        trainer(100).fit(ready(on_nan="skip"), datamodule=data)


@pytest.mark.parametrize("later", [False, True], ids=["seen at once", "seen later, as on a GPU"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopping_names_the_step_and_the_items(ready, trainer, monkeypatch, later, accumulate):
    monkeypatch.setattr(finite, "waits_for_nothing", lambda device: not later)
    data = Latents(BROKEN, float("nan"), batch_size=10, seed=2)
    first = steps_with(data, 12)[0]
    items = Singles(data.cache, 10, 2).indices(first).tolist()
    with pytest.raises(NonFiniteError) as stopped:
        trainer(12, accumulate_grad_batches=accumulate).fit(ready(), datamodule=data)
    said = f"The loss of step {first // accumulate} (items {', '.join(map(str, items))} of the training data) is "
    assert said in str(stopped.value)


def test_of_pairs_both_sides_are_named(ready, trainer):
    data = Latents(BROKEN, float("nan"), batch_size=20, seed=2)
    data.factors = Factors({"residual": 4, "digit": 2}, 6)
    with pytest.raises(NonFiniteError, match=r"items .* and 28 more of the training data"):
        trainer(12, limit_val_batches=0).fit(ready(paired=True), datamodule=data)


def test_what_to_do_is_stop_or_skip(interpret):
    with pytest.raises(ConfigError, match=r"no on_nan=skpi; allowed are: stop, skip \(did you mean skip\?\)"):
        interpret(on_nan="skpi")
