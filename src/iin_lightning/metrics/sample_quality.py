"""Sample quality: how far generated images and reconstructions are from real ones, in an extractor's features.

The same samples get an FID of 5 or of 10 by what is done to the real and the generated images before the extractor sees
them. So a protocol has a name, and every number carries it.

Two distances always stand beside that of samples. *Reconstructions* of the real images themselves are what is usually
published; but samples cannot know these images, so that the floor of whatever samples the same latent is the distance
of *reconstructions of others*, as many images that are not among the real ones.
"""

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch import distributed as dist

from iin_lightning.cache import Cache, Part
from iin_lightning.data.base import Split
from iin_lightning.errors import ConfigError, ShapeError, choices
from iin_lightning.metrics.distances import (
    FeatureBank,
    Gaussian,
    GaussianStatistics,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from iin_lightning.metrics.extractors import Extractor, Inception, dequantize_images, resize_clean, stretch, to_uint8
from iin_lightning.seeding import FIXED, generator

log = logging.getLogger(__name__)

FORMAT = 1  # raises with every change of what is kept of real images
KEPT = ("Statistics of real images", "they are computed again each time")
Kind = Literal["real", "samples", "reconstructions", "reconstructions_of_others"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ELSEWHERE = {"fid": "frechet", "kid": "kernel"}
"""Names of what is measured in other features than Inception's."""
# The activations of more images pass 32 MB, from where on the C library takes fresh memory from the system for every
# layer: an image then takes three times as long.
FEW, MANY = {"cpu": 4}, 64


@dataclass(frozen=True)
class Protocol:
    """How real and generated images are chosen and prepared.

    Attributes:
        count: how many images are generated, and at most how many real ones stand against them.
        preparation: crop and size, in words: what the data must be asked for, since it is not done here.
        dequantised: real images get one u ~ U[0,1) each; see ``dequantize_images``.
        stretched: generated images are stretched to the whole range; see ``stretch``.
        antialiased: images are resized for the extractor by ``resize_clean``, not by the extractor.
        seed: of what is drawn: which real images, their noise, and the subsets of the KID.
    """

    name: str
    count: int = 10_000
    split: Split = "test"
    preparation: str = "as the data gives them"
    dequantised: bool = False
    stretched: bool = False
    antialiased: bool = False
    seed: int = FIXED

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ConfigError(f"count={self.count} images have no covariance: take thousands.")

    def items(self, n: int) -> Tensor:
        """Choose ``count`` of the split's n items for the real images, without replacement, in their order."""
        order = torch.randperm(n, generator=generator(self.seed, "real images", n))
        return order[: self.count].sort().values


PROTOCOLS = {
    preset.name: preset
    for preset in (
        # Esser, Rombach, Ommer 2020 and its code. Theirs draws CelebA's images with replacement, which leaves 7,765
        # distinct ones of 10,000; and it gives noise to the extractor as fractions, of which bytes keep the rounding.
        Protocol(
            "authors2020",
            preparation="data.preset=authors: MNIST, FashionMNIST enlarged bilinearly to 32; CelebA centre 160 to 64 "
            "without antialiasing",
            dequantised=True,
        ),
        # Dai & Wipf 2019, arXiv 1903.05789: the numbers of the paper's Tab. 2.
        Protocol(
            "two_stage",
            preparation="MNIST, FashionMNIST: 28 (ours: padded to 32); CelebA: centre 140 to 64 (data.crop=140)",
            stretched=True,
        ),
        # Parmar, Zhang, Zhu 2022, arXiv 2104.11222.
        Protocol("clean", antialiased=True),
    )
}


def protocol(name: str, **changes: Any) -> Protocol:
    """Return a preset, authors2020, two_stage or clean, with changes of its fields, which provenance then shows.

    Raises:
        ConfigError: the name is not known.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"There is no protocol {name}; {choices(name, PROTOCOLS)}.")
    return replace(PROTOCOLS[name], **changes)


class SampleQuality(nn.Module):
    """Distances of samples and reconstructions from real images, under a protocol that every number carries.

    Numbers are named ``{what}/{kind}``, kind being samples, reconstructions or reconstructions_of_others. In
    Inception's features what is ``fid``, ``kid``, ``precision``, ``recall``; in those of another extractor
    ``frechet_NAME``, ``kernel_NAME``, ``precision_NAME``, ``recall_NAME``, for they compare with no published number.

    ``kernel`` and ``coverage`` ask for the kernel distance, precision and recall, for which features are kept;
    ``batch_size`` images go through the extractor at a time, by default 4 on the processor, 64 elsewhere.
    """

    def __init__(
        self,
        extractor: Extractor,
        protocol: Protocol,
        *,
        kernel: bool = False,
        coverage: bool = False,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.extractor, self.protocol = extractor, protocol
        self.kernel, self.coverage, self.batch_size = kernel, coverage, batch_size
        self.image_shape: list[int] | None = None
        kept = KINDS if kernel or coverage else ()
        self.statistics = nn.ModuleDict({kind: GaussianStatistics(extractor.dim) for kind in KINDS})
        self.banks = nn.ModuleDict({kind: FeatureBank(extractor.dim) for kind in kept})

    @torch.no_grad()
    def update(self, images: Tensor, kind: Kind) -> None:
        """Take a batch of images (B,C,H,W) in [-1,1], C = 1 or 3, of a kind.

        Raises:
            ConfigError: another kind, or images in another range.
            ShapeError: the images have another shape than those before.
        """
        if kind not in KINDS:
            raise ConfigError(f"There is no kind of images {kind!r}; {choices(str(kind), KINDS)}.")
        shape = list(images.shape[1:])
        if self.image_shape not in (None, shape):
            raise ShapeError(
                f"The {kind} are images (C, H, W) = {tuple(shape)}, those before them {self.image_shape}: a distance "
                "between images of two sizes says nothing of either."
            )
        self.image_shape = shape
        parts = images.split(self.batch_size or FEW.get(self._states(kind)[0].device.type, MANY))
        features = torch.cat([self.extractor(self.prepare(part, kind)) for part in parts])
        for state in self._states(kind):
            state.update(features)

    def prepare(self, images: Tensor, kind: Kind) -> Tensor:
        """Return the bytes, uint8 (B,3,H,W), that the extractor is given of images (B,C,H,W) of that kind."""
        if self.protocol.stretched and kind != "real":
            images = stretch(images)
        pixels = to_uint8(images)
        if self.protocol.dequantised and kind == "real":
            pixels = dequantize_images(pixels, self.protocol.seed)
        pixels = pixels.to(self._states(kind)[0].device)
        return pixels if self._clean_size is None else resize_clean(pixels, self._clean_size)

    def compute(self) -> dict[str, float]:
        """Return name -> number; see ``report``, which gives their provenance, too."""
        return {name: record["value"] for name, record in self.report().items()}

    def report(self) -> dict[str, dict[str, Any]]:
        """Return name -> ``value``, and all that it depends on but the model, as plain values. All ranks must call it.

        Raises:
            ConfigError: there are no real images, nothing to compare with them, or a single image of a kind.
        """
        gaussians, features = self._gather()
        real = gaussians.pop("real")
        counts = {kind: gaussian.n for kind, gaussian in gaussians.items()}
        if real.n < 2 or 1 in counts.values() or not any(counts.values()):
            raise ConfigError(
                f"Distances need thousands of real images, and of samples or reconstructions; came: real {real.n}, "
                f"{', '.join(f'{kind} {count}' for kind, count in counts.items())}."
            )
        provenance = self.provenance()
        numbers: dict[str, dict[str, Any]] = {}
        for kind, fake in gaussians.items():
            if fake.n == 0:
                continue
            distance = frechet_distance(fake.mean, fake.covariance, real.mean, real.covariance)
            records: dict[str, dict[str, Any]] = {"fid": {"value": distance.item()}}
            if self.kernel:
                records["kid"] = kernel_distance(features[kind], features["real"], self.protocol.seed)
            if self.coverage:
                records |= precision_recall(features[kind], features["real"])
            for what, record in records.items():
                numbers[f"{self._named(what)}/{kind}"] = record | {"real": real.n, kind: fake.n} | provenance
        return numbers

    def provenance(self) -> dict[str, Any]:
        """Return protocol, extractor and the images' shape (C,H,W), as plain values."""
        size = self._clean_size
        resize = self.extractor.resize if size is None else f"to {size}: bicubic, antialiased"
        extractor = {"name": self.extractor.name, "weights": self.extractor.fingerprint(), "resize": resize}
        return {"protocol": asdict(self.protocol), "extractor": extractor, "image_shape": self.image_shape}

    def reset(self, *, real: bool = True) -> None:
        """Forget what came; ``real=False`` keeps the real images, for the next model to be compared with."""
        for kind in KINDS:
            if real or kind != "real":
                for state in self._states(kind):
                    state.reset()
        if real:
            self.image_shape = None

    def load_real(self, folder: Path, data: str) -> bool:
        """Take the statistics of the real images that ``save_real`` wrote; return whether they lay there whole.

        All ranks must call it. ``data`` is the fingerprint of the real images, see ``data.latents.fingerprint``.
        """
        # The ranks' states are added up, so the first one holds them for all.
        cached = Cache(folder, *KEPT).find(self._key(data)) if _rank() == 0 else None
        found: list[Any] = [None if cached is None else cached.notes]
        if dist.is_initialized():
            dist.broadcast_object_list(found)
        if found[0] is None:
            return False
        self.reset()
        self.image_shape = found[0]["image_shape"]
        if cached is not None:
            for state in self._states("real"):
                state.merge_state(
                    {name: _like(value, cached.tensors[name].clone()) for name, value in state.metric_state.items()}
                )
        return True

    def save_real(self, folder: Path, data: str) -> None:
        """Write the statistics of the real images for ``load_real``. All ranks must call it."""
        tensors: dict[str, Tensor] = {}
        for state in self._states("real"):
            with state.sync_context():
                for name, value in state.metric_state.items():
                    tensors[name] = torch.cat(value) if isinstance(value, list) else value.clone()
        if _rank() == 0:
            part = Part(tensors, 1, {"image_shape": self.image_shape})
            n_bytes = sum(tensor.nbytes for tensor in tensors.values())
            try:
                Cache(folder, *KEPT).get(self._key(data), lambda done: () if done else (part,), n_bytes)
            except ConfigError as error:  # which costs time alone
                log.warning("%s", error)

    @property
    def _clean_size(self) -> int | None:
        return self.extractor.input_size if self.protocol.antialiased else None

    def _states(self, kind: Kind) -> list[Any]:
        return [states[kind] for states in (self.statistics, self.banks) if kind in states]

    def _key(self, data: str) -> str:
        recipe = {name: value for name, value in self.provenance().items() if name != "image_shape"}
        return json.dumps({"format": FORMAT, "data": data, "features": bool(self.banks), **recipe}, sort_keys=True)

    def _named(self, what: str) -> str:
        if self.extractor.name == Inception.name:
            return what
        return f"{ELSEWHERE.get(what, what)}_{self.extractor.name}"

    def _gather(self) -> tuple[dict[Kind, Gaussian], dict[Kind, Tensor]]:
        for kind in KINDS:
            for state in self._states(kind):
                # A rank to which no image fell takes part in the gathering all the same.
                state.update(torch.empty(0, self.extractor.dim, device=state.device))
        gaussians = {kind: self._states(kind)[0].compute() for kind in KINDS}
        return gaussians, {kind: self._states(kind)[1].compute() for kind in KINDS if self.banks}


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _like(state: Tensor | list[Tensor], value: Tensor) -> Tensor | list[Tensor]:
    return [value] if isinstance(state, list) else value.to(state.device)
