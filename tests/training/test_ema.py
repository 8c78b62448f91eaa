"""The average of the weights is the one by hand, and what is validated, kept and saved."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from tests.training.tasks import interpret, latents, loader, trainer, weights
from torch import nn

from iin_lightning import serialization
from iin_lightning.errors import ConfigError
from iin_lightning.interpreter import Interpreter
from iin_lightning.training.checkpoints import KeepBest
from iin_lightning.training.ema import EMA
from iin_lightning.training.interpret import Interpret

DECAY = 0.3  # so that the slow beginning is over after four steps


class Recorded(Interpret):
    """Keeps the weights after each step, and those that are validated."""

    def on_train_batch_end(self, *args):
        self.history.append(weights(self))

    def on_validation_start(self):
        self.validated.append(weights(self))


def task(components=0):
    made = interpret(optimizer=partial(torch.optim.Adam, lr=1e-2), kind=Recorded, components=components)
    made.history, made.validated = [], []
    return made


def fit(made, steps, callbacks, checkpoint=None, done=0, **options):
    batches = loader(list(latents(24))[done:])
    keeps = any(isinstance(callback, KeepBest) for callback in callbacks)
    validate = {"val_check_interval": 3, "check_val_every_n_epoch": None}
    run = trainer(steps, callbacks=callbacks, enable_checkpointing=keeps, **validate, **options)
    run.fit(made, batches, batches, ckpt_path=checkpoint, weights_only=True)
    return run


def by_hand(history):
    """average = d average + (1 - d) weights in float64; whole numbers are those of the last weights."""
    average = {name: value.double() for name, value in history[0].items()}
    for n, after in enumerate(history[1:], start=1):
        d = min(DECAY, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * value.double() for name, value in after.items()}
    whole = {name: value for name, value in history[-1].items() if not value.is_floating_point()}
    return {name: value.float() for name, value in average.items()} | whole


def same(a, b):
    for name, value in b.items():
        torch.testing.assert_close(a[name].to(value), value, rtol=1e-5, atol=1e-6, msg=name)


def test_the_task_ends_with_the_average_and_trains_without(tmp_path):
    with_average, without = task(), task()
    before = serialization.fingerprint(with_average.interpreter.encoder)
    fit(with_average, 8, [EMA(DECAY)])
    fit(without, 8, [])
    for a, b in zip(with_average.history, without.history):
        assert all(torch.equal(a[name], b[name]) for name in a)
    same(weights(with_average), by_hand(without.history))
    name = "blocks.0.actnorm.layer.loc"
    assert not torch.equal(weights(with_average)[name], without.history[-1][name])
    with_average.interpreter.save_pretrained(tmp_path)
    same(Interpreter.from_pretrained(tmp_path).translator.state_dict(), by_hand(without.history))
    assert serialization.fingerprint(with_average.interpreter.encoder) == before


def test_the_average_is_validated_and_the_best_one_kept(tmp_path):
    made, best = task(), KeepBest(tmp_path / "best", Interpret.monitor)
    fit(made, 6, [EMA(DECAY), best])
    assert len(made.validated) == 2
    for validated, steps in zip(made.validated, (3, 6)):
        same(validated, by_hand(made.history[:steps]))
    best.restore(made)
    step = torch.load(best.best_model_path, weights_only=True)["global_step"]
    same(weights(made), by_hand(made.history[:step]))


@pytest.mark.parametrize("components", [0, 3])
def test_a_resumed_run_is_the_uninterrupted_one(components, tmp_path):
    whole = task(components)
    fit(whole, 8, [EMA(DECAY)])
    for first in (3, 5):  # after a validation, and between two
        begun, resumed = task(components), task(components)
        run = fit(begun, first, [EMA(DECAY)])
        run.save_checkpoint(tmp_path / "c.ckpt")  # the task holds the average now, the checkpoint must not
        fit(resumed, 8, [EMA(DECAY)], tmp_path / "c.ckpt", done=first)
        for name, value in weights(whole).items():
            assert torch.equal(weights(resumed)[name], value), name
        same(resumed.history[-1], whole.history[-1])


def test_batches_that_only_accumulate_are_no_steps():
    made = task()
    fit(made, 3, [EMA(DECAY)], accumulate_grad_batches=2)
    same(weights(made), by_hand(made.history[1::2]))


def test_running_statistics_are_averaged_with_the_weights_beside_them():
    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.norm, self.means = nn.BatchNorm1d(3), []

        def training_step(self, x, batch_idx):
            return self.norm(x).square().mean()

        def on_train_batch_end(self, *args):
            self.means.append(self.norm.running_mean.clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    net = Net()
    trainer(2, callbacks=[EMA(DECAY)]).fit(net, loader(list(torch.randn(2, 8, 3))))
    d = 2 / 11
    torch.testing.assert_close(net.norm.running_mean, d * net.means[0] + (1 - d) * net.means[1])
    assert net.norm.num_batches_tracked == 2


@pytest.mark.parametrize("decay", [0.0, 1.0, -1])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ConfigError, match="lies in"):
        EMA(decay)
