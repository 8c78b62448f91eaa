"""What decoded images are held against: latents of held-out images, and a classifier that has not seen the model."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.questions.subject import Subject


class Judge(NamedTuple):
    """An independent classifier of images.

    Attributes:
        concept: what it tells.
        network: images (B,C,H,W) in [-1,1] -> logits.
    """

    concept: str
    network: nn.Module


@torch.no_grad()
def encode(subject: Subject, images: Tensor) -> Tensor:
    """Images (n,C,H,W) to latents (n,N), means of E, on the subject's device."""
    return in_chunks(subject.interpreter.encode, images, "Encoding images")


def held_out(subject: Subject, count: int, seed: int) -> Tensor:
    """Latents (n,N), means of E, of at most so many test images, whatever images the user has given."""
    return encode(subject, replace(subject, paths=()).pick(count, seed))


def choose_judge(subject: Subject, concept: str | None) -> Judge | None:
    """The judge of a concept; of None that of the only one with classes, if the folder says how to train it.

    Raises:
        ConfigError: the named concept has no classes, or nobody knows how to train its judge.
    """
    if concept is None:
        if len(subject.data.classes) != 1 or subject.recipe is None:
            return None
        concept = next(iter(subject.data.classes))
    subject.classes_of(concept)
    return Judge(concept, subject.judge(concept))
