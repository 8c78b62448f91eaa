"""Who reads concepts from what a network gives: independent classifiers, its own logits, and probes of z."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from iin_lightning.analysis import effects
from iin_lightning.analysis.chunks import CHUNK
from iin_lightning.analysis.directions import Attribute, answers
from iin_lightning.errors import ConfigError, choices
from iin_lightning.questions.subject import Subject

ReaderKind = Literal["judge", "probe"]


class Judge(NamedTuple):
    """An independent classifier of images (B, C, H, W) in [-1, 1] by the classes of a concept."""

    concept: str
    network: nn.Module


def choose_judge(subject: Subject, concept: str | None) -> Judge | None:
    """The judge of a concept; of None that of the only concept with classes, if the model has judges.

    Raises:
        ConfigError: the named concept has no classes, or the model no judges.
    """
    if concept is None:
        if len(subject.data.classes) != 1 or subject.judge is None:
            return None
        concept = next(iter(subject.data.classes))
    return Judge(concept, subject.judge_of(concept))


def predicted_concept(subject: Subject, outputs: Tensor, labels: Tensor) -> str | None:
    """The concept whose classes a network's logits tell: the subject's, or the concept whose labels they hit best.

    ``outputs`` are logits (n, C) of some images, ``labels`` (n, K) theirs; None if no concept has C classes.
    """
    columns = {
        name: labels[:, subject.data.concepts.index(name)]
        for name, classes in subject.data.classes.items()
        if len(classes) == outputs.shape[1]
    }
    if subject.concept in columns:
        return subject.concept
    predicted = outputs.argmax(1).cpu()
    hits = {name: (predicted == column.cpu()).float().mean().item() for name, column in columns.items()}
    return max(hits, key=hits.__getitem__, default=None)


def attribute_reader(subject: Subject, attributes: Mapping[str, Attribute], kind: ReaderKind) -> effects.Judge:
    """What reads the probabilities (B, J) of attributes from z̃ (B, N), that is from what T^-1 and G make of it.

    By ``judge`` independent classifiers read decoded images, and the network's own logits their concept; by ``probe``,
    and where these tell nothing, logistic regressions read z.

    Raises:
        ConfigError: there is no such kind, or the model has no judges.
    """
    if kind not in get_args(ReaderKind):
        raise ConfigError(f"There is no reader {kind!r}; {choices(kind, get_args(ReaderKind))}.")
    concepts = dict.fromkeys(attribute.concept for attribute in attributes.values())
    classify: dict[str, Callable[[Tensor], Tensor]] = {}  # outputs of G -> logits of a concept's classes
    if kind == "judge" and subject.encoder.output == "image":
        classify = {concept: subject.judge_of(concept) for concept in concepts}
    elif kind == "judge" and subject.encoder.output == "logits":
        z, labels = subject.pick_latents(CHUNK, 0)
        with torch.no_grad():
            predicted = predicted_concept(subject, subject.interpreter.decode(z.to(subject.device)), labels)
        if predicted in concepts:
            classify = {predicted: lambda logits: logits}
    rest = {name: attribute for name, attribute in attributes.items() if attribute.concept not in classify}
    latents = subject.latents("train")
    probe = effects.linear_judge(latents.mean, answers(latents.labels, subject.data.concepts, rest))

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
