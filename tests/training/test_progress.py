"""Bars of training, validation and test: on stderr, and told to listeners."""

import re

import pytest
import pytorch_lightning as pl
import torch
from tests.training.tasks import trainer
from torch.utils.data import DataLoader

from iin_lightning import progress
from iin_lightning.training.step_progress import StepProgress


class Line(pl.LightningModule):
    """Fits a line, and breaks at a step."""

    def __init__(self, breaks=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.breaks = breaks

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        if batch_idx == self.breaks:
            raise ArithmeticError
        loss = (self.weight * batch).square().mean()
        self.log("train/nll", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/nll", 2.0, prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log("test/nll", 3.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Training and test; what listeners were told."""
    heard = []
    monkeypatch.setattr(progress, "listeners", [lambda *said: heard.append(said)])

    def fit(task):
        batches = DataLoader(torch.ones(64, 1), batch_size=1)
        run = trainer(
            10,
            max_epochs=-1,
            enable_progress_bar=True,
            log_every_n_steps=5,
            val_check_interval=5,
            check_val_every_n_epoch=None,
            limit_val_batches=3,
            limit_test_batches=2,
            default_root_dir=tmp_path,
            callbacks=[StepProgress()],
        )
        run.fit(task, batches, batches)
        run.test(task, batches, verbose=False)
        return heard

    return fit


def test_all_stages_say_lines_in_a_log_and_are_told(run, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    heard = run(Line())
    err = capsys.readouterr().err
    assert re.search(r"^Training: 5/10, .* left, train/nll \d\.\d+$", err, re.MULTILINE)
    assert re.search(r"^Validation: 2/3, .* left$", err, re.MULTILINE)
    assert re.search(r"^Training: 6/10, .*, train/nll \d\.\d+, val/nll 2.000$", err, re.MULTILINE)
    assert re.search(r"^Test: 1/2, ", err, re.MULTILINE)
    assert [said[:3] for said in heard if said[0] == "Training"] == [("Training", step, 10) for step in range(1, 11)]
    losses = {done: loss for what, done, _, loss in heard if loss is not None}
    assert list(losses) == [5, 10]
    assert losses[10] < losses[5] < 1
    assert ("Validation", 3, 3, None) in heard
    assert heard[-1] == ("Test", 2, 2, None)


def test_bars_are_drawn_on_stderr_and_vanish(run, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    drawn = []

    class Task(Line):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            drawn.append([task.description for bar in progress.Bar._open for task in bar.tasks])

    run(Task())
    assert drawn == [["Training", "Validation"]] * 6
    assert not progress.Bar._open
    out, err = capsys.readouterr()
    assert "Training" in err
    assert "Training" not in out, "stdout is for results"
    with pytest.raises(ArithmeticError):
        run(Line(breaks=7))
    assert not progress.Bar._open
