"""What is done to an image to make a version of it that differs in one concept, and how that is known again."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from hashlib import sha256
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import Transform

from iin_lightning.data.base import Source, digest
from iin_lightning.data.images import render, to_levels
from iin_lightning.data.pixels import Made
from iin_lightning.errors import ConfigError
from iin_lightning.seeding import FIXED, Noise, generator

FORMAT = 1  # raises with every change of what a version is
PROBES = 64  # images of a source that are looked at to know it again

# Nothing in these says what a change does: an address is another one in every process, a function has a name only.
UNTELLING = re.compile(r" at 0x[0-9a-fA-F]+|<lambda>|\bLambda\(")


class Change(Protocol):
    """What makes of an image a version that differs in one concept: any of torchvision's v2 transforms, for one.

    It takes and gives uint8 (C, H, W), of the same shape. What it draws at random comes from the global generators of
    torch, numpy or random, which are seeded for each image. It is pickled or forked into several processes, perhaps
    after it was called: what does not survive that, such as a session of a runtime, is made again where ``os.getpid()``
    is another one.

    It is known by what ``fingerprint() -> str`` says, if it has that method, and otherwise by its ``repr``, with its
    weights and plain attributes if it is a network; see ``described``. Its code is not looked at: versions that another
    code made are kept under the same name.
    """

    def __call__(self, pixels: Tensor, /) -> Tensor: ...  # noqa: D102


class ChangeError(ConfigError):
    """A change cannot be used on these images, or does not give images of their kind."""

    def __init__(self, text: str) -> None:
        # A loader raises what its worker raised with the worker's traceback for a text, whose last line is ours.
        super().__init__(text.rpartition(f"{type(self).__name__}: ")[2].strip())


def described(change: object) -> str:
    """What a change is, in words that are the same in every process: its versions are kept under them.

    They are its type, with what its ``fingerprint()`` says, or its ``repr`` and, of a network, its plain attributes and
    a hash of its weights.

    Raises:
        ConfigError: its ``repr`` has an address or a function in it, which say nothing of what it does.

    Example:
        >>> from torchvision.transforms.v2 import Grayscale
        >>> described(Grayscale(num_output_channels=3))
        'torchvision.transforms.v2._color.Grayscale: Grayscale(num_output_channels=3)'
    """
    kind = f"{type(change).__module__}.{type(change).__qualname__}"
    own = getattr(change, "fingerprint", None)
    if own is not None:
        return f"{kind}: {own()}"
    text = repr(change)
    if UNTELLING.search(text):
        raise ConfigError(
            f"The change {text} cannot be told from others, since its repr has an address or a function in it: give "
            "its class a method fingerprint() -> str that names all that its result depends on, or such a __repr__."
        )
    return f"{kind}: {text}{_beyond_its_repr(change)}" if isinstance(change, nn.Module) else f"{kind}: {text}"


def _beyond_its_repr(network: nn.Module) -> str:
    """Options, which a network's ``repr`` leaves out unless it has an ``extra_repr``, and weights."""
    weights = network.state_dict()
    options = [
        (path, name, value)
        for path, module in network.named_modules()
        if not isinstance(module, Transform)  # which says its own
        for name, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str | tuple | list | Enum) and name != "training" and name[0] != "_"
        if not UNTELLING.search(repr(value))
    ]
    said = f" {options}" if options else ""
    return f"{said} {sorted(weights)} {digest(*(weights[name].cpu() for name in sorted(weights)))}" if weights else said


def changed(change: Change, pixels: Tensor, items: Tensor, key: str) -> Tensor:
    """The versions of images, both uint8 (B, C, H, W).

    What is random in a version depends on the key of the change, see ``described``, and the image's number alone.

    Raises:
        ChangeError: the change fails, or gives another shape or type.

    Example:
        >>> from torchvision.transforms.v2 import RandomInvert
        >>> changed(RandomInvert(p=1), torch.zeros(1, 3, 1, 1).byte(), torch.tensor([0]), "invert").flatten().tolist()
        [255, 255, 255]
    """
    versions = torch.empty_like(pixels)
    with _global_generators_kept():
        for place, item in enumerate(items.tolist()):
            seed = generator(FIXED, "change", key, item).initial_seed()
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed & 0xFFFFFFFF)
            random.seed(seed)
            versions[place] = _one(change, pixels[place])
    return versions


def _one(change: Change, image: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            version = change(image.clone())  # of which it may overwrite what it likes
    except (ChangeError, MemoryError):
        raise
    except Exception as error:  # a user's code, or arguments of a transform that fit no image
        raise ChangeError(
            f"The change {change!r} fails on an image, uint8 {tuple(image.shape)}: {type(error).__name__}: {error}. "
            "Correct its arguments, or choose other images."
        ) from error
    if not isinstance(version, Tensor) or version.dtype != torch.uint8 or version.shape != image.shape:
        came = f"{version.dtype} {tuple(version.shape)}" if isinstance(version, Tensor) else type(version).__name__
        raise ChangeError(
            f"The change {change!r} gives {came} for an image, uint8 {tuple(image.shape)}; a version has the type and "
            "the shape of its image. Correct its arguments (num_output_channels of a grey scale), or choose images "
            "with as many channels."
        )
    return version


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Give back what the global generators had been about to draw: a run must not depend on what is cached."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


class ChangedSource(Source):
    """The version of each item of a source of images of one shape, made at every draw."""

    def __init__(self, source: Source, change: Change) -> None:
        self.source = source
        self.change = change
        self.concepts = source.concepts
        self.labels = source.labels
        self.description = described(change)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.source.draw(torch.zeros(1, dtype=torch.long), None).shape[1:])

    def pixels(self, indices: Tensor) -> Tensor:
        """The versions of items (B,), uint8 (B, C, H, W)."""
        return changed(self.change, to_levels(self.source.draw(indices, None)), indices, self.description)

    def make(self, items: range) -> Made:
        """The versions of some items, for ``kept_images``."""
        return self.pixels(torch.tensor(items)), {}

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], dequantised by the noise if there is any."""
        return render(self.pixels(indices), noise)

    def drawn_labels(self, indices: Tensor) -> Tensor:
        """See ``Source``."""
        return self.source.drawn_labels(indices)

    def content(self) -> str:
        """A hash of the source's images, and of the change; the labels are no part of it."""
        items = torch.linspace(0, len(self) - 1, min(PROBES, len(self))).long()
        # Probes, since a source may have lost one broken image and found another under the same name.
        parts = (FORMAT, len(self), self.source.content(), digest(self.source.draw(items, None)), self.description)
        return sha256(repr(parts).encode()).hexdigest()[:32]
