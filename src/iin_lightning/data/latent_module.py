"""Latents as the training data of a translator: cached once, or encoded again at every step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from iin_lightning.cache import Cache
from iin_lightning.data.base import Encoder, LabelledBatch, Split
from iin_lightning.data.latents import FORMAT, Encoding, LatentCache, Progress, fingerprint, kept_latents
from iin_lightning.data.module import CPU, DataModule, StreamModule
from iin_lightning.data.stream import FixedPairs, FixedSingles, Groups, Pairs, Singles
from iin_lightning.errors import ConfigError
from iin_lightning.factors import Factors, GroupBatch, PairBatch
from iin_lightning.progress import Bar
from iin_lightning.seeding import FIXED, Noise

Batches = Literal["singles", "labelled", "pairs", "groups"]
KEPT = ("The latents", "name another folder, paths.cache=<folder>, or train with latents=online")


class LatentData(StreamModule):
    """Batches of latents z ~ q(z|x) of a data set's images under a frozen encoder.

    They are z (B, N), for the likelihood of Eq. 12; a ``LabelledBatch``, for a classifier on latents; a ``PairBatch``,
    for Eq. 7-9; or in training a ``GroupBatch``. Training draws new posterior samples at every step; validation and
    test use a sample of each image, the same for every seed, so that likelihoods of different translators compare.
    Where data are random beyond dequantisation, as ColorMNIST's views, each view is an item with its own posterior.

    Cached latents are drawn on the training device if that is a GPU with room for them, and otherwise from a file that
    is mapped into memory. Every process of a training maps the same file, or has all latents on its own GPU, since
    each draws from the whole set; the first to come encodes the images, while the others wait.

    Args:
        images: the data set.
        encoder: frozen; used in evaluation mode.
        factors: of pairs and groups.
        batches: "singles", "labelled", "pairs" or "groups"; None: pairs where there are factors, otherwise singles.
        cache: folder in which latents are kept and found again; None encodes training images at each step,
            with new dequantisation noise, and held-out images once.
        cache_key: names the encoder and its weights; latents are reused under the same key and data only.
        encode_batch_size: images encoded at a time for the cache.
        noise: of training batches alone, in standard deviations of each dimension over the training set, or over the
            batch of all processes where there is no cache; at least 0 (`LatentCache.noisy`). It keeps a translator
            from learning a few thousand latents by heart, which are points in N dimensions. All other latents are
            clean.
        device: where images are encoded if there is no trainer to say so.
        **loading: see ``StreamModule``.
    """

    def __init__(
        self,
        images: DataModule,
        encoder: Encoder,
        factors: Factors | None = None,
        *,
        batches: Batches | None = None,
        cache: str | Path | None = None,
        cache_key: str = "",
        encode_batch_size: int = 512,
        noise: float = 0.0,
        device: torch.device = CPU,
        **loading: Any,
    ) -> None:
        if not noise >= 0:
            raise ConfigError(f"latent_noise={noise} must be at least 0: it counts standard deviations.")
        super().__init__(**loading)
        self.images = images
        self.encoder = encoder
        self.factors = factors
        self.batches: Batches = batches or ("singles" if factors is None else "pairs")
        self.cache = None if cache is None else Path(cache)
        self.cache_key = cache_key
        self.encode_batch_size = encode_batch_size
        self.noise = noise
        self.device = device
        self._latents: dict[Split, LatentCache] = {}
        self._near: dict[Split, LatentCache] = {}

    def giving(self, batches: Batches, factors: Factors | None, encoder: Encoder) -> "LatentData":
        """The same latents in other batches, under the same encoder in another wrapping; nothing is encoded again."""
        other = copy(self)
        other.batches, other.factors, other.encoder = batches, factors, encoder
        return other

    def prepare_data(self) -> None:
        """Download the images, if necessary."""
        self.images.prepare_data()

    def setup(self, stage: str) -> None:
        """Encode what the stage needs."""
        if stage == "fit" and self.cache is None:
            self.encoder.to(self._device)
        elif stage == "fit":
            self.latents("train")
        self.latents("test" if stage in ("test", "predict") else "val")

    def latents(self, split: Split) -> LatentCache:
        """The clean posteriors of a split's images; of held-out ones, a sample of each. They are in main memory."""
        if split not in self._latents:
            posterior = self._posterior(split)
            self._latents[split] = posterior if split == "train" else posterior.sampled(FIXED)
        return self._latents[split]

    def train_dataloader(self) -> DataLoader[Any]:
        """Training latents, or the images to encode when there is no cache."""
        source = self._nearby("train") if self.cache is not None else self.images.source("train")
        if self.factors is None or not self._paired:
            singles = Singles(source, self.batch_size, self.seed, **self.ranks)
            return self.train_loader(singles, len(source), self._collate, device=source.device)
        kind = Groups if self.batches == "groups" else Pairs
        batches = kind(source, self.factors, self.batch_size, self.seed, **self.ranks)
        return self.train_loader(batches, len(source), device=source.device)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation latent once."""
        return self._fixed("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test latent once."""
        return self._fixed("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Encode training images on the device when there is no cache."""
        if self.cache is not None or self.trainer is None or not self.trainer.training:
            return batch
        noise = Noise(self.seed, "posterior", self.steps_done(), 0, **self.ranks, device=self._device)
        if isinstance(batch, PairBatch):
            z_a, z_b = self._sample(torch.cat([batch.a, batch.b]), noise).chunk(2)
            return PairBatch(z_a, z_b, batch.shared)
        if isinstance(batch, GroupBatch):
            return GroupBatch(self._sample(batch.x, noise), batch.groups)
        if isinstance(batch, LabelledBatch):
            return LabelledBatch(self._sample(batch.x, noise), batch.labels)
        return self._sample(batch, noise)

    @property
    def _collate(self) -> Callable[[Any], Any] | None:
        return None if self.batches == "labelled" else attrgetter("x")

    @property
    def _paired(self) -> bool:
        return self.batches in ("pairs", "groups")

    def _fixed(self, split: Split) -> DataLoader[Any]:
        source = self._nearby(split)
        if self.factors is None or not self._paired:
            singles = FixedSingles(source, self.eval_batch_size, **self.ranks)
            return self.eval_loader(singles, self._collate, device=source.device)
        pairs = FixedPairs(source, self.factors, self.eval_batch_size, FIXED, **self.ranks)
        return self.eval_loader(pairs, device=source.device)

    def _nearby(self, split: Split) -> LatentCache:
        """The latents where batches are drawn from them."""
        if split not in self._near:
            latents = self.latents(split).near(self._device)
            self._near[split] = latents.noisy(self.noise) if split == "train" else latents
        return self._near[split]

    @property
    def _device(self) -> torch.device:
        return self.device if self.trainer is None else self.trainer.strategy.root_device

    def _sample(self, images: Tensor, noise: Noise) -> Tensor:
        if self.encoder.training:
            self.encoder.train(False)
        with torch.no_grad():
            posterior = self.encoder.encode(images)
            z = posterior.mean + posterior.scale * noise.normal(posterior.mean.shape)
            if self.noise == 0:
                return z
            assert self.trainer is not None
            mean_over_ranks = partial(self.trainer.strategy.reduce, reduce_op="mean")
            centre = mean_over_ranks(z.mean(0))
            spread = mean_over_ranks((z - centre).square().mean(0)).sqrt()
            wider = z + self.noise * spread * noise.normal(z.shape)
            return wider.lerp(centre, 1 - (1 + self.noise**2) ** -0.5)

    def _posterior(self, split: Split) -> LatentCache:
        source = self.images.source(split)
        with self._bar(f"Encoding {split} images") as bar:
            options: dict[str, Any] = {
                "training": split == "train",
                "seed": self.images.seed,  # not that of this module: translators of several seeds share latents
                "device": self._device,
                "batch_size": self.encode_batch_size,
                "workers": self.images.num_workers,
                "progress": bar,
            }
            if self.cache is None:
                return LatentCache.build(source, self.encoder, **options)
            noise = f"noise of seed {self.images.seed}" if split == "train" else "no noise"
            key = f"format {FORMAT}, {self.cache_key}, {split}, {noise}, images {fingerprint(source)}"
            return kept_latents(Cache(self.cache, *KEPT), key, Encoding(source, self.encoder, **options))

    @contextmanager
    def _bar(self, title: str) -> Iterator[Progress]:
        """Of the process that encodes; where each does, of the first."""
        bar = Bar(quiet=self.cache is None and self.ranks["rank"] > 0)
        task = bar.add_task(title)

        def advance(done: int, total: int) -> None:
            bar.start()  # not earlier: workers start before the bar does, whose thread might hold a lock meanwhile
            bar.update(task, completed=done, total=total)

        try:
            yield advance
        finally:
            bar.stop()
