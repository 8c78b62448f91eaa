"""Train a classifier: to be explained, or to judge images."""

from torch import Tensor, nn
from torch.nn import functional as F

from iin_lightning.training.finite import first_non_finite
from iin_lightning.training.task import OptimizerFactory, SchedulerFactory, Task


class Classify(Task):
    """Minimise the cross entropy of the classes of a concept.

    ``network`` maps images (B,C,H,W) in [-1,1], or latents (B,N), to logits (B, classes); ``column`` is the concept's
    among the labels.
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
        logits, classes = self.network(images), labels[:, self.column]
        accuracy = (logits.detach().argmax(1) == classes).float().mean()
        return {"loss": F.cross_entropy(logits, classes), "accuracy": accuracy}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross entropy of a batch."""
        terms = self._terms(batch)
        self.log_terms("train", terms | {"loss": terms["loss"].detach()}, len(batch[0]))
        return self.require_finite(terms["loss"], lambda: first_non_finite(self.network, batch[0]))

    def evaluate(self, stage: str, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and accuracy."""
        self.log_terms(stage, self._terms(batch), len(batch[0]))
