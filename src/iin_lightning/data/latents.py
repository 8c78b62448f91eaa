"""Latents that are computed once: mean and scale of q(z|x) for every item, to draw posterior samples from.

The encoder is frozen while a translator trains, so re-encoding an image gives the same posterior each time.
"""

from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from iin_lightning.data.base import Encoder, Source, digest
from iin_lightning.data.disk import Mapped
from iin_lightning.data.encoding import Encoding
from iin_lightning.seeding import Noise

GPU_SHARE = 0.25  # of a GPU's free memory, which a training needs, too


class LatentCache(Source):
    """A source of latents z = mean + scale·eps with eps ~ N(0, I), or z = mean in evaluation.

    All tensors are on one device. Drawing is index arithmetic there, for which the host does not wait.

    Args:
        mean: float32 (n, N).
        scale: float32 (n, N), zero for a deterministic encoder.
        labels: long (n, K).
        concepts: the K names of the columns of ``labels``.
        noise: of training, in standard deviations of each dimension; see `noisy`.
        files: that the tensors are mapped from; they are looked at before each draw.

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
        files: tuple[Mapped, ...] = (),
    ) -> None:
        self.mean = mean
        self.scale = scale
        self.labels = labels
        self.concepts = concepts
        self.files = files
        self.noise = noise
        if noise > 0:
            self.centre = mean.mean(0)
            # Of samples: the variance of the means and the mean variance of the posteriors.
            within = torch.linalg.vector_norm(scale, dim=0).square() / max(len(scale), 1)
            self.spread = (mean.var(0, correction=0) + within).sqrt()

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Latents (B, N): posterior samples, or means without noise, which is of this device."""
        for file in self.files:
            file.check()
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

        Args:
            noise: n, at least 0.
        """
        return LatentCache(self.mean, self.scale, self.labels, self.concepts, noise, self.files)

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
        """Encode a whole source into main memory.

        Args:
            source: of images.
            encoder: runs in evaluation mode, and is put back into the mode that it came in.
            **options: see ``Encoding``.

        Raises:
            NonFiniteError: a mean or scale is not finite.
            ShapeError: a posterior is not (B, encoder.latent_dim).
        """
        n = len(source)
        mean, scale = (torch.empty(n, encoder.latent_dim) for _ in range(2))
        labels = torch.empty_like(source.labels)
        first = 0
        for part in Encoding(source, encoder, **options):
            items = slice(first, first := first + len(part.labels))
            mean[items], scale[items], labels[items] = part
        return cls(mean, scale, labels, source.concepts)


def fingerprint(source: Source, probes: int = 64) -> str:
    """A hash of a source's labels, of what its images are made of, and of some images as they come out.

    Args:
        source: of images.
        probes: how many images to look at, spread evenly over the items.
    """
    items = torch.linspace(0, len(source) - 1, min(probes, len(source))).long()
    parts = (repr(source.concepts), source.content(), digest(source.labels, source.draw(items, None)))
    return sha256("".join(parts).encode()).hexdigest()
