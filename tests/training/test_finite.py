"""What is not finite reaches no weight and no checkpoint, is traced to its layer and items, and can be skipped.

A step on a GPU reads no value from the device for it.
"""

import re
import traceback
from itertools import pairwise
from operator import attrgetter

import pytest
import pytorch_lightning as pl
import torch
from tests.training.tasks import adam, autoencode, constant, images, interpret, latents, loader, trainer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from iin_lightning import progress
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import StreamModule
from iin_lightning.data.stream import FixedSingles, Pairs, Singles
from iin_lightning.errors import ConfigError, NonFiniteError
from iin_lightning.factors import Factors
from iin_lightning.flows import Translator
from iin_lightning.training import finite
from iin_lightning.training.classify import Classify
from iin_lightning.training.finite import first_non_finite
from iin_lightning.training.step_progress import StepProgress

BROKEN, NAN = 17, float("nan")


class Latents(StreamModule):
    """40 latents, of which one, or all, are not finite."""

    factors = None

    def __init__(self, broken=BROKEN, value=NAN, batch_size=10):
        super().__init__(batch_size=batch_size, seed=2)
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

    def steps_with_it(self, steps):
        """The steps of a run that have the broken item in their batch."""
        stream = Singles(self.cache, self.batch_size, self.seed)
        return [step for step in range(steps) if BROKEN in stream.indices(step).tolist()]


def ready(**options):
    """A task whose first batch, from which ActNorm starts, is behind it."""
    task = interpret(**options)
    task.interpreter.translator.train()
    task.interpreter.translator(torch.randn(50, 6, generator=torch.Generator().manual_seed(3)))
    return task


def parameters(task):
    return [p.detach().clone() for p in task.interpreter.translator.parameters()]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(finite, "waits_for_nothing", lambda device: False)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_step_that_is_skipped_leaves_the_weights_and_is_named_with_its_items(value, caplog):
    data, task = Latents(value=value), ready(on_nan="skip")
    seen = [parameters(task)]
    task.on_train_batch_end = lambda *_: seen.append(parameters(task))
    run = trainer(12)
    run.fit(task, datamodule=data)
    moved = [not all(map(torch.equal, before, after)) for before, after in pairwise(seen)]
    broken = data.steps_with_it(12)
    assert broken
    assert [step for step, has_moved in enumerate(moved) if not has_moved] == broken
    assert task.skipped == len(broken)
    state = run.optimizers[0].state_dict()["state"]
    assert {int(entry["step"]) for entry in state.values()} == {12 - len(broken)}, "Adam counted none of them"
    texts = [record.message for record in caplog.records if "is skipped" in record.message]
    assert len(texts) == len(broken)
    assert all(f"Step {step} is skipped" in text and str(BROKEN) in text for step, text in zip(broken, texts))


def test_a_step_that_is_skipped_leaves_the_running_statistics():
    def fit(*steps):
        torch.manual_seed(0)
        network = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))
        x = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1))
        x[1, 3] = NAN
        run = trainer(len(steps), max_epochs=1, limit_val_batches=0)
        batches = [(x[step], torch.zeros(8, 1).long()) for step in steps]
        run.fit(Classify(network, 0, adam, constant, on_nan="skip"), loader(batches))
        return network.state_dict()

    skipped, without = fit(0, 1, 2, 3), fit(0, 2, 3)
    del skipped["0.num_batches_tracked"], without["0.num_batches_tracked"]
    assert all(torch.equal(value, without[name]) for name, value in skipped.items())


def test_skipping_without_end_stops():
    with pytest.raises(NonFiniteError, match=f"gradients of {finite.MOST_SKIPPED} steps in a row"):
        trainer(100).fit(ready(on_nan="skip"), datamodule=Latents(slice(None)))


@pytest.mark.parametrize("later", [False, True], ids=["seen at once", "seen later, as on a GPU"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopping_names_the_step_and_the_items(monkeypatch, later, accumulate):
    monkeypatch.setattr(finite, "waits_for_nothing", lambda device: not later)
    data = Latents()
    first = data.steps_with_it(12)[0]
    items = Singles(data.cache, 10, 2).indices(first).tolist()
    with pytest.raises(NonFiniteError) as stopped:
        trainer(12, accumulate_grad_batches=accumulate).fit(ready(), datamodule=data)
    text = f"The loss of step {first // accumulate} (items {', '.join(map(str, items))} of the training data) is "
    assert text in str(stopped.value)


def test_of_pairs_both_sides_are_named():
    data = Latents(batch_size=20)
    data.factors = Factors({"residual": 4, "digit": 2}, 6)
    with pytest.raises(NonFiniteError, match=r"items .* and 28 more of the training data"):
        trainer(12, limit_val_batches=0).fit(ready(paired=True), datamodule=data)


def test_what_to_do_is_stop_or_skip():
    with pytest.raises(ConfigError, match=r"no on_nan=skpi; allowed are: stop, skip \(did you mean skip\?\)"):
        interpret(on_nan="skpi")


def test_images_and_layers_at_fault_are_named():
    broken = images(3)
    broken.dataset[1].x[0, 0, 0, 0] = NAN
    with pytest.raises(NonFiniteError, match="step 1 is not finite: 1 of 8 examples in the batch"):
        trainer(3).fit(autoencode(), broken)
    task = ready()
    task.interpreter.translator.get_submodule("blocks.1.actnorm.layer").loc.data.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match=r"step 0 is not finite: layer 'blocks.1.actnorm.layer' "):
        trainer(2).fit(task, latents())


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("blocks.0.actnorm.layer.log_scale", NAN),
        ("blocks.1.coupling_1.conditioner.first.weight", NAN),
        ("blocks.3.coupling_2.conditioner.last.bias", NAN),
        ("blocks.2.actnorm.layer.log_scale", 100),
    ],
)
def test_the_layer_with_a_broken_parameter_is_named(parameter, value):
    translator = Translator(5, n_blocks=4, hidden=8)
    translator.get_parameter(parameter).data.view(-1)[-1] = value
    layer = parameter.rpartition(".")[0]
    assert first_non_finite(translator, torch.randn(4, 5)).startswith(f"layer {layer!r} (")


def test_the_network_is_left_as_it_was():
    translator = Translator(5, n_blocks=2, hidden=8)
    assert "every layer's output is finite" in first_non_finite(translator, torch.randn(64, 5))
    with pytest.raises(ValueError, match="latents of shape"):
        first_non_finite(translator, torch.randn(4, 6))
    assert translator.training
    assert not translator.ready
    assert not any(module._forward_hooks for module in translator.modules())


class Reads(TorchDispatchMode):
    """Writes down where the value of a tensor is asked for: what ``.item()``, ``bool()`` and ``float()`` come to."""

    OPS = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.is_nonzero.default,
        torch.ops.aten.equal.default,
        torch.ops.aten._linalg_check_errors.default,
        torch.ops.aten.lift_fresh.default,  # torch.tensor([...]), which on a GPU is a copy that is waited for
    )

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in self.OPS:
            self.seen.append("".join(traceback.format_stack(limit=16)))
        return func(*args, **(kwargs or {}))


class PerStep(pl.Callback):
    """How many values each step has read, from its batch to the end of all other callbacks."""

    def __init__(self, reads):
        self.reads, self.counts, self.where = reads, [], []

    def on_train_batch_end(self, *args):
        self.counts.append(len(self.reads.seen))
        self.where.append("\n".join(self.reads.seen))
        self.reads.seen.clear()


@pytest.mark.parametrize(("paired", "precision"), [(False, "32-true"), (True, "bf16-mixed")])
def test_a_step_reads_nothing_between_the_looks(as_on_a_gpu, paired, precision, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    options = {"gradient_clip_val": 1.0, "log_every_n_steps": 10, "enable_progress_bar": True}
    with Reads() as reads:
        watch = PerStep(reads)
        run = trainer(12, precision=precision, callbacks=[StepProgress(), watch], **options)
        run.fit(interpret(paired), latents(12, paired))
    assert re.search(r"Training: 10/12, .* left, train/nll \d", capsys.readouterr().err)
    assert watch.counts[0] > 0  # ActNorm's first batch and the first look
    # Step 9 is the tenth, whose loss the bar shows; Lightning's own bar reads each, and so does ``prog_bar=True``.
    assert [step for step in range(1, 12) if watch.counts[step]] == [9], "".join(watch.where[1:3])


def broken():
    batches = latents(30)
    batches.dataset[BROKEN] = batches.dataset[BROKEN] * NAN
    return batches


def test_a_loss_that_broke_between_the_looks_is_dated(as_on_a_gpu, monkeypatch):
    with pytest.raises(NonFiniteError, match=r"The loss of step 17 .* at the end"):
        trainer(30).fit(interpret(), broken())
    monkeypatch.setattr(finite, "STEPS_BETWEEN_CHECKS", 10)
    with pytest.raises(NonFiniteError, match=r"The loss of step 17 is not finite: layer 'blocks\.0\.actnorm\.layer'"):
        trainer(30).fit(interpret(), broken())


def test_no_checkpoint_is_written_after_a_broken_loss_or_of_a_broken_weight(as_on_a_gpu, tmp_path):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=10, save_top_k=-1)
    task, run = interpret(), trainer(30, callbacks=[keep], enable_checkpointing=True)
    with pytest.raises(NonFiniteError, match=r"The loss of step 17 .* the state was to be written"):
        run.fit(task, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["step=10.ckpt"]
    task, run = interpret(), trainer(2)
    run.fit(task, latents(2))
    task.interpreter.translator.get_parameter("blocks.1.actnorm.layer.loc").data[0] = NAN
    with pytest.raises(NonFiniteError, match=r"After step 1, \S*blocks.1.actnorm.layer.loc has values that are not"):
        run.save_checkpoint(tmp_path / "c.ckpt")
    assert not (tmp_path / "c.ckpt").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("paired", [False, True], ids=["singles", "pairs"])
def test_a_step_on_a_gpu_does_not_synchronise(paired):
    class Forbid(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("error" if batch_idx > 0 else "default")

        def on_train_batch_end(self, *args):
            torch.cuda.set_sync_debug_mode("default")  # the next batch is fetched here

    run = trainer(8, accelerator="gpu", devices=1, gradient_clip_val=1.0, callbacks=[Forbid()], log_every_n_steps=50)
    try:
        run.fit(interpret(paired), latents(8, paired))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.global_step == 8
