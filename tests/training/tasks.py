"""The smallest tasks that train, their batches, and a trainer for some steps."""

from functools import partial

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from iin_lightning.data.base import LabelledBatch
from iin_lightning.encoders import Autoencoder
from iin_lightning.factors import Factors, PairBatch
from iin_lightning.flows import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.autoencoding import AutoencodingLoss
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood
from iin_lightning.training.autoencode import Autoencode
from iin_lightning.training.interpret import Interpret

adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)


def interpret(
    paired=False,
    optimizer=adam,
    scheduler=constant,
    encoder_id="e",
    n_blocks=2,
    kind=Interpret,
    components=0,
    **options,
):
    torch.manual_seed(0)
    network = Autoencoder(image_size=16, latent_dim=6, width=4, norm="batch")
    factors = Factors({"residual": 4, "digit": 2}, 6)
    interpreter = Interpreter(network, Translator(6, n_blocks=n_blocks, hidden=8, components=components), factors)
    loss = PairLikelihood(factors) if paired else MarginalLikelihood(interpreter.density)
    return kind(interpreter, loss, encoder_id, optimizer, scheduler, **options)


def autoencode(adversarial=None, width=4, kind=Autoencode, **options):
    network = Autoencoder(image_size=16, latent_dim=4, width=width, norm="batch", n_down=2)
    return kind(network, AutoencodingLoss(), adam, constant, adversarial, **options)


def loader(batches):
    return DataLoader(batches, batch_size=None)


def latents(count=6, paired=False):
    batches = torch.randn(count, 32, 6, generator=torch.Generator().manual_seed(2))
    shared = torch.tensor([[False, True]]).expand(16, -1)
    return loader([PairBatch(*z.chunk(2), shared) for z in batches] if paired else list(batches))


def images(count=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 8, 3, 16, 16, generator=generator) * 2 - 1
    labels = torch.randint(3, (count, 8, 1), generator=generator)
    return loader([LabelledBatch(*batch) for batch in zip(x, labels)])


def trainer(steps, **options):
    chosen = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(max_steps=steps, **(chosen | options))


def weights(task):
    return {name: value.clone() for name, value in task.interpreter.translator.state_dict().items()}
