"""Training under bf16-mixed: a fused optimizer with clipped gradients, and validation in float32."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from iin_lightning.metrics.measured import Measured
from iin_lightning.training.interpret import Evaluate


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
def test_gradients_are_clipped_whatever_the_precision(interpret, latents, trainer, precision, algorithm, size):
    norms = Norms()
    run = trainer(1, precision=precision, gradient_clip_val=1e-3, gradient_clip_algorithm=algorithm, callbacks=[norms])
    run.fit(interpret(), latents(1))
    assert torch.linalg.vector_norm(norms.before, size) > 1e-2
    assert torch.linalg.vector_norm(norms.after, size) == pytest.approx(1e-3, rel=1e-3)


def test_without_a_limit_gradients_stay_as_they_are(interpret, latents, trainer):
    norms = Norms()
    trainer(1, precision="bf16-mixed", callbacks=[norms]).fit(interpret(), latents(1))
    assert torch.equal(norms.before, norms.after)


def test_with_a_gradient_scaler_clipping_stays_lightnings(interpret, latents, trainer):
    """A fused step would clip what is still scaled, which Lightning refuses."""
    scaler = torch.amp.GradScaler("cpu")
    run = trainer(1, gradient_clip_val=1.0, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        run.fit(interpret(), latents(1))


def test_training_runs_in_bf16_and_validation_in_float32(interpret, latents, trainer):
    task, run = interpret(), trainer(4, precision="bf16-mixed")
    other = interpret()
    run.fit(task, latents(4))
    trainer(4).fit(other, latents(4))
    assert any(not torch.equal(a, b) for a, b in zip(task.parameters(), other.parameters()))
    mixed = run.validate(task, latents(2), verbose=False)
    assert mixed == trainer(1).validate(task, latents(2), verbose=False)
    assert mixed[0]["val/round_trip_error"] < 1e-5


def test_swaps_are_float32_encoder_and_decoder_with_them(interpret, trainer):
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
    swaps = DataLoader([((x[0], labels), (x[1], labels), labels)], batch_size=None)
    trainer(1, precision="bf16-mixed").test(evaluate, swaps, verbose=False)
    assert torch.equal(evaluate.transfer.seen, task.interpreter.swap(*x, ["digit"]))
