"""What every question is asked of: a trained model, its data, their held-out latents, and images to look at."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from iin_lightning import serialization
from iin_lightning.analysis.chunks import CHUNK, in_chunks
from iin_lightning.data.base import Source, Split, Subset
from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.framing import BrokenImageError, Framing, read_image
from iin_lightning.data.images import to_range
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import DataModule
from iin_lightning.distributed import is_main_process
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.cut import Cut
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, choices
from iin_lightning.interpreter import Interpreter
from iin_lightning.progress import Bar, track
from iin_lightning.seeding import FIXED, generator

MEANS, SAMPLES = "posterior means", "posterior samples"
"""Latents that an answer is of: means, or samples where it is about T's density, which is that of samples."""


@dataclass
class Subject:
    """A trained model and what it is asked about; it needs neither a configuration nor a run.

    Attributes:
        folder: the run's or the model's; ``results.json`` in it says which factors have learned their concepts.
        network: an interpreter, or a bare encoder, on the device.
        data: whose test split the model is measured on.
        judge: concept -> an independent classifier of images; None: the model has no judges.
        cache: folder of encoded training images; None: they are encoded anew.
        paths: a user's own images, shown instead of held-out ones.
        out: folder that answers are written into; None: nowhere.
        concept: what a classifier's logits predict; None: the concept whose labels they hit best.

    Example:
        >>> from iin_lightning.data.color_mnist import ColorMNISTMini
        >>> from iin_lightning.encoders import Classifier
        >>> data = ColorMNISTMini(views=1, limit=20)
        >>> network = Classifier(n_classes=10, image_size=32, latent_dim=8, width=4, norm="batch").eval()
        >>> Subject(Path("mine"), network, data).latents("test").mean.shape
        torch.Size([20, 8])
    """

    folder: Path
    network: nn.Module
    data: DataModule
    judge: Callable[[str], nn.Module] | None = None
    cache: Path | None = None
    paths: tuple[Path, ...] = ()
    out: Path | None = None
    concept: str | None = None

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter.

        Raises:
            CheckpointError: the folder holds a network without a translator.
        """
        if not isinstance(self.network, Interpreter):
            raise CheckpointError(
                f"{self.folder} holds a {type(self.network).__name__}, not an interpreter: name a run of model=sup or "
                "model=unsup."
            )
        return self.network

    @property
    def encoder(self) -> Encoder:
        """The network that is explained.

        Raises:
            CheckpointError: the folder holds a network that encodes nothing.
        """
        encoder = self.network.encoder if isinstance(self.network, Interpreter) else self.network
        if not isinstance(encoder, Encoder):
            raise CheckpointError(
                f"{self.folder} holds a {type(encoder).__name__}, which encodes nothing: name another."
            )
        return encoder

    @property
    def kind(self) -> str:
        """The name of the network that is explained, or of its class, in lower case."""
        network = getattr(self.encoder, "encoder", self.encoder)
        if isinstance(network, Cut):
            network = network.network
        return str(getattr(network, "name", type(network).__name__)).lower()

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.network.parameters()).device

    @property
    def own(self) -> bool:
        """Whether the user has given images."""
        return bool(self.paths)

    @property
    def own_names(self) -> list[str]:
        """The names of the user's images, without folder and suffix; numbered where two have the same."""
        names = [path.stem for path in self.paths]
        return names if len(set(names)) == len(names) else [f"{name}_{i}" for i, name in enumerate(names, 1)]

    def need_images(self, analysis: str) -> None:
        """Refuse an analysis that shows images where the network makes none.

        Raises:
            ConfigError: the network has no image decoder.
        """
        if self.encoder.output != "image":
            raise ConfigError(
                f"analysis={analysis} shows decoded images, but the {self.kind} of {self.folder} has no image decoder: "
                f"its G gives {self.encoder.output}. Ask analysis=walk, embed or dimensions, or explain an autoencoder."
            )

    def judge_of(self, concept: str) -> nn.Module:
        """An independent classifier of a concept's images, on the device.

        Raises:
            ConfigError: the model has no judges, or the concept no classes.
        """
        self.classes_of(concept)
        if self.judge is None:
            raise ConfigError(
                f"A judge of {concept} is trained by the recipe of a run, and {self.folder} is a bare model folder: "
                "name the run folder."
            )
        return self.judge(concept).to(self.device).eval()

    def classes_of(self, concept: str) -> list[str]:
        """The names of the classes of a concept.

        Raises:
            ConfigError: the data have no such concept, or it has no classes.
        """
        if concept not in self.data.classes:
            raise ConfigError(
                f"These data have no concept {concept!r} with classes; {choices(concept, self.data.classes)}."
            )
        return list(self.data.classes[concept])

    def concepts(self) -> dict[str, Tensor]:
        """Values of the concepts that can be probed, of test images: classes (n,), colours (n, 3)."""
        source = self.data.source("test")
        values: dict[str, Tensor] = {}
        for column, name in enumerate(self.data.concepts):
            if self.data.kinds[name] == "class":
                values[name] = source.labels[:, column].cpu()
            elif self.data.kinds[name] == "color" and (colors := _colors(source)) is not None:
                values[name] = colors
        return values

    def pick(self, count: int, seed: int) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] to look at: all of the user's own, or so many of the test split.

        Raises:
            DataNotFoundError: a file of the user's is no image.
        """
        if self.own:
            return torch.stack([self._read(path) for path in self.paths])
        return self.data.source("test").draw(self._items(count, seed), None)

    def pick_latents(self, count: int, seed: int, *, sampled: bool = False) -> tuple[Tensor, Tensor]:
        """Latents (n, N), posterior means or samples, and labels (n, K) of as many images of the test split."""
        latents = self.samples("test") if sampled else self.latents("test")
        items = self._items(count, seed)
        return latents.mean[items], latents.labels[items]

    def _items(self, count: int, seed: int) -> Tensor:
        n = len(self.data.source("test"))
        return torch.randperm(n, generator=generator(seed, "pick"))[:count]

    def _read(self, path: Path) -> Tensor:
        try:
            return to_range(self.read_pixels(path))
        except BrokenImageError as error:
            raise DataNotFoundError(f"images=[{path}] cannot be read as an image: {error}.") from error

    def read_pixels(self, file: Path | BinaryIO, formats: tuple[str, ...] | None = None) -> Tensor:
        """The pixels, uint8 (C, H, W), of a user's image file, framed as those of the data set.

        Of ``formats``, PIL's names, only these are read; None: all that PIL knows.

        Raises:
            BrokenImageError: the file is no image.
        """
        channels, *shape = self.data.image_shape
        data = self.data.base if isinstance(self.data, ChangedImages) else self.data
        framing = data.framing if isinstance(data, FileModule) else Framing(shape)
        pixels = read_image(file, framing, formats)
        return pixels.float().mean(0, keepdim=True).round().byte() if channels == 1 else pixels

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents (n, N), means of E, of images (n, C, H, W), on the device."""
        return in_chunks(self.interpreter.encode, images, "Encoding images")

    def held_out(self, count: int, seed: int) -> Tensor:
        """Latents (n, N), means of E, of so many test images, whatever images the user has given."""
        return self.encode(replace(self, paths=()).pick(count, seed))

    def latents(self, split: Split) -> LatentCache:
        """The posterior means (``.mean``) of a split's images and their views: what every question is asked of."""
        if split not in self._latents:
            self._latents[split] = (
                self._cached_training_latents()
                if split == "train"
                else self.encoded(self.data.source(split), f"Encoding {split} images")
            )
        return self._latents[split]

    def samples(self, split: Split) -> LatentCache:
        """A posterior sample of each image of a split: what T was trained on, and so what its density is of."""
        if split not in self._samples:
            self._samples[split] = self.latents(split).sampled(FIXED)
        return self._samples[split]

    def _cached_training_latents(self) -> LatentCache:
        """From the cache of the training, if it is there."""
        encoder = self.encoder
        key = serialization.fingerprint(getattr(encoder, "encoder", encoder))
        cache = None if self.cache is None else self.cache / "latents"
        return LatentData(self.data, encoder, cache=cache, cache_key=key, device=self.device).latents("train")

    def encoded(self, source: Source, title: str) -> LatentCache:
        """The posteriors of images, under a title of the progress bar."""
        with Bar(quiet=not is_main_process()) as bar:
            task = bar.add_task(title, total=len(source))
            return LatentCache.build(
                source,
                self.encoder,
                training=False,
                seed=FIXED,
                device=self.device,
                progress=lambda done, _: bar.update(task, completed=done),
            )

    @cached_property
    def _latents(self) -> dict[Split, LatentCache]:
        return {}

    @cached_property
    def _samples(self) -> dict[Split, LatentCache]:
        return {}

    @cached_property
    def translated(self) -> Tensor:
        """z̃ (n, N) of the posterior means of the test split, on the processor."""
        return self._translate(self.latents("test").mean, "test")[0]

    @cached_property
    def translated_samples(self) -> tuple[Tensor, Tensor]:
        """z̃ (n, N) of posterior samples of the test split, and log|det ∂z̃/∂z| (n,), on the processor."""
        return self._translate(self.samples("test").mean, "test")

    @torch.no_grad()
    def nll(self, split: Split) -> Tensor:
        """``-log p(z)`` of a posterior sample of each image of a split (n,), in nats, on the processor."""
        samples = self.translated_samples if split == "test" else self._translate(self.samples(split).mean, split)
        z_tilde, logdet = samples
        return -self.interpreter.density.log_prob(z_tilde.double()) - logdet

    @torch.no_grad()
    def _translate(self, z: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        shown = track(z.split(CHUNK), f"Translating {split} latents", quiet=not is_main_process())
        parts = [self.interpreter.translator(part.to(self.device)) for part in shown]
        z_tilde, logdet = (torch.cat(outputs).cpu() for outputs in zip(*parts))
        return z_tilde, logdet


def load_model(folder: Path) -> nn.Module:
    """What a model folder, or that of a run, holds: an interpreter, or a network."""
    folder = serialization.model_folder(folder)
    if "parts" in serialization.read_structure(folder):
        return Interpreter.from_pretrained(folder)
    return serialization.load(folder)


def _colors(source: Source) -> Tensor | None:
    items = torch.arange(len(source))
    if isinstance(source, Subset):
        items, source = source.items, source.source
    colors = getattr(source, "colors", None)
    return None if colors is None else colors(items)
