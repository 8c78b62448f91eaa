"""Feature extractors: bytes of images to the features that sample quality is measured in; and images to bytes.

Each is uint8 (B,3,H,W) -> float32 (B,D), resizes and normalises by itself, and never trains. Real, generated and
reconstructed images all become bytes by `to_uint8`, also those that are written to disk: a truncation instead of a
rounding, or another range on one side, moves a Frechet distance by more than what papers argue about.
"""

import pickle
from abc import ABC, abstractmethod
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from iin_lightning.bounded import read_torch, reason
from iin_lightning.data.images import to_range
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.frozen import Frozen
from iin_lightning.encoders.zoo import LITE0_CHANNELS, LITE0_SIZE, lite0, lite0_weights
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, NonFiniteError, ShapeError, choices
from iin_lightning.layers.held import Held
from iin_lightning.seeding import generator

LIMIT = 2.0
"""|x| beyond which images are not in [-1, 1] with a little overshoot, but in another range."""


def to_uint8(images: Tensor) -> Tensor:
    """Round images x (B,C,H,W) in [-1,1] to bytes round((x + 1) 127.5), uint8 (B,3,H,W), clamped; grey becomes RGB.

    Raises:
        ConfigError: another type, or values far outside of [-1,1]. Images in [0,1] cannot be told from bright ones.
        NonFiniteError: NaN or infinity among them.
        ShapeError: another number of dimensions, or of channels than 1 and 3.
    """
    if not images.is_floating_point():
        raise ConfigError(
            f"to_uint8 expects floating-point images in [-1, 1], got {images.dtype}: map bytes v to v / 127.5 - 1."
        )
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"to_uint8 expects images (B, C, H, W) with C = 1 or 3, got {tuple(images.shape)}.")
    images = images.detach().float()
    if images.numel():
        low, high = images.aminmax()
        if not torch.isfinite(high - low):
            bad = int((~images.isfinite()).flatten(1).any(1).sum())
            raise NonFiniteError(f"{bad} of {len(images)} images have NaN or infinite pixels: the decoder is at fault.")
        if max(-low, high) > LIMIT:
            raise ConfigError(
                f"to_uint8 expects images in [-1, 1], got values from {low.item():.4g} to {high.item():.4g}: "
                "map bytes v to v / 127.5 - 1."
            )
    pixels = images.add(1).mul_(127.5).round_().clamp_(0, 255).byte()
    return pixels.expand(-1, 3, -1, -1).contiguous()


def stretch(images: Tensor) -> Tensor:
    """Stretch each image to [-1, 1]: 2 (x - min x) / (max x - min x) - 1; a constant image is left alone.

    Dai & Wipf (2019, arXiv 1903.05789) do so with generated images, and not with real ones, before they take the FID.
    """
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, 2 * (images - low) / (high - low) - 1, images)


def dequantize_images(pixels: Tensor, seed: int) -> Tensor:
    """Round bytes v (B,3,H,W) to round(v + u), one u ~ U[0, 1) an image: the authors' dequantised real images.

    Their data add a number to all pixels of an image; so half of the real images are one grey level brighter. u is a
    function of the seed and of the image alone: neither order nor batches nor ranks change it.
    """
    keys = [blake2b(image.numpy().tobytes(), digest_size=16).hexdigest() for image in pixels.cpu()]
    draws = [torch.rand((), generator=generator(seed, "dequantize", key)) for key in keys]
    brighter = torch.tensor([bool(u >= 0.5) for u in draws], device=pixels.device)
    return pixels + (brighter[:, None, None, None] & (pixels < 255)).byte()


def resize_clean(pixels: Tensor, size: int) -> Tensor:
    """Resize bytes (B,3,H,W) as a signal should be: bicubic, averaged over all pixels when shrinking, rounded to bytes.

    Source: Parmar, Zhang, Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022, arXiv
    2104.11222; their code leaves out the rounding.
    """
    resized = interpolate(pixels.float(), (size, size), mode="bicubic", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).byte()


class Extractor(Held, ABC):
    """Features of images, in evaluation mode for ever and without gradients.

    ``name`` is the word that users type, and that numbers are named after; ``input_size`` the height and width that
    images are resized to, None if they are taken as they come; ``resize`` says how, in words.
    """

    name: ClassVar[str]
    dim: int
    input_size: ClassVar[int | None]
    resize: ClassVar[str]

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """Return features (B,D) of uint8 (B,3,H,W)."""

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Return features, float32 (B,D), of images, uint8 (B,3,H,W)."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ShapeError(
                f"Extractors expect uint8 images (B, 3, H, W), got {pixels.dtype} of shape {tuple(pixels.shape)}: "
                "use metrics.extractors.to_uint8."
            )
        self.hold()
        # A trainer of half precision must not change what is measured.
        with torch.autocast(pixels.device.type, enabled=False):
            return self.features(pixels).float()

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the name and with any weight."""
        digest = sha256(f"{self.name} {self.dim} {self.resize}".encode())
        for key, value in sorted(self.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class Inception(Extractor):
    """Inception-v3 of the FID, its last pooling layer: torch-fidelity's port of the network from 2015-12-05.

    Source: Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, arXiv 1706.08500. Without the
    file of its ``weights`` torch-fidelity finds it in torch's cache, or downloads it.
    """

    name, dim, input_size = "inception", 2048, 299
    resize = "to 299 like TensorFlow 1: bilinear, no antialiasing"

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        self.network = _load_inception(None if weights is None else Path(weights))

    def features(self, pixels: Tensor) -> Tensor:
        """See ``Extractor``."""
        (features,) = self.network(pixels)
        return features


def _load_inception(weights: Path | None) -> nn.Module:
    file = URL_INCEPTION_V3.rpartition("/")[2]
    place = Path(torch.hub.get_dir()) / "checkpoints" / file
    if weights is not None and not weights.is_file():
        raise DataNotFoundError(f"There is no file {weights}: give weights=<file>, {file} from {URL_INCEPTION_V3}.")
    here = place if weights is None and place.is_file() else weights
    try:
        if here is not None:
            # torch-fidelity would run whatever code the pickle holds; this refuses to.
            torch.load(here, map_location="cpu", weights_only=True)
        return FeatureExtractorInceptionV3(Inception.name, ["2048"], feature_extractor_weights_path=here)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(
            f"{here or place} does not hold Inception's weights ({reason(error)}): delete it, and take {file} from "
            f"{URL_INCEPTION_V3}."
        ) from error
    except OSError as error:  # no network
        raise DataNotFoundError(
            f"The FID needs Inception's weights, and they cannot be downloaded ({error}): download {URL_INCEPTION_V3} "
            f"elsewhere, and put it at {place} or name it with weights=<file>. Without them, "
            f"extractor={EfficientNetLite0.name} gives a Frechet distance of another name."
        ) from error


class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0, trained on ImageNet, its pooled features before the classifier: the weights come by pip.

    A Frechet distance in these features is no FID and compares with none.
    """

    name, dim, input_size = "efficientnet_lite0", LITE0_CHANNELS, LITE0_SIZE
    resize = "to 224: bilinear, antialiased"

    def __init__(self) -> None:
        super().__init__()
        purpose = f"extractor={self.name}"
        network: Any = lite0(purpose)
        network.load_state_dict(read_torch(lite0_weights(purpose)))
        self.network: Any = network.eval().requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        """See ``Extractor``."""
        x = interpolate(pixels.float(), (LITE0_SIZE, LITE0_SIZE), mode="bilinear", align_corners=False, antialias=True)
        # What the mean and std of EfficientNetLite0 say, of bytes: exactly as these features were always computed.
        return self.network.extract_features((x - 127) / 128).mean((2, 3))


class ClassifierLatents(Extractor):
    """Latents z of a classifier of the project's own, which knows the domain: Inception has seen no digits.

    Images have the size of the classifier's; if it reads one channel, RGB is averaged.
    """

    name, input_size = "classifier", None
    resize = "none"

    def __init__(self, classifier: Encoder) -> None:
        super().__init__()
        self.network = classifier if isinstance(classifier, Frozen) else Frozen(classifier)
        self.dim = classifier.latent_dim
        self.channels: int = getattr(self.network.encoder, "channels", 3)

    def features(self, pixels: Tensor) -> Tensor:
        """See ``Extractor``."""
        x = to_range(pixels)
        return self.network.encode(x.mean(1, keepdim=True) if self.channels == 1 else x).mean


EXTRACTORS = (Inception.name, EfficientNetLite0.name, ClassifierLatents.name)


def build_extractor(name: str, *, weights: str | Path | None = None, classifier: Encoder | None = None) -> Extractor:
    """Build the extractor of a name: inception, efficientnet_lite0 or classifier."""
    if name == Inception.name:
        return Inception(weights)
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if name != ClassifierLatents.name:
        raise ConfigError(f"There is no extractor {name}; {choices(name, EXTRACTORS)}.")
    if classifier is None:
        raise ConfigError(
            "extractor=classifier needs a trained classifier: give classifier=, or choose another extractor."
        )
    return ClassifierLatents(classifier)
