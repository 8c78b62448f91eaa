"""Who says which attributes a z̃ has once it is decoded."""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from omegaconf import OmegaConf
from torch import Tensor

from iin_lightning.analysis.attributes import Attribute, answers
from iin_lightning.analysis.effects import Reader, linear_reader
from iin_lightning.app.subject import Subject
from iin_lightning.errors import ConfigError, choices

ReaderKind = Literal["judge", "probe"]


def attribute_reader(subject: Subject, attributes: Mapping[str, Attribute], kind: ReaderKind) -> Reader:
    """What reads the probabilities of attributes from z̃, that is from what T^-1 and G make of it.

    Args:
        subject: whose z̃ is read; a judge that is not in the store is trained.
        attributes: by name.
        kind: "judge": classifiers of images that are independent of the model, or, where G gives logits, these, which
            tell one concept; "probe": logistic regressions on z, which also read what these have no classes for.

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
    elif kind == "judge" and (predicted := _predicted(subject)) in concepts:
        classify = {predicted: lambda logits: logits}
    rest = {name: attribute for name, attribute in attributes.items() if attribute.concept not in classify}
    latents = subject.latents("train")
    probe = linear_reader(latents.mean, answers(latents.labels, subject.data.concepts, rest))

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


def _predicted(subject: Subject) -> str:
    """The concept whose classes a network's logits tell."""
    recipe = OmegaConf.create() if subject.recipe is None else subject.recipe
    named = (OmegaConf.select(recipe, key) for key in ("first_stage.model.concept", "model.concept"))
    return str(next(filter(None, named), None) or next(iter(subject.data.classes)))
