"""Latents that are computed once: mean and scale of q(z|x) for every item, to draw posterior samples from.

The encoder is frozen while a translator trains, so re-encoding an image gives the same posterior each time.
"""

import json
import os
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from iin_lightning.data.base import Encoder, Posterior, Source, digest
from iin_lightning.errors import CheckpointError, NonFiniteError, ShapeError
from iin_lightning.seeding import generator

Progress = Callable[[int, int], None]
"""Is told (items done, items in all)."""


class LatentCache(Source):
    """A source of latents z = mean + scale·eps with eps ~ N(0, I), or z = mean in evaluation.

    Args:
        mean: float32 (n, N).
        scale: float32 (n, N), zero for a deterministic encoder.
        labels: long (n, K).
        concepts: the K names of the columns of ``labels``.

    Example:
        >>> cache = LatentCache(torch.ones(5, 3), torch.zeros(5, 3), torch.zeros(5, 1).long(), ("digit",))
        >>> cache.draw(torch.tensor([0, 4]), torch.Generator()).shape
        torch.Size([2, 3])
    """

    def __init__(self, mean: Tensor, scale: Tensor, labels: Tensor, concepts: tuple[str, ...]) -> None:
        self.mean = mean
        self.scale = scale
        self.labels = labels
        self.concepts = concepts

    def draw(self, indices: Tensor, generator: torch.Generator | None) -> Tensor:
        """Latents (B, N): posterior samples, or means without a generator."""
        mean = self.mean[indices]
        if generator is None:
            return mean
        return torch.randn(mean.shape, generator=generator).mul_(self.scale[indices]).add_(mean)

    def content(self) -> str:
        """A hash of the posteriors."""
        return digest(self.mean, self.scale)

    def blurred(self, std: Tensor) -> "LatentCache":
        """The same means under wider posteriors: z = mean + scale·eps + std·eps'.

        Args:
            std: (N,), at least 0.
        """
        return LatentCache(self.mean, self.scale.hypot(std), self.labels, self.concepts)

    def sampled(self, seed: int) -> "LatentCache":
        """One posterior sample of each item, kept: what held-out likelihoods are measured on.

        Means alone would be less spread out than the latents that a translator is trained on.
        """
        z = self.draw(torch.arange(len(self)), generator(seed, "posterior"))
        return LatentCache(z, torch.zeros_like(z), self.labels, self.concepts)

    @classmethod
    def build(
        cls,
        source: Source,
        encoder: Encoder,
        *,
        training: bool,
        seed: int,
        device: torch.device | str = "cpu",
        batch_size: int = 512,
        progress: Progress | None = None,
    ) -> "LatentCache":
        """Encode a whole source, batch by batch and without gradients; the encoder is moved to ``device``.

        Args:
            source: of images.
            encoder: runs in evaluation mode, and is put back into the mode that it came in.
            training: draw what is random in the images (dequantisation), once for each item.
            seed: of that draw.
            device: where to encode; the cache itself stays in main memory.
            batch_size: images encoded at a time.
            progress: is told after each batch how many items of how many are done.

        Raises:
            NonFiniteError: a mean or scale is not finite.
            ShapeError: a posterior is not (B, encoder.latent_dim).
        """
        device = torch.device(device)
        n, was_training = len(source), encoder.training
        mean, scale = (torch.empty(n, encoder.latent_dim) for _ in range(2))
        encoder.to(device)
        encoder.train(False)
        try:
            for first in range(0, n, batch_size):
                items = torch.arange(first, min(first + batch_size, n))
                images = source.draw(items, generator(seed, "cache", first) if training else None)
                with torch.no_grad():
                    posterior = encoder.encode(images.to(device))
                _check(posterior, items, encoder.latent_dim)
                mean[items], scale[items] = posterior.mean.float().cpu(), posterior.scale.float().cpu()
                if progress is not None:
                    progress(int(items[-1]) + 1, n)
        finally:
            encoder.train(was_training)
        return cls(mean, scale, source.drawn_labels(torch.arange(n)), source.concepts)

    def save(self, path: Path, key: str) -> None:
        """Write to a safetensors file under a temporary name first, so that no reader meets half a file.

        Args:
            path: the file; its folder is made.
            key: says what the latents were computed from.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"mean": self.mean, "scale": self.scale, "labels": self.labels}
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
        os.close(handle)
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                name,
                metadata={"key": key, "concepts": json.dumps(self.concepts)},
            )
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, key: str) -> "LatentCache":
        """Read a file that ``save`` wrote under the same key.

        Raises:
            CheckpointError: the file is absent or damaged, or was computed from something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in ("mean", "scale", "labels")}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} is not a complete file of latents ({error}): delete it.") from error
        if metadata.get("key") != key:
            raise CheckpointError(
                f"{path} holds the latents of {metadata.get('key')!r}, not those of {key!r}: delete it."
            )
        return cls(**tensors, concepts=tuple(json.loads(metadata["concepts"])))

    @classmethod
    def load_or_build(cls, path: Path, key: str, build: Callable[[], "LatentCache"]) -> "LatentCache":
        """Load the file if it is whole and has the key; otherwise build and save.

        A lock beside the file makes parallel jobs wait for the one that builds.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            try:
                return cls.load(path, key)
            except CheckpointError:
                cache = build()
                cache.save(path, key)
                return cache


def fingerprint(source: Source, probes: int = 64) -> str:
    """A hash of a source's labels, of what its images are made of, and of some images as they come out.

    Args:
        source: of images.
        probes: how many images to look at, spread evenly over the items.
    """
    items = torch.linspace(0, len(source) - 1, min(probes, len(source))).long()
    parts = (repr(source.concepts), source.content(), digest(source.labels, source.draw(items, None)))
    return sha256("".join(parts).encode()).hexdigest()


def _check(posterior: Posterior, items: Tensor, latent_dim: int) -> None:
    which = f"items {int(items[0])} to {int(items[-1])}"
    for name, value in (("means", posterior.mean), ("scales", posterior.scale)):
        if value.shape != (len(items), latent_dim):
            raise ShapeError(
                f"The encoder gives {name} of shape {tuple(value.shape)} for {which}, expected is "
                f"{(len(items), latent_dim)}: encode() must return flat latents of size latent_dim."
            )
        bad = value.numel() - int(value.isfinite().sum())
        if bad:
            raise NonFiniteError(
                f"Of {value.numel()} {name} that the encoder gives for {which}, {bad} are NaN or infinite: "
                "its weights may be damaged (train it again), or its images are out of the range [-1, 1]."
            )
