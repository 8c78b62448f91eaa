"""Histograms show the gradients of the step and the factors of the validation, and change neither."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from iin_lightning.encoders import Autoencoder
from iin_lightning.errors import ConfigError
from iin_lightning.factors import Factors, PairBatch
from iin_lightning.flows import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood
from iin_lightning.training.interpret import Interpret
from iin_lightning.training.pictures import Histograms

FACTORS = Factors({"residual": 4, "digit": 2}, 6)
Z = torch.randn(64, 6, generator=torch.Generator().manual_seed(2))


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
    torch.manual_seed(0)
    network = Autoencoder(image_size=16, latent_dim=6, width=4, norm="batch")
    task = Recorded(
        Interpreter(network, Translator(6, n_blocks=2, hidden=8), FACTORS),
        PairLikelihood(FACTORS) if paired else MarginalLikelihood(),
        "e",
        partial(torch.optim.Adam, lr=1e-3),
        partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0),
    )
    task.gradients = []
    shared = torch.tensor([[False, True]]).expand(32, -1)
    batches = [PairBatch(*Z.chunk(2), shared)] if paired else list(Z.chunk(2))
    logger = Kept(folder)
    trainer = pl.Trainer(
        max_steps=5,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1000,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        check_val_every_n_epoch=None,
        val_check_interval=5,
    )
    train = DataLoader(batches * 5, batch_size=None)
    trainer.fit(task, train, DataLoader(batches, batch_size=None))
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
def test_factors_are_those_of_the_validation(paired, tmp_path):
    task, given = fit(tmp_path, Histograms(), paired=paired)
    [(step, numbers)] = [(step, n) for step, n in given if "latents/digit/std" in n]
    with torch.no_grad():
        z_tilde = task.interpreter.translator(Z.chunk(2)[0] if paired else Z)[0].double()
    part = z_tilde[:, 4:]
    centred = (part - part.mean(0)) / part.std(0, unbiased=False)
    wanted = {"mean": part.mean(0), "std": part.std(0, unbiased=False) - 1, "kurtosis": (centred**4).mean(0) - 3}
    assert step == 5
    for name, off in wanted.items():
        assert numbers[f"latents/digit/{name}"] == pytest.approx(off.square().mean().sqrt().item(), rel=1e-4)
    assert {name.split("/")[1] for name in numbers} == {"residual", "digit"}


def test_training_is_the_same_with_and_without_them(tmp_path):
    (watched, _), (alone, _) = fit(tmp_path, Histograms(every=1)), fit(tmp_path)
    for one, other in zip(watched.state_dict().values(), alone.state_dict().values()):
        assert torch.equal(one, other)


def test_no_interval_is_an_error():
    with pytest.raises(ConfigError, match="every=0"):
        Histograms(every=0)
