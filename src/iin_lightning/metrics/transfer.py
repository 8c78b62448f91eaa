"""Factor transfer: does a swapped factor carry its concept, and only its own?

A *judge* tells from an output, without the network that is explained, which concept it shows: a classifier that was
trained on images, or a measurement on the pixels. It compares decoded images with what they should show, and gives a
score an example.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from iin_lightning.factors import RESIDUAL, Factors
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.measured import Measured, Scores, balanced, means

IMAGES, RECONSTRUCTION, CHANCE = "images", "reconstruction", "chance"
SOURCE, TARGET = "labels of sources", "labels of targets"


class ClassJudge(nn.Module):
    """Whether a classifier, images (B,C,H,W) in [-1,1] -> logits, sees the wanted class: 1 or 0.

    Without a classifier outputs are logits, the explained network's own.
    """

    def __init__(self, classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.classifier = nn.Identity() if classifier is None else classifier

    def forward(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """Return the score (B,) of ``decoded``, wanted to show the concept of ``image``, of class ``label`` (B,)."""
        return (self.classifier(decoded).argmax(1) == label).float()


class DifferenceJudge(nn.Module):
    """Mean absolute difference between what is measured of the output, (B,) or (B, d), and of the wanted image."""

    def __init__(self, measure: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.measure = measure

    def forward(self, decoded: Tensor, image: Tensor, label: Tensor) -> Tensor:
        """Return the difference (B,) of ``decoded`` from ``image``; no label is looked at."""
        return (self.measure(decoded) - self.measure(image)).abs().reshape(len(image), -1).mean(1)


def stroke_color(images: Tensor) -> Tensor:
    """Measure the colour (B,3) in [0,1] of a stroke on black: the mean of pixels at least half the brightest's.

    Strokes are soft at their edge, so this is darker than the paint; two images that are measured alike compare.
    """
    flat = ((images + 1) / 2).flatten(2)
    brightness = flat.amax(1, keepdim=True)
    stroke = (brightness >= 0.5 * brightness.amax(2, keepdim=True)).float()
    return (flat * stroke).sum(2) / stroke.sum(2)


def judges_for(
    kinds: Mapping[str, str],
    classifiers: Mapping[str, nn.Module],
    traits: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    predicted: str | None = None,
) -> dict[str, nn.Module]:
    """Choose a judge for each concept that can be told, and for each trait (name -> measure of images).

    A concept's kind is ``class``, ``color`` or ``identity``; ``predicted`` is the concept whose classes the explained
    network's own logits tell. A class without a classifier, an identity (whose labels mean nothing on another split),
    or anything but the predicted concept where there are logits, is left out.
    """
    if predicted is not None:
        return {predicted: ClassJudge()}
    judges: dict[str, nn.Module] = {}
    for concept, kind in kinds.items():
        if kind == "color":
            judges[concept] = DifferenceJudge(stroke_color)
        elif kind == "class" and concept in classifiers:
            judges[concept] = ClassJudge(classifiers[concept])
    return judges | {name: DifferenceJudge(measure) for name, measure in (traits or {}).items()}


class FactorTransfer(nn.Module):
    """Swap one factor at a time between held-out images and have every concept judged in the result.

    For target t, source s and swapped factor F: x* = G(T^-1(z̃*)) with z̃*_F = z̃^s_F, z̃*_k = z̃^t_k otherwise. Concept F
    should then be the source's ("transfer"), every other one the target's ("kept"); a trait that no label names, such
    as slant, should go with the residual.

    ``compute`` gives ``{concept}/{swapped}``, the mean score when that factor was swapped, with its standard error over
    images, and to compare with ``{concept}/reconstruction``, ``{concept}/images`` and ``{concept}/chance``. Of classes
    the mean counts classes equally: no answer that does not look at the source is better than chance, 1/K. Of all else
    chance is how well the target's reconstruction shows what is the source's. ``concepts`` are in the order of label
    columns.

    Example:
        >>> judges = {"color": DifferenceJudge(stroke_color)}
        >>> FactorTransfer(Factors({"residual": 1, "color": 1}, 2), judges, ["color"]).names
        ['color/residual', 'color/color', 'color/reconstruction', 'color/images', 'color/chance']
    """

    def __init__(
        self,
        factors: Factors,
        judges: Mapping[str, nn.Module],
        concepts: Sequence[str],
    ) -> None:
        super().__init__()
        self.factors = factors
        self.judges = nn.ModuleDict(judges)
        self.columns = {concept: concepts.index(concept) for concept in judges if concept in concepts}
        self.cases = [*factors.names, RECONSTRUCTION, IMAGES, CHANCE]
        self.names = [f"{concept}/{case}" for concept in judges for case in self.cases]
        self.told = [name for name, judge in judges.items() if isinstance(judge, ClassJudge)]
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
        """Take targets and sources (B,C,H,W), labels (B,K), and the images (B, 2) that both are versions of."""
        z, rest, parts = interpreter.encode(target), interpreter.complement(target), interpreter.factors_of(source)
        outputs = {name: interpreter.resume(interpreter.replace(z, {name: parts[name]}), rest) for name in self.factors}
        outputs[RECONSTRUCTION] = interpreter.resume(z, rest)
        # A classifier's logits have no images beside them: its own prediction is both bounds.
        outputs[IMAGES] = target if interpreter.encoder.output == "image" else outputs[RECONSTRUCTION]
        outputs[CHANCE] = outputs[RECONSTRUCTION]  # which has nothing to do with the source
        scores = []
        for concept, judge in self.judges.items():
            column = self.columns.get(concept, 0)  # a trait is in no label, and its judge looks at none
            own = concept if concept in self.columns else RESIDUAL
            for case in self.cases:
                image, labels = (source, source_labels) if case in (own, CHANCE) else (target, target_labels)
                scores.append(judge(outputs[case], image, labels[:, column]).float())
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
