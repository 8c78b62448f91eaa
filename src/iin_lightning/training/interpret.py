"""Train a translator on latents, and evaluate it by swaps. Supervised and unsupervised differ by their loss alone."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.factors import GroupBatch, PairBatch
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood, Translate
from iin_lightning.metrics.likelihood import RoundTrip, edited
from iin_lightning.metrics.measured import Scores, flat
from iin_lightning.metrics.transfer import FactorTransfer
from iin_lightning.training.finite import first_non_finite
from iin_lightning.training.task import OptimizerFactory, SchedulerFactory, Task

Batch = Tensor | PairBatch | GroupBatch


class Interpret(Task):
    """Maximise the likelihood of latents, single (Eq. 12), in pairs (Eq. 7-10) or in groups, under the translator.

    It sees latents only: the data module encodes. Numbers are logged in nats per dimension, constants counted in, so
    that runs compare. A checkpoint holds the translator and ``encoder_id``, a fingerprint of the encoder, not the
    encoder itself. ``compiled`` runs the translator through `torch.compile` in training; validation and edits run as
    written.

    Raises:
        ConfigError: compiled with a reversible translator.
    """

    strict_loading = False  # the checkpoint leaves the encoder's weights out
    monitor = "val/nll"

    def __init__(
        self,
        interpreter: Interpreter,
        loss: MarginalLikelihood | PairLikelihood,
        encoder_id: str,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        compiled: bool = False,
        on_nan: str = "stop",
    ) -> None:
        super().__init__(optimizer, scheduler, on_nan)
        if compiled and getattr(interpreter.translator, "reversible", False):
            raise ConfigError(
                "model.compile=true keeps the activations that flow.reversible=true is there to save: choose one."
            )
        self.interpreter, self.loss, self.encoder_id, self.compiled = interpreter, loss, encoder_id, compiled
        self.round_trip, self.round_trip_of_edits, self.likelihoods = RoundTrip(), RoundTrip(), Scores(["nll"])
        self._translate: Translate | None = None  # the compiled translator

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss, a sum over dimensions: clipping and rates do not depend on what is logged."""
        nats = self._nats_per_dimension(batch)
        self.log_terms("train", {"nll": nats.detach().mean()}, len(nats))
        return self.require_finite(
            nats.mean() * self._dims(batch), lambda: first_non_finite(self.interpreter.translator, _latents(batch))
        )

    def evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        """Log likelihood and round trip; of the test split also that of swaps and of samples twice as wide."""
        nats, z, translator = self._nats_per_dimension(batch), _latents(batch), self.interpreter.translator
        self.log_terms(stage, {"nll": nats.mean()}, len(nats))
        self.round_trip.update(translator, z)
        self.log(f"{stage}/round_trip_error", self.round_trip, batch_size=len(nats))
        if stage == "test":
            loader: Any = self.trainer.test_dataloaders
            self.likelihoods.update(nats[:, None], loader.dataset.images(batch_idx))
            self.round_trip_of_edits.update(translator, edited(translator, z, self.interpreter.factors))
            self.log("test/round_trip_error_of_edits", self.round_trip_of_edits, batch_size=len(z))

    def on_test_epoch_end(self) -> None:
        """Log the standard error of the test likelihood, over the images of all processes."""
        self.log("test/nll/error", self.likelihoods.means()["nll"].error, sync_dist=True)
        self.likelihoods.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the encoder out, and name it by its fingerprint."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"] = _without_encoder(checkpoint["state_dict"])
        checkpoint["encoder"] = self.encoder_id

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise a CheckpointError if the checkpoint is of another encoder or of another translator."""
        if checkpoint.get("encoder") != self.encoder_id:
            raise CheckpointError(
                f"The checkpoint's translator was trained on encoder {checkpoint.get('encoder')}, this run explains "
                f"{self.encoder_id}: resume with the run's own model store (paths.models), or start anew."
            )
        super().on_load_checkpoint(checkpoint)

    def kept_state(self) -> dict[str, Tensor]:
        """Return all weights but the encoder's."""
        return _without_encoder(self.state_dict())

    def teardown(self, stage: str) -> None:
        """Let go of the compiled function, which cannot be pickled."""
        self._translate = None

    def _nats_per_dimension(self, batch: Batch) -> Tensor:
        return self.loss(self._translator(), batch) / self._dims(batch)

    def _dims(self, batch: Batch) -> int:
        """Count the dimensions that a value of the loss sums over: N, or 2N of a pair."""
        return self.interpreter.factors.latent_dim * (2 if isinstance(batch, PairBatch) else 1)

    def _translator(self) -> Translate:
        translator = self.interpreter.translator
        # The batch that ActNorm starts from runs as written.
        if not (self.compiled and self.training and getattr(translator, "ready", True)):
            return translator
        if self._translate is None:
            self._translate = compile_translator(translator, self.device)
        return self._translate


def _latents(batch: Batch) -> Tensor:
    if isinstance(batch, PairBatch):
        return torch.cat([batch.a, batch.b])
    return batch.x if isinstance(batch, GroupBatch) else batch


def _without_encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("interpreter.encoder.")}


def compile_translator(translator: Translate, device: torch.device) -> Translate:
    """Return the same function, compiled at its first call; the module, its weights and their names stay as they are.

    A GPU replays the whole step as a single graph, so that launches are not the bottleneck. Where there is no compiler,
    the function raises a ConfigError.
    """
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    compiled = torch.compile(translator, mode=mode)

    def translate(z: Tensor) -> tuple[Tensor, Tensor]:
        try:
            z_tilde, logdet = compiled(z)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise ConfigError(
                f"torch.compile failed: {str(error.inner_exception).strip().splitlines()[0]} For model.compile=true "
                "there must be a working C++ compiler, on a GPU Triton as well: install it, or set model.compile=false."
            ) from error
        return z_tilde, logdet

    return translate


class Evaluate(LightningModule):
    """Swap factors between held-out images, on all devices of a trainer, and log ``test/transfer/...`` with errors."""

    def __init__(self, interpreter: Interpreter, transfer: FactorTransfer) -> None:
        super().__init__()
        self.interpreter = interpreter
        self.transfer = transfer

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Count the swaps of a batch of targets and sources with their labels."""
        (target, target_labels), (source, source_labels), images = batch
        # Mixed precision is for training, but Lightning's applies to tests, too.
        with torch.autocast(self.device.type, enabled=False):
            self.transfer.update(self.interpreter, target, target_labels, source, source_labels, images)

    def on_test_epoch_end(self) -> None:
        """Log the means over all batches and ranks."""
        scores = flat({f"test/transfer/{name}": score for name, score in self.transfer.compute().items()})
        self.log_dict(scores, sync_dist=True)  # equal on all ranks, but without sync_dist Lightning warns
        self.transfer.reset()
