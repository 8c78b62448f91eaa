"""The smallest task that trains a translator, and its latents."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from iin_lightning.encoders import Autoencoder
from iin_lightning.factors import Factors, PairBatch
from iin_lightning.flows import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood
from iin_lightning.training.interpret import Interpret


def _interpret(paired=False, lr=1e-3, **options):
    torch.manual_seed(0)
    network = Autoencoder(image_size=16, latent_dim=6, width=4, norm="batch")
    factors = Factors({"residual": 4, "digit": 2}, 6)
    return Interpret(
        Interpreter(network, Translator(6, n_blocks=2, hidden=8), factors),
        PairLikelihood(factors) if paired else MarginalLikelihood(),
        "e",
        partial(torch.optim.Adam, lr=lr, fused=True),
        partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0),
        **options,
    )


def _latents(count, paired=False):
    batches = torch.randn(count, 32, 6, generator=torch.Generator().manual_seed(2))
    if not paired:
        return DataLoader(list(batches), batch_size=None)
    shared = torch.tensor([[False, True]]).expand(16, -1)
    return DataLoader([PairBatch(*z.chunk(2), shared) for z in batches], batch_size=None)


def _trainer(steps, **options):
    chosen = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(max_steps=steps, **(chosen | options))


@pytest.fixture
def interpret():
    return _interpret


@pytest.fixture
def latents():
    return _latents


@pytest.fixture
def trainer():
    return _trainer
