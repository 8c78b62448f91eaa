"""Laws of training: steps are batches, frozen is frozen, checkpoints fit or are refused, precision is for training."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from tests.training.tasks import adam, autoencode, constant, images, interpret, latents, loader, trainer

from iin_lightning import serialization
from iin_lightning.data.base import LabelledBatch
from iin_lightning.encoders import Classifier, PatchDiscriminator
from iin_lightning.errors import CheckpointError
from iin_lightning.losses.adversarial import Adversarial
from iin_lightning.metrics.measured import Measured
from iin_lightning.training.autoencode import Autoencode
from iin_lightning.training.checkpoints import KeepBest
from iin_lightning.training.classify import Classify
from iin_lightning.training.interpret import Evaluate
from iin_lightning.training.task import warmup_linear


def test_with_a_discriminator_a_step_is_a_batch_and_both_players_learn_from_its_start_on():
    adversarial = Adversarial(PatchDiscriminator(width=4, n_layers=1), start=3)
    task, seen = autoencode(adversarial, discriminator_lr_factor=4.0), []
    task.on_train_batch_start = lambda batch, index: seen.append(index)
    before = [p.clone() for p in adversarial.discriminator.parameters()]
    trainer(3).fit(task, images())
    assert all(map(torch.equal, before, adversarial.discriminator.parameters()))
    run = trainer(5)
    run.fit(task, images(9))
    assert not any(map(torch.equal, before, adversarial.discriminator.parameters()))
    assert seen == [0, 1, 2, 0, 1, 2, 3, 4]
    assert run.global_step == run.lr_scheduler_configs[0].scheduler.last_epoch == 5
    assert [group["lr"] for group in run.optimizers[0].param_groups] == [1e-3, 4e-3]


@pytest.mark.parametrize("paired", [False, True])
def test_training_a_translator_leaves_its_encoder_bit_identical(paired):
    task = interpret(paired)
    before = serialization.fingerprint(task.interpreter.encoder)
    start = [p.clone() for p in task.interpreter.translator.parameters()]
    trainer(4).fit(task, latents(4, paired))
    assert serialization.fingerprint(task.interpreter.encoder) == before
    assert not any(module.training for module in task.interpreter.encoder.modules())
    assert not all(map(torch.equal, start, task.interpreter.translator.parameters()))


def test_a_checkpoint_holds_the_translator_alone_and_fits_no_other(tmp_path):
    task, run, path = interpret(), trainer(2), tmp_path / "c.ckpt"
    run.fit(task, latents())
    run.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["encoder"] == "e"
    translator = task.interpreter.translator.state_dict()
    assert checkpoint["state_dict"].keys() == {f"interpreter.translator.{name}" for name in translator}
    for other, text in (
        (interpret(encoder_id="another"), "trained on encoder e, this run explains another"),
        (interpret(n_blocks=3), "another architecture: .* is missing"),
    ):
        with pytest.raises(CheckpointError, match=text):
            other.on_load_checkpoint(checkpoint)


def test_a_checkpoint_of_a_wider_network_is_refused():
    checkpoint = {"state_dict": autoencode(width=8).state_dict()}
    with pytest.raises(CheckpointError, match=r"another architecture: .* is \(.*8.*\), here \(.*4.*\)"):
        autoencode().on_load_checkpoint(checkpoint)


def test_a_classifier_learns_what_can_be_learned():
    torch.manual_seed(0)
    labels = torch.randint(3, (64, 1))
    x = torch.zeros(64, 3, 16, 16)
    x[torch.arange(64), labels[:, 0]] = 1.0
    network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4, norm="batch")
    task = Classify(network, 0, partial(torch.optim.Adam, lr=1e-2), constant)
    trainer(40).fit(task, loader([LabelledBatch(x, labels)] * 40))
    assert (network.eval()(x).argmax(1) == labels[:, 0]).float().mean() == 1


def test_the_schedule_rises_holds_and_falls_to_zero_in_every_group():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
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
        return interpret(optimizer=partial(torch.optim.Adam, lr=rate), scheduler=partial(warmup_linear, steps=10))

    first = trainer(3)
    first.fit(task(1e-2), latents())
    first.save_checkpoint(tmp_path / "c.ckpt")
    for rate in (1e-2, 1e-4):
        second = trainer(5)
        second.fit(task(rate), latents(), ckpt_path=tmp_path / "c.ckpt", weights_only=True)
        assert second.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate * 5 / 10)


def test_micro_batches_of_a_step_have_noise_of_their_own():
    class Noise(Autoencode):
        def _reconstruct(self, x, step):
            drawn.append(step)
            return super()._reconstruct(x, step)

    drawn = []
    trainer(2, accumulate_grad_batches=3).fit(autoencode(kind=Noise), images())
    assert drawn == [0, 1, 2, 3, 4, 5]


def test_the_weights_of_the_best_validation_come_back(tmp_path):
    class Worse(Classify):
        def validation_step(self, batch, batch_idx):
            seen.append({k: v.clone() for k, v in self.state_dict().items()})
            self.log("val/loss", float((1.0, 0.5, 2.0)[len(seen) - 1]))

    seen = []
    task = Worse(Classifier(3, 16, 3, latent_dim=4, width=4, n_down=2, norm="batch"), 0, adam, constant)
    best = KeepBest(tmp_path / "best", task.monitor)
    run = trainer(6, callbacks=[best], enable_checkpointing=True, val_check_interval=2)
    run.fit(task, images(), images(1))
    best.restore(task)
    assert len(seen) == 3
    assert all(torch.equal(value, seen[1][key]) for key, value in task.state_dict().items())


class Norms(pl.Callback):
    """The gradients before they are clipped, and those that the optimizer has used."""

    def on_before_optimizer_step(self, trainer, task, optimizer):
        self.before = self.gradient(task)

    def on_train_batch_end(self, trainer, task, *args):
        self.after = self.gradient(task)

    @staticmethod
    def gradient(task):
        return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(("algorithm", "size"), [("norm", 2), ("value", float("inf"))])
def test_gradients_are_clipped_whatever_the_precision(precision, algorithm, size):
    norms = Norms()
    run = trainer(1, precision=precision, gradient_clip_val=1e-3, gradient_clip_algorithm=algorithm, callbacks=[norms])
    run.fit(interpret(), latents(1))
    assert torch.linalg.vector_norm(norms.before, size) > 1e-2
    assert torch.linalg.vector_norm(norms.after, size) == pytest.approx(1e-3, rel=1e-3)


def test_with_a_gradient_scaler_clipping_stays_lightnings():
    """A fused step would clip what is still scaled, which Lightning refuses."""
    run = trainer(1, gradient_clip_val=1.0, plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))])
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        run.fit(interpret(), latents(1))


def test_training_runs_in_bf16_and_validation_in_float32():
    task, other, run = interpret(), interpret(), trainer(4, precision="bf16-mixed")
    run.fit(task, latents(4))
    trainer(4).fit(other, latents(4))
    assert not all(map(torch.equal, task.parameters(), other.parameters()))
    mixed = run.validate(task, latents(2), verbose=False)
    assert mixed == trainer(1).validate(task, latents(2), verbose=False)
    assert mixed[0]["val/round_trip_error"] < 1e-5


def test_swaps_are_float32_encoder_and_decoder_with_them():
    class Swaps(torch.nn.Module):
        def update(self, interpreter, target, target_labels, source, source_labels, images):
            self.seen = interpreter.swap(target, source, ["digit"])

        def compute(self):
            return {"seen": Measured(self.seen.mean().item())}

        def reset(self):
            pass

    task = interpret().eval()
    x, labels = torch.rand(2, 4, 3, 16, 16) * 2 - 1, torch.zeros(4, 1, dtype=torch.long)
    evaluate = Evaluate(task.interpreter, Swaps())
    swaps = loader([((x[0], labels), (x[1], labels), labels)])
    trainer(1, precision="bf16-mixed").test(evaluate, swaps, verbose=False)
    assert torch.equal(evaluate.transfer.seen, task.interpreter.swap(*x, ["digit"]))
