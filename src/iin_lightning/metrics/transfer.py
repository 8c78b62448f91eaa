"""Factor transfer: does a swapped factor carry its concept, and only its own?"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from iin_lightning.factors import Factors
from iin_lightning.interpreter import Interpreter

IMAGES, RECONSTRUCTION = "images", "reconstruction"


class FactorTransfer(Metric):
    """Swap one factor at a time between held-out images and read every concept from the result.

    For target t, source s and swapped factor F: x* = G(T^-1(z̃*)) with z̃*_F = z̃^s_F, z̃*_k = z̃^t_k otherwise.
    Concept F should then be the source's ("transfer"), every other one the target's ("kept"). Beside them stand two
    bounds: the same reading on the plain reconstructions of the targets, and on the images themselves.

    Args:
        factors: the factors that are swapped, one after the other.
        readings: concept -> reading; see ``metrics.readings``.
        concepts: concept names in the order of the label columns.

    Returns (``compute``):
        ``{concept}/{swapped}``: the mean score when that factor was swapped; ``{concept}/reconstruction`` and
        ``{concept}/images``: the bounds. All in the reading's unit.

    Example:
        >>> from iin_lightning.metrics.readings import ColorReading
        >>> metric = FactorTransfer(Factors({"residual": 1, "color": 1}, 2), {"color": ColorReading()}, ["color"])
        >>> sorted(metric.compute())[:2]
        ['color/color', 'color/images']
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, factors: Factors, readings: Mapping[str, nn.Module], concepts: Sequence[str]) -> None:
        super().__init__()
        self.factors = factors
        self.readings = nn.ModuleDict(readings)
        self.columns = {concept: concepts.index(concept) for concept in readings}
        self.cases = [*factors.names, RECONSTRUCTION, IMAGES]
        # One row a concept, one column a case; sums in float64, so that the order of the batches cannot be seen.
        shape = (len(readings), len(self.cases))
        self.add_state("total", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(
        self,
        interpreter: Interpreter,
        target: Tensor,
        target_labels: Tensor,
        source: Tensor,
        source_labels: Tensor,
    ) -> None:
        """Take a batch of targets and sources (B,C,H,W), whose labels (B,K) stand in the data's columns."""
        z, rest, parts = interpreter.encode(target), interpreter.complement(target), interpreter.factors_of(source)
        outputs = {name: interpreter.resume(interpreter.replace(z, {name: parts[name]}), rest) for name in self.factors}
        outputs[RECONSTRUCTION] = interpreter.resume(z, rest)
        # A classifier's logits have no images beside them: its own prediction is both bounds.
        outputs[IMAGES] = target if interpreter.encoder.output == "image" else outputs[RECONSTRUCTION]
        for row, (concept, reading) in enumerate(self.readings.items()):
            column = self.columns[concept]
            for case, output in outputs.items():
                image, labels = (source, source_labels) if case == concept else (target, target_labels)
                score = reading(output, image, labels[:, column])
                self.total[row, self.cases.index(case)] += score.double().sum()
        self.count += len(target)

    def compute(self) -> dict[str, Tensor]:
        """See the class."""
        means = (self.total / self.count.clamp(min=1)).float()
        return {
            f"{concept}/{case}": means[row, column]
            for row, concept in enumerate(self.readings)
            for column, case in enumerate(self.cases)
        }
