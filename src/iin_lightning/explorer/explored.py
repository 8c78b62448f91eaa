"""One model on the page: its held-out images, and what becomes of their factors; nothing here knows the page.

Symbols: z̃ (1, N) are the factors of one picture, z̃_k (1, N_k) one of them. Every picture is encoded and decoded alone:
in batches of another size a convolution may differ in its last bits, and what is saved must come back to the last bit.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning import serialization
from iin_lightning.data.base import LabelledBatch, Source, draw_labelled
from iin_lightning.data.transforms import to_range
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.alone import alone
from iin_lightning.explorer.directions import Directions
from iin_lightning.explorer.once import Once
from iin_lightning.explorer.pictures import Picture
from iin_lightning.questions.answer import Learned, known, learned
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.results import read
from iin_lightning.runs.locate import RunSubject
from iin_lightning.seeding import FIXED, generator

REMEMBERED = 256  # pictures whose factors are kept
SOME = 2000
NAMING = 500  # of some: enough to tell which classes the logits are of
CHUNK = 100  # images that are encoded at once


class Encoded(NamedTuple):
    """A picture in the model.

    Attributes:
        z_tilde: (1, N).
        rest: what z does not say of it and G reads all the same; None where z says everything.
    """

    z_tilde: Tensor
    rest: Tensor | None


class Explored:
    """A model with its data, made to be asked by many at once.

    Args:
        name: by which the page knows it.
        subject: the model and its data.
        gallery: how many held-out images there are to choose from.
        seed: of which ones.

    Raises:
        CheckpointError: the folder holds no interpreter.
        ConfigError: the network gives values.
    """

    def __init__(self, name: str, subject: RunSubject, gallery: int, seed: int) -> None:
        if subject.encoder.output == "values":
            raise ConfigError(
                f"The page shows images and classes, but the {subject.kind} of {subject.folder} gives values: ask "
                "analysis=walk or embed."
            )
        self.name, self.subject = name, subject
        self.interpreter = subject.interpreter
        self.factors = self.interpreter.factors
        self.shape = subject.data.image_shape
        self.source = subject.data.source("test")
        count = len(self.source)
        self.gallery: list[int] = torch.randperm(count, generator=generator(seed, "gallery"))[:gallery].tolist()
        self._encode = lru_cache(REMEMBERED)(self._encode_picture)
        self._translated = Once[None, Tensor](lambda _: self.translate(self.source, self.some).x)
        self._class_names = Once[None, list[str]](lambda _: self._find_class_names())
        self.directions = Directions(subject, self.translated, self.translate)

    def __len__(self) -> int:
        """The number of held-out images."""
        return len(self.source)

    @property
    def makes_images(self) -> bool:
        """Whether G gives images; else it gives logits."""
        return self.subject.encoder.output == "image"

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any weight of the network or the translator."""
        parts = (self.interpreter.encoder, self.interpreter.translator, self.interpreter.decoder)
        made_of = [serialization.fingerprint(part) for part in parts if part is not None]
        return sha256("".join(made_of).encode()).hexdigest()[:16]

    @cached_property
    def card(self) -> str:
        """The model in a line."""
        factors = ", ".join(f"{name} {dim}" for name, dim in self.factors.items())
        doubts = "; ".join(f"{name}: {one}" for name, one in known(self._learned()).items() if not one.believed)
        return (
            f"{self.subject.kind} on {self.subject.data.title}, {self.shape[1]}×{self.shape[2]} pixels; "
            f"{self.factors.latent_dim} dimensions: {factors}; {len(self):,} held-out images"
            + (f". {doubts}" if doubts else "")
        )

    def _learned(self) -> dict[str, Learned]:
        return learned(read(self.subject.folder), self.factors.concepts)

    @alone
    def image(self, picture: Picture) -> Tensor:
        """The image (C, S, S) of a picture, in [-1, 1], as the model reads it."""
        if picture.item is None:
            return to_range(picture.pixels(self.shape))
        return self.images([picture.item])[0]

    @alone
    def images(self, items: Sequence[int]) -> Tensor:
        """Held-out images (n, C, S, S) in [-1, 1]."""
        return self.source.draw(torch.tensor(items, device=self.source.device), None).cpu()

    @cached_property
    def gallery_captions(self) -> list[str]:
        """Their classes in words."""
        return [self.caption(Picture(item=item)) for item in self.gallery]

    def caption(self, picture: Picture) -> str:
        """The classes of a held-out image in words; of several attributes those that it has."""
        if picture.item is None:
            return "uploaded"
        labels = self.source.labels[picture.item].tolist()
        words = []
        for name, classes in self.subject.data.classes.items():
            label = labels[self.source.concepts.index(name)] if name in self.source.concepts else -1
            if label >= 0 and not classes[label].startswith("not "):
                words.append(f"{name} {classes[label]}" if len(classes[label]) < 3 else classes[label])
        return ", ".join(words) or f"image {picture.item}"

    @alone
    def encode(self, picture: Picture) -> Encoded:
        """z̃ of a picture, by the mean of E; remembered."""
        return self._encode(picture)

    @torch.no_grad()
    def _encode_picture(self, picture: Picture) -> Encoded:
        x = self.image(picture)[None].to(self.interpreter.device)
        return Encoded(self.interpreter.translate(self.interpreter.encode(x)), self.interpreter.complement(x))

    @alone
    @torch.no_grad()
    def decode(self, z_tilde: Tensor, rest: Tensor | None = None) -> Tensor:
        """What G makes of z̃ (1, N): an image (C, S, S) in [-1, 1], or class probabilities (classes,)."""
        output = self.interpreter.resume(self.interpreter.untranslate(z_tilde), rest)[0].cpu()
        return output if self.makes_images else output.float().softmax(0)

    @alone
    def reconstruct(self, picture: Picture) -> Tensor:
        """f(x) = G(T^-1(T(E(x)))): the edit that changes nothing."""
        return self.decode(*self.encode(picture))

    @alone
    def swap(self, target: Picture, source: Picture, names: Sequence[str], blend: float) -> Tensor:
        """The target with the named factors of the source, or part of the way there.

        ``z̃_k = (1 - blend) z̃_k(target) + blend z̃_k(source)`` for the named k, all others are the target's.
        """
        parts, rest = self.factors.split(self.encode(target).z_tilde), self.encode(target).rest
        given = self.factors.split(self.encode(source).z_tilde)
        for name in names:
            parts[name] = torch.lerp(parts[name], given[name], blend)
        return self.decode(self.factors.merge(parts), rest)

    def walk(self, picture: Picture, name: str, steps: Sequence[float], attributes: Mapping[str, float]) -> Tensor:
        """A picture moved along the main directions of a factor and along those of attributes.

        Args:
            picture: where to start.
            name: of the factor.
            steps: in standard deviations, one a main direction.
            attributes: name -> step; 1 leads from the mean of those without it to that of those with it.
        """
        directions = self.directions.principal(name).steps
        if len(steps) > len(directions):
            raise ConfigError(f"{name} has {len(directions)} main directions, and {len(steps)} steps were asked for.")
        part = torch.tensor(steps) @ directions[: len(steps)] if steps else torch.zeros(self.factors[name])
        parts = {other: torch.zeros(dim) for other, dim in self.factors.items()} | {name: part}
        move = self.factors.merge(parts)
        for attribute, step in attributes.items():
            move = move + step * self.directions.towards(attribute)
        return self._move(picture, move)

    @alone
    def _move(self, picture: Picture, move: Tensor) -> Tensor:
        z_tilde, rest = self.encode(picture)
        return self.decode(z_tilde + move.to(z_tilde), rest)

    @alone
    def redraw(self, picture: Picture, name: str, seed: int, place: int) -> Tensor:
        """A picture whose named factor is drawn anew from N(0, 1), the draw at a place of those of a seed."""
        z_tilde, rest = self.encode(picture)
        parts = self.factors.split(z_tilde)
        noise = torch.randn(place + 1, self.factors[name], generator=generator(seed, "explore", name))[place:]
        return self.decode(self.factors.merge(parts | {name: noise.to(z_tilde)}), rest)

    @alone
    def sample(self, seed: int, place: int) -> Tensor:
        """z̃ (1, N) ~ N(0, 1), the sample at a place of those of a seed."""
        noise = torch.randn(place + 1, self.factors.latent_dim, generator=generator(seed, "explore samples"))
        return noise[place:].to(self.interpreter.device)

    @cached_property
    def some(self) -> list[int]:
        """At most 2000 held-out images, from which directions and maps are made."""
        return torch.randperm(len(self), generator=generator(FIXED, "explore"))[:SOME].sort().values.tolist()

    def translated(self) -> Tensor:
        """z̃ (n, N) of ``some`` held-out images, on the processor; remembered."""
        return self._translated(None)

    def translate(self, source: Source, items: Sequence[int]) -> LabelledBatch:
        """z̃ (n, N) of images of a source with their labels, on the processor."""
        return _in_turns(self._translate, source, items)

    @alone
    @torch.no_grad()
    def _translate(self, source: Source, items: Tensor) -> LabelledBatch:
        x, labels = draw_labelled(source, items, None)
        return LabelledBatch(self.interpreter.translate(self.interpreter.encode(x)).cpu(), labels.cpu())

    @property
    def class_names(self) -> list[str]:
        """The classes that the logits are of; numbers where the data do not say; remembered."""
        return self._class_names(None)

    def _find_class_names(self) -> list[str]:
        logits, labels = _in_turns(self._classify, self.source, self.some[:: -(-len(self.some) // NAMING)])
        concept = predicted_concept(self.subject, logits, labels)
        return [str(k) for k in range(logits.shape[1])] if concept is None else self.subject.classes_of(concept)

    @alone
    @torch.no_grad()
    def _classify(self, source: Source, items: Tensor) -> LabelledBatch:
        x, labels = draw_labelled(source, items, None)
        logits = self.interpreter.resume(self.interpreter.encode(x), self.interpreter.complement(x))
        return LabelledBatch(logits.cpu(), labels.cpu())


def _in_turns(
    function: Callable[[Source, Tensor], LabelledBatch], source: Source, items: Sequence[int]
) -> LabelledBatch:
    """What a function that computes alone gives for all items: some at a time, so that others get their turn."""
    parts = [function(source, chunk) for chunk in torch.tensor(items).split(CHUNK)]
    return LabelledBatch(*(torch.cat(tensors) for tensors in zip(*parts)))
