"""The models of the page: their held-out images, and what becomes of their factors. Nothing here knows the page.

Symbols: z̃ (1, N) are the factors of one picture, z̃_k (1, N_k) one of them. Every picture is encoded and decoded alone:
in batches of another size a convolution may differ in its last bits, and what is saved must come back to the last bit.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from iin_lightning import serialization
from iin_lightning.analysis.directions import FEWEST, answers, attributes_in, choose_method, examples, fit_directions
from iin_lightning.data.base import LabelledBatch, Source, digest, draw_labelled
from iin_lightning.data.images import to_range
from iin_lightning.errors import ConfigError, choices
from iin_lightning.explorer.computing import alone, once
from iin_lightning.explorer.pictures import FORMATS, Picture, decoded, to_pixels
from iin_lightning.questions.answer import known, learned
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.results import read
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import FIXED, generator

REMEMBERED = 256  # pictures whose factors are kept
SOME = 2000
NAMING = 500  # of some: enough to tell which classes the logits are of
CHUNK = 100  # images that are encoded at once
PROBES = 64  # images that say which data these are
DIRECTIONS = 6  # of a factor that get a slider
EXAMPLES = 1000  # training images that have an attribute, and as many that lack it: their means are near those of all
NARROWEST = 1e-3  # of the widest direction's deviation: what is narrower is rounding, or nothing


class Principal(NamedTuple):
    """Where z̃_k varies most: D steps (D, N_k) of a standard deviation each, and their shares (D,) of its variance."""

    steps: Tensor
    shares: Tensor


class Explored:
    """A model with its data, made to be asked by many at once.

    Args:
        name: by which the page knows it.
        subject: the model and its data.
        gallery: how many held-out images can be chosen from, drawn with ``seed``.
        seed: see ``gallery``.
        recipe: the configuration of its run; None for a bare model folder.
    """

    def __init__(self, name: str, subject: Subject, gallery: int, seed: int, recipe: DictConfig | None = None) -> None:
        if subject.encoder.output == "values":
            raise ConfigError(
                f"The page shows images and classes, but the {subject.kind} of {subject.folder} gives values: ask "
                "analysis=walk or embed."
            )
        self.name, self.subject, self.recipe = name, subject, recipe
        self.folder, self.data, self.interpreter = subject.folder, subject.data, subject.interpreter
        self.factors = self.interpreter.factors
        self.shape = self.data.image_shape
        self.source = self.data.source("test")
        self.makes_images = subject.encoder.output == "image"  # else G gives logits
        self.gallery: list[int] = torch.randperm(len(self), generator=generator(seed, "gallery"))[:gallery].tolist()
        self.some: list[int] = (
            torch.randperm(len(self), generator=generator(FIXED, "explore"))[:SOME].sort()[0].tolist()
        )
        self.encode = alone(lru_cache(REMEMBERED)(self._encode))

    def __len__(self) -> int:
        """The number of held-out images."""
        return len(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any weight of the network or the translator."""
        parts = (self.interpreter.encoder, self.interpreter.translator, self.interpreter.decoder)
        made_of = [serialization.fingerprint(part) for part in parts if part is not None]
        return sha256("".join(made_of).encode()).hexdigest()[:16]

    @cached_property
    def data_fingerprint(self) -> str:
        """16 hexadecimal digits that change with the held-out images, and not with the folder they lie in.

        64 images stand for all: ``data.latents.fingerprint`` would read every file.
        """
        items = torch.linspace(0, len(self) - 1, min(PROBES, len(self))).long()
        seen = digest(self.source.labels.cpu(), to_pixels(self.images(items.tolist())))
        return sha256(f"{self.source.concepts}, {seen}".encode()).hexdigest()[:16]

    @cached_property
    def card(self) -> str:
        """The model in a line."""
        factors = ", ".join(f"{name} {dim}" for name, dim in self.factors.items())
        results = known(learned(read(self.folder), self.factors.concepts))
        doubts = "; ".join(f"{name}: {result}" for name, result in results.items() if not result.believed)
        return (
            f"{self.subject.kind} on {self.data.title}, {self.shape[1]}×{self.shape[2]} pixels; "
            f"{self.factors.latent_dim} dimensions: {factors}; {len(self):,} held-out images"
            + (f". {doubts}" if doubts else "")
        )

    def upload(self, content: bytes) -> Picture:
        """Return the picture of an image file, framed as those of the model's data set."""
        return Picture.of(decoded(content, partial(self.subject.read_pixels, formats=FORMATS)))

    @alone
    def image(self, picture: Picture) -> Tensor:
        """Return the image (C, S, S) of a picture, in [-1, 1], as the model reads it."""
        if picture.item is None:
            return to_range(picture.pixels(self.shape))
        return self.images([picture.item])[0]

    @alone
    def images(self, items: Sequence[int]) -> Tensor:
        """Return held-out images (n, C, S, S) in [-1, 1]."""
        return self.source.draw(torch.tensor(items, device=self.source.device), None).cpu()

    def caption(self, picture: Picture) -> str:
        """Return the classes of a held-out image in words; of several attributes those that it has."""
        if picture.item is None:
            return "uploaded"
        labels = self.source.labels[picture.item].tolist()
        words = []
        for name, classes in self.data.classes.items():
            label = labels[self.source.concepts.index(name)] if name in self.source.concepts else -1
            if label >= 0 and not classes[label].startswith("not "):
                words.append(f"{name} {classes[label]}" if len(classes[label]) < 3 else classes[label])
        return ", ".join(words) or f"image {picture.item}"

    @torch.no_grad()
    def _encode(self, picture: Picture) -> tuple[Tensor, Tensor | None]:
        """Return z̃ (1, N) of a picture, by the mean of E, and what G reads besides z; None where z says everything."""
        x = self.image(picture)[None].to(self.interpreter.device)
        return self.interpreter.translate(self.interpreter.encode(x)), self.interpreter.complement(x)

    @alone
    @torch.no_grad()
    def decode(self, z_tilde: Tensor, rest: Tensor | None = None) -> Tensor:
        """Return what G makes of z̃ (1, N): an image (C, S, S) in [-1, 1], or class probabilities (classes,)."""
        output = self.interpreter.resume(self.interpreter.untranslate(z_tilde), rest)[0].cpu()
        return output if self.makes_images else output.float().softmax(0)

    @alone
    def reconstruct(self, picture: Picture) -> Tensor:
        """Return f(x) = G(T^-1(T(E(x)))): the edit that changes nothing."""
        return self.decode(*self.encode(picture))

    @alone
    def swap(self, target: Picture, source: Picture, names: Sequence[str], blend: float) -> Tensor:
        """Return the target with the named factors of the source, or part of the way there.

        ``z̃_k = (1 - blend) z̃_k(target) + blend z̃_k(source)`` for the named k, all others are the target's.
        """
        z_tilde, rest = self.encode(target)
        parts, given = self.factors.split(z_tilde), self.factors.split(self.encode(source)[0])
        for name in names:
            parts[name] = torch.lerp(parts[name], given[name], blend)
        return self.decode(self.factors.merge(parts), rest)

    @once
    def principal(self, name: str) -> Principal:
        """Return the directions in which a factor varies most over held-out images, at most six."""
        return principal_directions(self.factors.split(self.translated())[name])

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that can be walked along: those that held-out images have and lack often enough."""
        asked = answers(self.source.labels.cpu(), self.data.concepts, attributes_in(self.data.classes))
        return tuple(name for name, answer in asked.items() if min(examples(answer)) >= FEWEST)

    def towards(self, attribute: str) -> Tensor:
        """Return the direction (N,) of an attribute, as in ``analysis=directions``, from some training images."""
        if attribute not in self.attributes:
            raise ConfigError(f"There is no attribute {attribute!r}; {choices(attribute, self.attributes)}.")
        return self._towards(attribute)

    @once
    def _towards(self, attribute: str) -> Tensor:
        source, asked = self.data.source("train"), {attribute: attributes_in(self.data.classes)[attribute]}
        answer = answers(source.labels.cpu(), self.data.concepts, asked)[attribute]
        mixed = torch.randperm(len(answer), generator=generator(FIXED, "explore attributes"))
        items = torch.cat([mixed[answer[mixed] == value][:EXAMPLES] for value in (1, 0)]).sort().values.tolist()
        z_tilde, labels = self.translate(source, items)
        method = choose_method(z_tilde, self.factors)
        return fit_directions(z_tilde, answers(labels.cpu(), self.data.concepts, asked), method)[attribute].vector

    def walk(self, picture: Picture, name: str, steps: Sequence[float], attributes: Mapping[str, float]) -> Tensor:
        """Return a picture moved along the main directions of a factor, by standard deviations, and along attributes.

        A step of 1 along an attribute leads from the mean of those without it to that of those with it.
        """
        parts = {other: torch.zeros(dim) for other, dim in self.factors.items()}
        parts[name] = torch.tensor(steps, dtype=torch.float32) @ self.principal(name).steps[: len(steps)]
        move = self.factors.merge(parts)
        for attribute, step in attributes.items():
            move = move + step * self.towards(attribute)
        return self._moved(picture, move)

    @alone
    def _moved(self, picture: Picture, step: Tensor) -> Tensor:
        z_tilde, rest = self.encode(picture)
        return self.decode(z_tilde + step.to(z_tilde), rest)

    @alone
    def redraw(self, picture: Picture, name: str, seed: int, place: int) -> Tensor:
        """Return a picture whose named factor is drawn anew, the draw at a place of those of a seed."""
        z_tilde, rest = self.encode(picture)
        drawn = self.interpreter.density.sample(place + 1, generator(seed, "explore", name))[place:]
        parts = self.factors.split(z_tilde) | {name: self.factors.split(drawn.to(z_tilde))[name]}
        return self.decode(self.factors.merge(parts), rest)

    @alone
    def sample(self, seed: int, place: int) -> Tensor:
        """Return z̃ (1, N) of the translator's density, the sample at a place of those of a seed."""
        noise = self.interpreter.density.sample(place + 1, generator(seed, "explore samples"))
        return noise[place:].to(self.interpreter.device)

    @once
    def translated(self) -> Tensor:
        """Return z̃ (n, N) of ``some`` held-out images, on the processor."""
        return self.translate(self.source, self.some).x

    def translate(self, source: Source, items: Sequence[int]) -> LabelledBatch:
        """Return z̃ (n, N) of images of a source with their labels, on the processor."""
        network = self.interpreter
        return self._in_turns(lambda x: network.translate(network.encode(x)), source, items)

    @once
    def class_names(self) -> list[str]:
        """Return the classes that the logits are of; numbers where the data do not say."""
        network, few = self.interpreter, self.some[:: -(-len(self.some) // NAMING)]
        logits, labels = self._in_turns(
            lambda x: network.resume(network.encode(x), network.complement(x)), self.source, few
        )
        concept = predicted_concept(self.subject, logits, labels)
        return [str(k) for k in range(logits.shape[1])] if concept is None else self.subject.classes_of(concept)

    def _in_turns(self, function: Callable[[Tensor], Tensor], source: Source, items: Sequence[int]) -> LabelledBatch:
        """Compute something of images some at a time, so that others get their turn."""
        parts = [self._labelled(function, source, chunk) for chunk in torch.tensor(items).split(CHUNK)]
        return LabelledBatch(*(torch.cat(tensors) for tensors in zip(*parts)))

    @alone
    @torch.no_grad()
    def _labelled(self, function: Callable[[Tensor], Tensor], source: Source, items: Tensor) -> LabelledBatch:
        x, labels = draw_labelled(source, items, None)
        return LabelledBatch(function(x).cpu(), labels.cpu())


def principal_directions(values: Tensor) -> Principal:
    """Return the principal components of a factor z̃_k (n, N_k), at most six, none without variance.

    Example:
        >>> values = torch.randn(5000, 3) * torch.tensor([1.0, 3.0, 0.0])
        >>> steps, shares = principal_directions(values)
        >>> steps.abs().round().tolist(), [round(share, 1) for share in shares.tolist()]
        ([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]], [0.9, 0.1])
    """
    values = values.double()
    variances, axes = torch.linalg.eigh(values.T.cov().reshape(2 * values.shape[1:]))
    variances, axes = variances.flip(0)[:DIRECTIONS], axes.flip(1).T[:DIRECTIONS]
    kept = variances > NARROWEST**2 * variances.max().clamp(min=1e-12)
    variances, axes = variances[kept], axes[kept]
    # An axis has no sign: its largest entry is made positive, so that it is the same on every machine.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return Principal((axes * variances.sqrt()[:, None]).float(), (variances / values.var(0).sum()).float())
