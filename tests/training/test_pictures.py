"""Histograms show the gradients of the step and the factors of the validation, and change neither."""

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from tests.training.tasks import interpret, latents, trainer

from iin_lightning.errors import ConfigError
from iin_lightning.training.interpret import Interpret
from iin_lightning.training.pictures import Histograms


class Kept(CSVLogger):
    """Keeps what it is given: (step, names and numbers)."""

    def __init__(self, folder):
        super().__init__(folder)
        self.given = []

    def log_metrics(self, metrics, step=None):
        self.given.append((step, dict(metrics)))


class Recorded(Interpret):
    """Keeps the gradients of each step."""

    def on_before_optimizer_step(self, optimizer):
        self.gradients.append({n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None})


def fit(folder, *callbacks, paired=False):
    task, logger = interpret(paired, kind=Recorded), Kept(folder)
    task.gradients = []
    options = {"num_sanity_val_steps": 1, "check_val_every_n_epoch": None, "val_check_interval": 5}
    run = trainer(5, logger=logger, log_every_n_steps=1000, callbacks=list(callbacks), **options)
    run.fit(task, latents(5, paired), latents(2, paired))
    return task, logger.given


def test_gradients_are_those_of_the_step_by_block_now_and_then(tmp_path):
    task, given = fit(tmp_path, Histograms(every=2))
    norms = [(step, numbers) for step, numbers in given if any(name.startswith("gradients/") for name in numbers)]
    assert [step for step, _ in norms] == [0, 2, 4]
    for step, numbers in norms:
        for i in range(3):  # two blocks, and the last rotation
            block = f"interpreter.translator.blocks.{i}"
            mine = [g.flatten() for name, g in task.gradients[step].items() if name.startswith(block)]
            assert numbers[f"gradients/{block}/norm"] == pytest.approx(torch.cat(mine).norm().item(), rel=1e-5)
        assert len(numbers) == 3  # the encoder is frozen


@pytest.mark.parametrize("paired", [False, True])
def test_factors_are_those_of_the_validation_and_training_is_as_without(paired, tmp_path):
    task, given = fit(tmp_path, Histograms(every=1), paired=paired)
    [(step, numbers)] = [(step, n) for step, n in given if "latents/digit/std" in n]
    z = torch.cat([batch.a if paired else batch for batch in latents(2, paired)])
    with torch.no_grad():
        z_tilde = task.interpreter.translator(z)[0].double()
    part = z_tilde[:, 4:]
    centred = (part - part.mean(0)) / part.std(0, unbiased=False)
    wanted = {"mean": part.mean(0), "std": part.std(0, unbiased=False) - 1, "kurtosis": (centred**4).mean(0) - 3}
    assert step == 5
    for name, off in wanted.items():
        assert numbers[f"latents/digit/{name}"] == pytest.approx(off.square().mean().sqrt().item(), rel=1e-4)
    assert {name.split("/")[1] for name in numbers} == {"residual", "digit"}
    without, _ = fit(tmp_path, paired=paired)
    assert all(map(torch.equal, task.state_dict().values(), without.state_dict().values()))


def test_no_interval_is_an_error():
    with pytest.raises(ConfigError, match="every=0"):
        Histograms(every=0)
