"""Train a translator on latents. Supervised and unsupervised differ by their loss alone."""

from typing import Any

import torch
from torch import Tensor

from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.factors import GroupBatch, PairBatch
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood, Translate
from iin_lightning.metrics.likelihood import RoundTrip, edited
from iin_lightning.metrics.measured import Scores
from iin_lightning.training.base import OptimizerFactory, SchedulerFactory, Task
from iin_lightning.training.diagnose import first_non_finite

Batch = Tensor | PairBatch | GroupBatch


class Interpret(Task):
    """Maximise the likelihood of latents, single (Eq. 12), in pairs (Eq. 7-10) or in groups, under the translator.

    It sees latents only: the data module encodes. What is logged is nats per dimension, constants counted in, so
    that runs compare. A checkpoint holds the translator and a fingerprint of the encoder, not the encoder itself.

    Args:
        interpreter: holds the frozen encoder and the translator to train.
        loss: (translator, batch) -> nats an example.
        encoder_id: fingerprint of the encoder, which a checkpoint must agree with.
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> schedule.
        compiled: run the translator through `torch.compile` in training; validation and edits run as written.
        on_nan: see ``Task``.

    Raises:
        ConfigError: compiled with a reversible translator.
    """

    # The encoder's weights are left out of the checkpoint on purpose.
    strict_loading = False
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
        self.interpreter = interpreter
        self.loss = loss
        self.encoder_id = encoder_id
        self.round_trip = RoundTrip()
        self.round_trip_of_edits = RoundTrip()
        self.likelihoods = Scores(["nll"])
        self.compiled = compiled
        self._translate: Translate | None = None  # compiled

    def nats_per_dimension(self, batch: Batch) -> Tensor:
        """The negative log-likelihood (B,) of examples in nats per dimension."""
        nll = self.loss(self._translator(), batch)
        return nll / self._dims(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step on the sum over dimensions, so that clipping and rates do not depend on what is logged."""
        nats = self.nats_per_dimension(batch)
        self.log_terms("train", {"nll": nats.detach().mean()}, len(nats))
        return self.require_finite(
            nats.mean() * self._dims(batch), lambda: first_non_finite(self.interpreter.translator, _latents(batch))
        )

    def _dims(self, batch: Batch) -> int:
        """How many dimensions one value of the loss sums over: N, or 2N of a pair."""
        return self.interpreter.factors.latent_dim * (2 if isinstance(batch, PairBatch) else 1)

    def _translator(self) -> Translate:
        translator = self.interpreter.translator
        # The batch that ActNorm starts from is no step like the others.
        if not (self.compiled and self.training and getattr(translator, "ready", True)):
            return translator
        if self._translate is None:
            self._translate = compile_translator(translator, self.device)
        return self._translate

    def teardown(self, stage: str) -> None:
        """Let go of the compiled function, which cannot be pickled."""
        self._translate = None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Held-out likelihood, and the worst round trip."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation, on the test split, and the worst round trip of swaps and of samples twice as wide."""
        loader: Any = self.trainer.test_dataloaders
        self.likelihoods.update(self._evaluate("test", batch)[:, None], loader.dataset.images(batch_idx))
        z, translator = _latents(batch), self.interpreter.translator
        self.round_trip_of_edits.update(translator, edited(translator, z, self.interpreter.factors))
        self.log("test/round_trip_error_of_edits", self.round_trip_of_edits, batch_size=len(z))

    def on_test_epoch_end(self) -> None:
        """Log the standard error of the test likelihood, over the images of all processes."""
        self.log("test/nll/error", self.likelihoods.means()["nll"].error, sync_dist=True)
        self.likelihoods.reset()

    def _evaluate(self, stage: str, batch: Batch) -> Tensor:
        nats = self.nats_per_dimension(batch)
        self.log_terms(stage, {"nll": nats.mean()}, len(nats))
        self.round_trip.update(self.interpreter.translator, _latents(batch))
        self.log(f"{stage}/round_trip_error", self.round_trip, batch_size=len(nats))
        return nats

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the encoder out, and say which one it was."""
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("interpreter.encoder.")}
        checkpoint["encoder"] = self.encoder_id

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another encoder or of another translator.

        Raises:
            CheckpointError: names what differs.
        """
        if checkpoint.get("encoder") != self.encoder_id:
            raise CheckpointError(
                f"The checkpoint's translator was trained on encoder {checkpoint.get('encoder')}, this run explains "
                f"{self.encoder_id}: resume with the run's own model store (paths.models), or start anew."
            )
        super().on_load_checkpoint(checkpoint)

    def kept_state(self) -> dict[str, Tensor]:
        """All but the encoder."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("interpreter.encoder.")}


def compile_translator(translator: Translate, device: torch.device) -> Translate:
    """The same function compiled, at its first call; the module, its weights and their names stay as they are.

    Args:
        translator: z (B, N) -> z̃ (B, N), log|det T'(z)| (B,).
        device: a GPU replays the whole step as one graph, which keeps launches from being the bottleneck.

    Returns:
        A function that raises a ConfigError where there is no compiler.
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


def _latents(batch: Batch) -> Tensor:
    if isinstance(batch, PairBatch):
        return torch.cat([batch.a, batch.b])
    return batch.x if isinstance(batch, GroupBatch) else batch
