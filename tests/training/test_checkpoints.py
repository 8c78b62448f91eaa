"""Every state that is written leads to the same end, none is half-written, and stopping comes at the next one."""

import os
import shutil
import signal
from functools import partial
from operator import attrgetter

import pytest
import pytorch_lightning as pl
import torch
from tests.training.tasks import interpret, trainer, weights

from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import StreamModule
from iin_lightning.data.stream import FixedSingles, Singles
from iin_lightning.errors import (
    STOP_SIGNALS,
    CheckpointError,
    ConfigError,
    Preempted,
    ResourceError,
    StoppedByUser,
)
from iin_lightning.training import checkpoints
from iin_lightning.training.checkpoints import AtomicCheckpointIO, Checkpoints, KeepBest
from iin_lightning.training.ema import EMA

STEPS, VALIDATE = 12, 4


class Latents(StreamModule):
    """60 latents in batches of 16, which 60 is no multiple of."""

    def setup(self, stage):
        z = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
        self.cache = LatentCache(z, torch.full_like(z, 0.1), torch.zeros(60, 1).long(), ("none",))

    def train_dataloader(self):
        stream = Singles(self.cache, self.batch_size, self.seed, **self.ranks)
        return self.train_loader(stream, len(self.cache), attrgetter("x"))

    def val_dataloader(self):
        return self.eval_loader(FixedSingles(self.cache, 25, **self.ranks), attrgetter("x"))


class Copied(Checkpoints):
    """Keeps a copy of each state, and of the best weights beside it."""

    def _write(self, trainer):
        super()._write(trainer)
        steps, batches = trainer.global_step, trainer.fit_loop.epoch_loop.batch_progress.total.processed
        name = f"{steps}-{batches}-{'validated' if trainer.validating else 'trained'}"
        shutil.copytree(self.path.parent, self.path.parent.parent / "states" / name, dirs_exist_ok=True)


class Act(pl.Callback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self.act()


def fit(folder, written, *more, every=1, resume=None, accumulate=1, validate=VALIDATE):
    slower = partial(torch.optim.lr_scheduler.LinearLR, total_iters=STEPS)
    task = interpret(optimizer=partial(torch.optim.Adam, lr=3e-2), scheduler=slower)
    best = KeepBest(folder / "checkpoints" / "best", task.monitor)
    last, average = written(folder / "checkpoints" / "last.ckpt", every), EMA(0.9)
    run = trainer(
        STEPS,
        callbacks=[average, *more, best, last],
        plugins=[AtomicCheckpointIO()],
        accumulate_grad_batches=accumulate,
        val_check_interval=validate,
        check_val_every_n_epoch=None,
        use_distributed_sampler=False,
        enable_checkpointing=True,
    )
    run.fit(task, datamodule=Latents(batch_size=16, seed=5), ckpt_path=resume, weights_only=True)
    average.show(task)  # after the last step nothing is trained, and no end of training comes
    return weights(task), best, last, run


@pytest.mark.parametrize(("accumulate", "validate"), [(1, 5), (2, 4)])
def test_every_state_leads_to_the_same_end(tmp_path, accumulate, validate):
    options = {"accumulate": accumulate, "validate": validate}
    end, best, last, _ = fit(tmp_path, Copied, **options)
    states = sorted((tmp_path / "states").iterdir())
    assert len(states) > 8
    for state in states[::4]:
        folder = tmp_path / "again" / state.name
        shutil.copytree(state, folder / "checkpoints")
        resume = folder / "checkpoints" / "last.ckpt"
        again, best_again, last_again, run_again = fit(folder, Copied, resume=resume, **options)
        assert run_again.global_step == STEPS
        assert all(torch.equal(value, again[name]) for name, value in end.items()), state.name
        assert best_again.best_model_score == best.best_model_score, state.name
        assert last_again.validation == last.validation, state.name
        kept = [torch.load(b.best_model_path, weights_only=True)["state_dict"] for b in (best, best_again)]
        assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items()), state.name


def test_no_state_lies_between_a_step_and_its_validation_or_within_a_step(tmp_path):
    fit(tmp_path, Copied, accumulate=2, validate=4)
    names = {state.name for state in (tmp_path / "states").iterdir()}
    trained = {f"{step}-{2 * step}-trained" for step in range(1, STEPS + 1) if step % 2}
    assert names == trained | {f"{step}-{2 * step}-validated" for step in range(2, STEPS + 1, 2)} | {"12-24-trained"}


def test_states_come_with_time_too(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 25))  # seconds, each time that somebody looks
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    fit(tmp_path, lambda path, _: Copied(path, None, every_minutes=1), validate=100)
    steps = sorted(int(state.name.split("-")[0]) for state in (tmp_path / "states").iterdir())
    assert steps == [2, 4, 6, 8, 10, 12], "the clock is looked at after each step, and after each state"


@pytest.mark.parametrize(
    ("signum", "error", "code", "step"),
    [
        (signal.SIGINT, StoppedByUser, 130, 2),
        (signal.SIGTERM, Preempted, 75, VALIDATE),
        (signal.SIGUSR1, Preempted, 75, STEPS),
    ],
)
def test_a_signal_stops_at_the_next_state(tmp_path, signum, error, code, step):
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    act = Act(step, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(error, match=f"after step {step}; the state is in .*last.ckpt") as stopped:
        fit(tmp_path, Checkpoints, act, every=None)
    assert stopped.value.exit_code == code
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == step
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_second_signal_stops_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):  # what Lightning makes of a KeyboardInterrupt
        fit(tmp_path, Checkpoints, Act(2, twice), every=None)
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_last_state(tmp_path):
    last = tmp_path / "checkpoints" / "last.ckpt"

    def fill():
        (last.parent / "last.ckpt.part").symlink_to("/dev/full")

    with pytest.raises(ResourceError, match=r"last\.ckpt \(No space left on device\); the last state is still in"):
        fit(tmp_path, Checkpoints, Act(3, fill), every=2)
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert not list(last.parent.glob("*.part"))


def test_a_damaged_state_is_named(tmp_path):
    last = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state": torch.zeros(100)}, last)
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is no file of torch\.save, or damaged"):
        AtomicCheckpointIO().load_checkpoint(last)


@pytest.mark.parametrize(("steps", "minutes"), [(0, None), (None, 0.0), (None, float("nan"))])
def test_an_interval_that_is_none_is_refused(tmp_path, steps, minutes):
    with pytest.raises(ConfigError, match="checkpoint"):
        Checkpoints(tmp_path / "last.ckpt", steps, minutes)
