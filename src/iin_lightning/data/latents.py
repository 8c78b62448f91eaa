"""Latents that are computed once: mean and scale of q(z|x) for every item, to draw posterior samples from.

The encoder is frozen while a translator trains, so re-encoding an image gives the same posterior each time.
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.cache import Cache, Entry, Part
from iin_lightning.data.base import Encoder, LabelledBatch, Source, digest, draw_labelled
from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.seeding import Noise

FORMAT = 1  # raises with every change of how latents are computed
GPU_SHARE = 0.25  # of a GPU's free memory, which a training needs, too
CPU_VALUES = 400_000  # of images that a processor encodes at a time: 130 of 3x32x32

Progress = Callable[[int, int], None]
"""Is told (items done, items in all)."""


class LatentCache(Source):
    """A source of latents z = mean + scale·eps with eps ~ N(0, I), or z = mean in evaluation.

    All tensors are on one device. Drawing is index arithmetic there, for which the host does not wait.

    Mean and scale are float32 (n, N), zero scale for a deterministic encoder; labels long (n, K), whose columns
    ``concepts`` names; ``noise`` is that of training, see `noisy`; ``entry`` is that of the cache they are mapped from.

    Example:
        >>> cache = LatentCache(torch.ones(5, 3), torch.zeros(5, 3), torch.zeros(5, 1).long(), ("digit",))
        >>> cache.draw(torch.tensor([0, 4]), Noise(0)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        mean: Tensor,
        scale: Tensor,
        labels: Tensor,
        concepts: tuple[str, ...],
        noise: float = 0.0,
        entry: Entry | None = None,
    ) -> None:
        self.mean = mean
        self.scale = scale
        self.labels = labels
        self.concepts = concepts
        self.entry = entry
        self.noise = noise
        if noise > 0:
            self.centre = mean.mean(0)
            # Of samples: the variance of the means and the mean variance of the posteriors.
            within = torch.linalg.vector_norm(scale, dim=0).square() / max(len(scale), 1)
            self.spread = (mean.var(0, correction=0) + within).sqrt()

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Latents (B, N): posterior samples, or means without noise, which is of this device."""
        if self.entry is not None:
            self.entry.check()
        mean = self.mean.index_select(0, indices)  # several times faster than mean[indices]
        if noise is None:
            return mean
        scale = self.scale.index_select(0, indices)
        if self.noise == 0:
            return noise.normal(mean.shape).mul_(scale).add_(mean)
        wider = noise.normal(mean.shape).mul_(scale.hypot(self.noise * self.spread)).add_(mean)
        return wider.lerp_(self.centre, 1 - (1 + self.noise**2) ** -0.5)

    def content(self) -> str:
        """A hash of the posteriors."""
        return digest(self.mean.cpu(), self.scale.cpu(), torch.tensor(self.noise))

    def noisy(self, noise: float) -> "LatentCache":
        """The same posteriors with noise for training: ``z' = μ + (z + n σ eps' - μ) / sqrt(1 + n²)``.

        μ and σ are the mean and deviation of each dimension over all samples z, and stay so: a translator that is
        trained on z' gives samples as wide as clean latents. Correlations of dimensions shrink by 1 / (1 + n²).
        Nothing is copied.
        """
        return LatentCache(self.mean, self.scale, self.labels, self.concepts, noise, self.entry)

    def sampled(self, seed: int) -> "LatentCache":
        """One posterior sample of each item, kept: what held-out likelihoods are measured on.

        Means alone would be less spread out than the latents that a translator is trained on.
        """
        z = self.draw(torch.arange(len(self)), Noise(seed, "posterior"))
        return LatentCache(z, torch.zeros_like(z), self.labels, self.concepts)

    def to(self, device: torch.device) -> "LatentCache":
        """The same latents on a device."""
        mean, scale, labels = (tensor.to(device) for tensor in (self.mean, self.scale, self.labels))
        return LatentCache(mean, scale, labels, self.concepts, self.noise)

    def near(self, device: torch.device) -> "LatentCache":
        """On the device, if it is a GPU and they take less than a quarter of its free memory; else where they are."""
        if device.type != "cuda":
            return self
        # An index of pairs has four times as many numbers as there are labels.
        n_bytes = self.mean.nbytes + self.scale.nbytes + 5 * self.labels.nbytes
        free, _ = torch.cuda.mem_get_info(device)
        return self.to(device) if n_bytes < GPU_SHARE * free else self

    @classmethod
    def build(cls, source: Source, encoder: Encoder, **options: Any) -> "LatentCache":
        """Encode a whole source of images into main memory; see ``Encoding``."""
        n = len(source)
        mean, scale = (torch.empty(n, encoder.latent_dim) for _ in range(2))
        labels = torch.empty_like(source.labels)
        first = 0
        for part in Encoding(source, encoder, **options):
            items = slice(first, first := first + len(part.labels))
            mean[items], scale[items], labels[items] = part
        return cls(mean, scale, labels, source.concepts)


class Encoded(NamedTuple):
    """The posteriors of some items, in main memory: float32 (B, N) twice and labels long (B, K)."""

    mean: Tensor
    scale: Tensor
    labels: Tensor


class Encoding:
    """Encodes a source in order each time it is iterated over, without gradients; the encoder moves to ``device``.

    Where images are random beyond dequantisation, as ColorMNIST's views, each view is an item of its own. In training
    what is random in an image (dequantisation) is drawn by ``seed``, once for each item. The encoder runs in evaluation
    mode, and is put back into the mode that it came in. ``workers`` processes draw images while others are encoded.

    Raises:
        NonFiniteError: while iterating: a mean or scale is not finite.
        ShapeError: while iterating: a posterior is not (B, encoder.latent_dim).
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        *,
        training: bool,
        seed: int,
        device: torch.device | str = "cpu",
        batch_size: int = 512,
        workers: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.source = source
        self.encoder = encoder
        self.device = torch.device(device)
        self.workers = workers
        self.progress = progress
        self._batches = _Batches(source, training, seed, batch_size)

    def __len__(self) -> int:
        """The number of items, n."""
        return len(self.source)

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of the columns of the labels."""
        return self.source.concepts

    @property
    def n_bytes(self) -> int:
        """What all posteriors and labels take."""
        return len(self) * (2 * self.encoder.latent_dim * 4 + self.source.labels.shape[1] * 8)

    def __iter__(self) -> Iterator[Encoded]:
        return self.after(0)

    def after(self, done: int) -> Iterator[Encoded]:
        """The posteriors of all items but the first ``done``: the same bits, if a part that was given ended there."""
        on_gpu = self.device.type == "cuda"
        batches = range(done // self._batches.batch_size, len(self._batches))
        loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=batches,
            num_workers=max(0, min(self.workers, len(batches) - 1)),  # a process starts slower than one batch is drawn
            pin_memory=on_gpu,
            # A generator of its own: a loader would draw from the global one, and a run would depend on what is cached.
            generator=torch.Generator(),
        )
        was_training, n = self.encoder.training, len(self)
        self.encoder.to(self.device)
        self.encoder.train(False)
        try:
            for batch, (images, labels) in zip(batches, loader):
                skipped = max(0, done - batch * self._batches.batch_size)
                size = self._part_size(images)
                for part in zip(images[skipped:].split(size), labels[skipped:].split(size)):
                    encoded = self._encode(*part, done)
                    done += len(encoded.labels)
                    if self.progress is not None:
                        self.progress(done, n)
                    yield encoded
        finally:
            self.encoder.train(was_training)

    def _part_size(self, images: Tensor) -> int:
        """How many images are encoded at a time."""
        # Activations of more images are memory that the system clears anew for each batch: three times slower.
        return max(1, CPU_VALUES // images[0].numel()) if self.device.type == "cpu" else len(images)

    def _encode(self, images: Tensor, labels: Tensor, first: int) -> Encoded:
        with torch.no_grad():
            posterior = self.encoder.encode(images.to(self.device, non_blocking=True))
        encoded = Encoded(posterior.mean.float().cpu(), posterior.scale.float().cpu(), labels)
        _check(encoded, f"items {first} to {first + len(labels) - 1}", self.encoder.latent_dim)
        return encoded


class _Batches(Dataset[LabelledBatch]):
    """The images of a source in order, a whole batch an item."""

    def __init__(self, source: Source, training: bool, seed: int, batch_size: int) -> None:
        self.source = source
        self.training = training
        self.seed = seed
        self.batch_size = batch_size

    def __len__(self) -> int:
        return ceil(len(self.source) / self.batch_size)

    def __getitem__(self, batch: int) -> LabelledBatch:
        first = batch * self.batch_size
        items = torch.arange(first, min(first + self.batch_size, len(self.source)))
        return draw_labelled(self.source, items, Noise(self.seed, "cache", first) if self.training else None)


def _check(encoded: Encoded, which: str, latent_dim: int) -> None:
    for name, value in (("means", encoded.mean), ("scales", encoded.scale)):
        if value.shape != (len(encoded.labels), latent_dim):
            raise ShapeError(
                f"The encoder gives {name} of shape {tuple(value.shape)} for {which}, expected is "
                f"{(len(encoded.labels), latent_dim)}: encode() must return flat latents of size latent_dim."
            )
        bad = value.numel() - int(value.isfinite().sum())
        if bad:
            raise NonFiniteError(
                f"Of {value.numel()} {name} that the encoder gives for {which}, {bad} are NaN or infinite: "
                "its weights may be damaged (train it again), or its images are out of the range [-1, 1]."
            )


def kept_latents(cache: Cache, key: str, encoding: Encoding) -> LatentCache:
    """The posteriors of an encoding from a cache, which encodes what is not there yet."""

    def parts(done: int) -> Iterator[Part]:
        for encoded in encoding.after(done):
            done += len(encoded.labels)
            yield Part(encoded._asdict(), done)

    entry = cache.get(key, parts, encoding.n_bytes)
    mean, scale, labels = (entry.tensors[name] for name in Encoded._fields)
    return LatentCache(mean, scale, labels, encoding.concepts, entry=entry)


def fingerprint(source: Source, probes: int = 64) -> str:
    """A hash of a source's labels, of what its images are made of, and of a few images as they come out."""
    items = torch.linspace(0, len(source) - 1, min(probes, len(source))).long()
    parts = (repr(source.concepts), source.content(), digest(source.labels, source.draw(items, None)))
    return sha256("".join(parts).encode()).hexdigest()
