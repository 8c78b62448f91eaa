"""The posteriors of all images of a source, batch by batch, so that nobody needs to hold them all."""

from collections.abc import Callable, Iterator
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.data.base import Encoder, LabelledBatch, Source, draw_labelled
from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.seeding import Noise

CPU_VALUES = 400_000  # of images that a processor encodes at a time: 130 of 3x32x32

Progress = Callable[[int, int], None]
"""Is told (items done, items in all)."""


class Encoded(NamedTuple):
    """The posteriors of some items, in main memory.

    Attributes:
        mean: float32 (B, N).
        scale: float32 (B, N), zero for a deterministic encoder.
        labels: long (B, K).
    """

    mean: Tensor
    scale: Tensor
    labels: Tensor


class Encoding:
    """Encodes a source in order each time it is iterated over, without gradients; the encoder moves to ``device``.

    Args:
        source: of n images. Where its images are random beyond dequantisation, as ColorMNIST's views, each view is an
            item of its own.
        encoder: runs in evaluation mode, and is put back into the mode that it came in.
        training: draw what is random in the images (dequantisation), once for each item.
        seed: of that draw.
        device: where to encode.
        batch_size: images encoded at a time.
        workers: processes that draw the images while others are encoded; 0 draws them in between.
        progress: is told after each part how many items of how many are done.

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
