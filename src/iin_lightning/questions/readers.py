"""Who says which attributes a z̃ has once it is decoded."""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from omegaconf import OmegaConf
from torch import Tensor

from iin_lightning.analysis.chunks import CHUNK
from iin_lightning.analysis.directions import Attribute, answers
from iin_lightning.analysis.effects import Judge, linear_judge
from iin_lightning.errors import ConfigError, choices
from iin_lightning.questions.subject import Subject

ReaderKind = Literal["judge", "probe"]


def attribute_reader(subject: Subject, attributes: Mapping[str, Attribute], kind: ReaderKind) -> Judge:
    """What reads the probabilities of attributes from z̃, that is from what T^-1 and G make of it.

    Args:
        subject: whose z̃ is read; a judge that is not in the store is trained.
        attributes: by name.
        kind: "judge": classifiers of images that are independent of the model, or, where G gives logits, these, which
            tell one concept; "probe": logistic regressions on z, which also read what these have no classes for, and
            all where G gives values.

    Returns:
        z̃ (B, N) -> probabilities (B, J), on the processor.

    Raises:
        ConfigError: there is no such kind, or no judge can be had.
    """
    if kind not in get_args(ReaderKind):
        raise ConfigError(f"There is no reader {kind!r}; {choices(kind, get_args(ReaderKind))}.")
    concepts = dict.fromkeys(attribute.concept for attribute in attributes.values())
    classify: dict[str, Callable[[Tensor], Tensor]] = {}  # outputs of G -> logits of a concept's classes
    if kind == "judge" and subject.encoder.output == "image":
        classify = {concept: subject.judge(concept) for concept in concepts}
    elif kind == "judge" and subject.encoder.output == "logits":
        z, labels = subject.pick_latents(CHUNK, 0)
        with torch.no_grad():
            predicted = predicted_concept(subject, subject.interpreter.decode(z.to(subject.device)), labels)
        if predicted in concepts:
            classify = {predicted: lambda logits: logits}
    rest = {name: attribute for name, attribute in attributes.items() if attribute.concept not in classify}
    latents = subject.latents("train")
    probe = linear_judge(latents.mean, answers(latents.labels, subject.data.concepts, rest))

    @torch.no_grad()
    def read(z_tilde: Tensor) -> Tensor:
        z = subject.interpreter.untranslate(z_tilde.to(subject.device))
        columns = dict(zip(rest, probe(z).unbind(1))) if rest else {}
        if classify:
            outputs = subject.interpreter.decode(z)
            shares = {concept: logits(outputs).softmax(1).cpu() for concept, logits in classify.items()}
            for name, (concept, label) in attributes.items():
                if concept in shares:
                    columns[name] = shares[concept][:, label]
        return torch.stack([columns[name] for name in attributes], dim=1)

    return read


def predicted_concept(subject: Subject, outputs: Tensor, labels: Tensor) -> str | None:
    """The concept whose classes a network's logits tell: that of its recipe, or the one whose labels it hits best.

    Args:
        subject: a classifier with its data.
        outputs: logits (n, C) of some images, or what grows with them.
        labels: (n, K) of the same images, a column a concept.

    Returns:
        A concept with C classes; None if there is none.
    """
    columns = {
        name: labels[:, subject.data.concepts.index(name)]
        for name, classes in subject.data.classes.items()
        if len(classes) == outputs.shape[1]
    }
    recipe = OmegaConf.create() if subject.recipe is None else subject.recipe
    for key in ("first_stage.model.concept", "model.concept"):
        if (named := OmegaConf.select(recipe, key)) in columns:
            return str(named)
    predicted = outputs.argmax(1).cpu()
    hits = {name: (predicted == column.cpu()).float().mean().item() for name, column in columns.items()}
    return max(hits, key=hits.__getitem__, default=None)
