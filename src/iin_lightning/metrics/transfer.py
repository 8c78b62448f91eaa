"""Factor transfer: does a swapped factor carry its concept, and only its own?"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from iin_lightning.factors import RESIDUAL, Factors
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.measured import Measured, Scores, balanced, means
from iin_lightning.metrics.readings import ClassReading, PredictionReading

IMAGES, RECONSTRUCTION, CHANCE = "images", "reconstruction", "chance"
SOURCE, TARGET = "labels of sources", "labels of targets"


class FactorTransfer(nn.Module):
    """Swap one factor at a time between held-out images and read every concept from the result.

    For target t, source s and swapped factor F: x* = G(T^-1(z̃*)) with z̃*_F = z̃^s_F, z̃*_k = z̃^t_k otherwise.
    Concept F should then be the source's ("transfer"), every other one the target's ("kept"); a trait that no label
    names, such as slant, should go with the residual. Beside them stand two bounds: the same reading on the plain
    reconstructions of the targets, and on the images themselves.

    Args:
        factors: the factors that are swapped, one after the other.
        readings: concept or trait -> reading; see ``metrics.readings``.
        concepts: concept names in the order of the label columns.

    Returns (``compute``):
        ``{concept}/{swapped}``: the mean score when that factor was swapped, with its standard error over images;
        ``{concept}/reconstruction`` and ``{concept}/images``: the bounds; ``{concept}/chance``. All in the reading's
        unit. Of classes the mean is one over classes, which count equally: no answer that does not
        look at the source is better than chance, 1/K. Of all else chance is how well the target's
        reconstruction shows what is the source's.

    Example:
        >>> from iin_lightning.metrics.readings import ColorReading
        >>> metric = FactorTransfer(Factors({"residual": 1, "color": 1}, 2), {"color": ColorReading()}, ["color"])
        >>> metric.names
        ['color/residual', 'color/color', 'color/reconstruction', 'color/images', 'color/chance']
    """

    def __init__(
        self,
        factors: Factors,
        readings: Mapping[str, nn.Module],
        concepts: Sequence[str],
    ) -> None:
        super().__init__()
        self.factors = factors
        self.readings = nn.ModuleDict(readings)
        self.columns = {concept: concepts.index(concept) for concept in readings if concept in concepts}
        self.cases = [*factors.names, RECONSTRUCTION, IMAGES, CHANCE]
        self.names = [f"{concept}/{case}" for concept in readings for case in self.cases]
        self.told = [
            name for name, reading in readings.items() if isinstance(reading, (ClassReading, PredictionReading))
        ]
        self.scores = Scores([*self.names, *(f"{name}/{who}" for name in self.told for who in (SOURCE, TARGET))])

    @torch.no_grad()
    def update(
        self,
        interpreter: Interpreter,
        target: Tensor,
        target_labels: Tensor,
        source: Tensor,
        source_labels: Tensor,
        images: Tensor,
    ) -> None:
        """Take a batch of targets and sources.

        Args:
            interpreter: swaps.
            target: (B,C,H,W).
            target_labels: (B,K), in the data's columns.
            source: (B,C,H,W).
            source_labels: (B,K).
            images: long (B, 2), the images that target and source are, or are versions of.
        """
        z, rest, parts = interpreter.encode(target), interpreter.complement(target), interpreter.factors_of(source)
        outputs = {name: interpreter.resume(interpreter.replace(z, {name: parts[name]}), rest) for name in self.factors}
        outputs[RECONSTRUCTION] = interpreter.resume(z, rest)
        # A classifier's logits have no images beside them: its own prediction is both bounds.
        outputs[IMAGES] = target if interpreter.encoder.output == "image" else outputs[RECONSTRUCTION]
        outputs[CHANCE] = outputs[RECONSTRUCTION]  # which has nothing to do with the source
        scores = []
        for concept, reading in self.readings.items():
            column = self.columns.get(concept, 0)  # a trait is in no label, and its reading looks at none
            own = concept if concept in self.columns else RESIDUAL
            for case in self.cases:
                image, labels = (source, source_labels) if case in (own, CHANCE) else (target, target_labels)
                scores.append(reading(outputs[case], image, labels[:, column]).float())
        for concept in self.told:
            scores += [labels[:, self.columns[concept]].float() for labels in (source_labels, target_labels)]
        self.scores.update(torch.stack(scores, dim=1), images)

    def compute(self) -> dict[str, Measured]:
        """See the class."""
        rows, images = (values.cpu() for values in self.scores.compute())
        rows = rows.reshape(len(images), -1)
        columns = dict(zip(self.scores.names, rows.unbind(1)))
        for concept in self.told:
            for case in self.cases:
                wanted = columns[f"{concept}/{SOURCE if case == concept else TARGET}"]
                columns[f"{concept}/{case}"] = balanced(columns[f"{concept}/{case}"], wanted)
        found = means({name: columns[name] for name in self.names}, images.reshape(len(rows), -1))
        for concept in self.told:
            known = columns[f"{concept}/{SOURCE}"]
            found[f"{concept}/{CHANCE}"] = Measured(1 / max(1, len(known[known >= 0].unique())))
        return found

    def reset(self) -> None:
        """Forget all batches."""
        self.scores.reset()
