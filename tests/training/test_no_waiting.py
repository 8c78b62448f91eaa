"""A step of training never reads a value from the device, and still no checkpoint holds NaN."""

import re
import traceback

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from iin_lightning import progress
from iin_lightning.errors import NonFiniteError
from iin_lightning.training import finite
from iin_lightning.training.step_progress import StepProgress

READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten._linalg_check_errors.default,
    torch.ops.aten.lift_fresh.default,  # torch.tensor([...]), which on a GPU is a copy that is waited for
}


class Reads(TorchDispatchMode):
    """Writes down where the value of a tensor is asked for: what ``.item()``, ``bool()`` and ``float()`` come to."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READS:
            self.seen.append("".join(traceback.format_stack(limit=16)))
        return func(*args, **(kwargs or {}))


class PerStep(pl.Callback):
    """How many values each step has read, from its batch to the end of all other callbacks."""

    def __init__(self, reads: Reads) -> None:
        self.reads, self.counts, self.where = reads, list[int](), list[str]()

    def on_train_batch_end(self, *args) -> None:
        self.counts.append(len(self.reads.seen))
        self.where.append("\n".join(self.reads.seen))
        self.reads.seen.clear()


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(finite, "waits_for_nothing", lambda device: False)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("paired", [False, True], ids=["singles", "pairs"])
def test_a_step_reads_nothing_between_the_looks(
    interpret, latents, trainer, as_on_a_gpu, paired, precision, capsys, monkeypatch
):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Reads() as reads:
        watch = PerStep(reads)
        trainer(
            12,
            precision=precision,
            gradient_clip_val=1.0,
            log_every_n_steps=10,
            enable_progress_bar=True,
            callbacks=[StepProgress(), watch],
        ).fit(interpret(paired), latents(12, paired))
    assert re.search(r"Training: 10/12, .* left, train/nll \d", capsys.readouterr().err)
    assert watch.counts[0] > 0  # ActNorm's first batch and the first look
    # Step 9 is the tenth, whose loss the bar shows; Lightning's own bar reads each, and so does ``prog_bar=True``.
    assert [step for step in range(1, 12) if watch.counts[step]] == [9], "".join(watch.where[1:3])


def test_on_the_processor_each_loss_is_looked_at(interpret, latents, trainer):
    with Reads() as reads:
        watch = PerStep(reads)
        trainer(4, callbacks=[watch]).fit(interpret(), latents(4))
    assert watch.counts[1:] == [1, 1, 1]


def broken(latents, count=60, at=17):
    batches = latents(count)
    batches.dataset[at] = batches.dataset[at] * float("nan")
    return batches


def test_a_loss_that_broke_between_the_looks_is_dated(interpret, latents, trainer, as_on_a_gpu):
    with pytest.raises(NonFiniteError, match=r"The loss of step 17 is not finite: layer 'blocks\.0\.actnorm\.layer'"):
        trainer(60).fit(interpret(), broken(latents))


def test_no_checkpoint_is_written_after_a_broken_loss(interpret, latents, trainer, as_on_a_gpu, tmp_path):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=10, save_top_k=-1)
    with pytest.raises(NonFiniteError, match=r"The loss of step 17 .* the state was to be written"):
        trainer(60, callbacks=[keep], enable_checkpointing=True).fit(interpret(), broken(latents))
    assert [path.name for path in tmp_path.iterdir()] == ["step=10.ckpt"]


def test_the_last_losses_are_looked_at_in_the_end(interpret, latents, trainer, as_on_a_gpu):
    with pytest.raises(NonFiniteError, match=r"The loss of step 17 .* at the end"):
        trainer(30).fit(interpret(), broken(latents))


def test_no_checkpoint_holds_a_weight_that_is_nan(interpret, latents, trainer, tmp_path):
    task, run = interpret(), trainer(2)
    run.fit(task, latents(2))
    with torch.no_grad():
        task.interpreter.translator.get_parameter("blocks.1.actnorm.layer.loc")[0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"After step 1, \S*blocks.1.actnorm.layer.loc has values that are not"):
        run.save_checkpoint(tmp_path / "c.ckpt")
    assert not (tmp_path / "c.ckpt").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("paired", [False, True], ids=["singles", "pairs"])
def test_a_step_on_a_gpu_does_not_synchronise(interpret, latents, trainer, paired):
    class Forbid(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("error" if batch_idx > 0 else "default")

        def on_train_batch_end(self, *args):
            torch.cuda.set_sync_debug_mode("default")  # the next batch is fetched here

    run = trainer(8, accelerator="gpu", devices=1, gradient_clip_val=1.0, callbacks=[Forbid()])
    try:
        run.fit(interpret(paired), latents(8, paired))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.global_step == 8
