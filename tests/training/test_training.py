"""Laws of training: steps are batches, frozen is frozen, NaN is named, checkpoints fit or are refused."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from iin_lightning import serialization
from iin_lightning.data.base import LabelledBatch
from iin_lightning.encoders import Autoencoder, Classifier, PatchDiscriminator
from iin_lightning.errors import CheckpointError, NonFiniteError
from iin_lightning.factors import Factors, PairBatch
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.adversarial import Adversarial
from iin_lightning.losses.autoencoding import AutoencodingLoss
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood
from iin_lightning.training.autoencode import Autoencode
from iin_lightning.training.checkpoints import KeepBest
from iin_lightning.training.classify import Classify
from iin_lightning.training.interpret import Interpret
from iin_lightning.training.task import warmup_linear

adam = partial(torch.optim.Adam, lr=1e-3)
constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)


def trainer(steps, **options):
    return pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )


def loader(batches):
    return DataLoader(batches, batch_size=None)


def image_batches(count=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 8, 3, 16, 16, generator=generator) * 2 - 1
    labels = torch.randint(3, (count, 8, 1), generator=generator)
    return [LabelledBatch(*batch) for batch in zip(x, labels)]


def autoencode(adversarial=None, **options):
    network = Autoencoder(image_size=16, latent_dim=4, width=4, norm="batch", n_down=2)
    return Autoencode(network, AutoencodingLoss(), adam, constant, adversarial, **options)


def interpret(encoder_id="e", n_blocks=2, paired=False):
    torch.manual_seed(0)
    network = Autoencoder(image_size=16, latent_dim=6, width=4, norm="batch")
    factors = Factors({"residual": 4, "digit": 2}, 6)
    interpreter = Interpreter(network, Translator(6, n_blocks=n_blocks, hidden=8), factors)
    return Interpret(
        interpreter, PairLikelihood(factors) if paired else MarginalLikelihood(), encoder_id, adam, constant
    )


def latent_batches(count=6):
    return list(torch.randn(count, 32, 6, generator=torch.Generator().manual_seed(2)))


def test_a_step_is_a_batch_with_a_discriminator_too():
    adversarial = Adversarial(PatchDiscriminator(width=4, n_layers=1), start=2)
    task, seen = autoencode(adversarial), []
    task.on_train_batch_start = lambda batch, index: seen.append(index)
    run = trainer(steps=5)
    run.fit(task, loader(image_batches(9)))
    assert seen == [0, 1, 2, 3, 4]
    assert run.global_step == 5


def test_the_discriminator_learns_from_its_start_on_and_the_scheduler_takes_every_step():
    adversarial = Adversarial(PatchDiscriminator(width=4, n_layers=1), start=3)
    task = autoencode(adversarial, discriminator_lr_factor=4.0)
    before = [p.clone() for p in adversarial.discriminator.parameters()]
    trainer(steps=3).fit(task, loader(image_batches()))
    assert all(torch.equal(a, b) for a, b in zip(before, adversarial.discriminator.parameters()))
    run = trainer(steps=5)
    run.fit(task, loader(image_batches()))
    moved = [not torch.equal(a, b) for a, b in zip(before, adversarial.discriminator.parameters())]
    assert all(moved)
    assert [group["lr"] for group in run.optimizers[0].param_groups] == [1e-3, 4e-3]
    assert run.lr_scheduler_configs[0].scheduler.last_epoch == 5


def test_the_generators_gradient_does_not_reach_the_discriminator():
    adversarial = Adversarial(PatchDiscriminator(width=4, n_layers=1), start=0)
    x = image_batches(1)[0].x
    network = Autoencoder(image_size=16, latent_dim=4, width=4, norm="batch", n_down=2)
    reconstruction = network.decode(network.encode(x).mean)
    pixel = (x - reconstruction).square().sum()
    adversarial.generator_term(reconstruction, pixel, network.last_layer, step=0).value.backward()
    assert all(p.grad is None for p in adversarial.discriminator.parameters())
    assert network.last_layer.grad is not None


@pytest.mark.parametrize("paired", [False, True])
def test_training_a_translator_leaves_its_encoder_bit_identical(paired):
    task = interpret(paired=paired)
    before = serialization.fingerprint(task.interpreter.encoder)
    batches = latent_batches()
    if paired:
        shared = torch.tensor([[False, True]]).expand(16, -1)
        batches = [PairBatch(*z.chunk(2), shared) for z in batches]
    start = [p.clone() for p in task.interpreter.translator.parameters()]
    trainer(steps=4).fit(task, loader(batches))
    assert serialization.fingerprint(task.interpreter.encoder) == before
    assert not any(module.training for module in task.interpreter.encoder.modules())
    assert any(not torch.equal(a, b) for a, b in zip(start, task.interpreter.translator.parameters()))


def test_a_batch_of_nan_names_the_step_and_that_it_came_in():
    batches = latent_batches()
    batches[3][5, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"step 3 is not finite: 1 of 32 examples in the batch are not finite"):
        trainer(steps=6).fit(interpret(), loader(batches))


def test_a_layer_that_overflows_is_named():
    task = interpret()
    trainer(steps=1).fit(task, loader(latent_batches()))
    with torch.no_grad():
        task.interpreter.translator.get_submodule("blocks.1.actnorm.layer").loc.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match=r"step 0 is not finite: layer 'blocks.1.actnorm.layer' "):
        trainer(steps=2).fit(task, loader(latent_batches()))


def test_an_image_that_is_nan_is_found_in_the_batch():
    batches = image_batches()
    batches[1].x[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="step 1 is not finite: 1 of 8 examples in the batch"):
        trainer(steps=3).fit(autoencode(), loader(batches))


def test_a_checkpoint_holds_the_translator_alone_and_only_plain_values(tmp_path):
    task, run = interpret(), trainer(steps=2)
    run.fit(task, loader(latent_batches()))
    run.save_checkpoint(tmp_path / "c.ckpt")
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    assert checkpoint["encoder"] == "e"
    assert checkpoint["state_dict"].keys() == {
        f"interpreter.translator.{k}" for k in task.interpreter.translator.state_dict()
    }


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"encoder_id": "another"}, "trained on encoder e, this run explains another"),
        ({"n_blocks": 3}, "another architecture"),
    ],
)
def test_a_checkpoint_of_another_encoder_or_architecture_is_refused(tmp_path, other, text):
    run = trainer(steps=1)
    run.fit(interpret(), loader(latent_batches()))
    run.save_checkpoint(tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=text):
        trainer(steps=2).fit(
            interpret(**other), loader(latent_batches()), ckpt_path=tmp_path / "c.ckpt", weights_only=True
        )


def test_a_classifier_learns_what_can_be_learned():
    torch.manual_seed(0)
    labels = torch.randint(3, (64, 1))
    x = torch.zeros(64, 3, 16, 16)
    x[torch.arange(64), labels[:, 0]] = 1.0
    network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4, norm="batch")
    task = Classify(network, 0, partial(torch.optim.Adam, lr=1e-2), constant)
    trainer(steps=60).fit(task, loader([LabelledBatch(x, labels)] * 60))
    assert (network.eval()(x).argmax(1) == labels[:, 0]).float().mean() == 1


def test_the_schedule_rises_holds_and_falls_to_zero_in_every_group():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 4.0}], lr=1.0)
    schedule, rates = warmup_linear(optimizer, steps=8, warmup=2, hold=4), []
    for _ in range(8):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    assert [rate[0] for rate in rates] == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert all(rate[1] == 4 * rate[0] for rate in rates)
    assert schedule.get_last_lr() == [0, 0]


def test_a_resumed_run_has_the_rate_that_it_asks_for(tmp_path):
    def task(rate):
        made = interpret()
        made.make_optimizer = partial(torch.optim.Adam, lr=rate)
        made.make_scheduler = partial(warmup_linear, steps=10)
        return made

    first = trainer(steps=3)
    first.fit(task(1e-2), loader(latent_batches()))
    first.save_checkpoint(tmp_path / "c.ckpt")
    for rate in (1e-2, 1e-4):
        second = trainer(steps=5)
        second.fit(task(rate), loader(latent_batches()), ckpt_path=tmp_path / "c.ckpt", weights_only=True)
        assert second.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate * 5 / 10)


def test_a_checkpoint_of_a_wider_network_is_refused(tmp_path):
    run = trainer(steps=1)
    run.fit(autoencode(), loader(image_batches()))
    run.save_checkpoint(tmp_path / "c.ckpt")
    wider = autoencode()
    wider.network = Autoencoder(image_size=16, latent_dim=4, width=8, norm="batch", n_down=2)
    with pytest.raises(CheckpointError, match="of another architecture"):
        trainer(steps=2).fit(wider, loader(image_batches()), ckpt_path=tmp_path / "c.ckpt", weights_only=True)


def test_micro_batches_of_a_step_have_noise_of_their_own():
    class Noise(Autoencode):
        def _reconstruct(self, x, step):
            drawn.append(step)
            return super()._reconstruct(x, step)

    drawn = []
    network = Autoencoder(image_size=16, latent_dim=4, width=4, norm="batch", n_down=2)
    run = trainer(steps=2, accumulate_grad_batches=3)
    run.fit(Noise(network, AutoencodingLoss(), adam, constant), loader(image_batches()))
    assert drawn == [0, 1, 2, 3, 4, 5]


def test_the_weights_of_the_best_validation_come_back(tmp_path):
    class Worse(Classify):
        def validation_step(self, batch, batch_idx):
            seen.append({k: v.clone() for k, v in self.state_dict().items()})
            self.log("val/loss", float((1.0, 0.5, 2.0)[len(seen) - 1]))

    seen = []
    task = Worse(Classifier(3, 16, 3, latent_dim=4, width=4, n_down=2, norm="batch"), 0, adam, constant)
    best = KeepBest(tmp_path / "best", task.monitor)
    run = pl.Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=False,
        callbacks=[best],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=2,
    )
    run.fit(task, loader(image_batches()), loader(image_batches(1)))
    best.restore(task)
    assert len(seen) == 3
    assert all(torch.equal(value, seen[1][key]) for key, value in task.state_dict().items())
