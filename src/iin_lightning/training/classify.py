"""Train a classifier: to be explained, or to judge images."""

from torch import Tensor, nn
from torch.nn import functional as F

from iin_lightning.training.base import OptimizerFactory, SchedulerFactory, Task
from iin_lightning.training.diagnose import first_non_finite


class Classify(Task):
    """Minimise the cross entropy of one concept's classes.

    Args:
        network: images (B,C,H,W) in [-1,1], or latents (B,N), -> logits (B, classes).
        column: the label column of the concept.
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> schedule.
        on_nan: see ``Task``.
    """

    def __init__(
        self,
        network: nn.Module,
        column: int,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        on_nan: str = "stop",
    ) -> None:
        super().__init__(optimizer, scheduler, on_nan)
        self.network = network
        self.column = column

    def _terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        logits, wanted = self.network(images), labels[:, self.column]
        accuracy = (logits.detach().argmax(1) == wanted).float().mean()
        return {"loss": F.cross_entropy(logits, wanted), "accuracy": accuracy}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step."""
        terms = self._terms(batch)
        self.log_terms("train", terms | {"loss": terms["loss"].detach()}, len(batch[0]))
        return self.require_finite(terms["loss"], lambda: first_non_finite(self.network, batch[0]))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Held-out loss and accuracy."""
        self.log_terms("val", self._terms(batch), len(batch[0]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As validation, on the test split."""
        self.log_terms("test", self._terms(batch), len(batch[0]))
