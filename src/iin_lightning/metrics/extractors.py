"""Feature extractors: bytes of images to the features that sample quality is measured in.

Each is uint8 (B,3,H,W) -> float32 (B,D), resizes and normalises by itself, and never trains.
"""

import pickle
from abc import ABC, abstractmethod
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from iin_lightning.bounded import read_torch, reason
from iin_lightning.data.images import to_range
from iin_lightning.encoders import lite0
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.frozen import Frozen
from iin_lightning.errors import (
    CheckpointError,
    ConfigError,
    DataNotFoundError,
    ShapeError,
    choices,
)
from iin_lightning.layers.held import Held


class Extractor(Held, ABC):
    """Features of images, in evaluation mode for ever and without gradients.

    Attributes:
        name: as the user types it, and as numbers are named after it.
        dim: D.
        input_size: height and width that images are resized to; None if they are taken as they come.
        resize: how, in words.
    """

    name: ClassVar[str]
    dim: int
    input_size: ClassVar[int | None]
    resize: ClassVar[str]

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """Features (B,D) of uint8 (B,3,H,W)."""

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 (B,D), of images, uint8 (B,3,H,W).

        Raises:
            ShapeError: something else came.
        """
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ShapeError(
                f"Extractors expect uint8 images (B, 3, H, W), got {pixels.dtype} of shape {tuple(pixels.shape)}: "
                "use metrics.pixels.to_uint8."
            )
        self.hold()
        # A trainer of half precision must not change what is measured.
        with torch.autocast(pixels.device.type, enabled=False):
            return self.features(pixels).float()

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the name and with any weight."""
        digest = sha256(f"{self.name} {self.dim} {self.resize}".encode())
        for key, value in sorted(self.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class Inception(Extractor):
    """The Inception-v3 of the FID, its last pooling layer: torch-fidelity's port of the network from 2015-12-05.

    Source: Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, arXiv 1706.08500.

    Args:
        weights: the file of its weights; None: torch-fidelity finds it in torch's cache, or downloads it.

    Raises:
        DataNotFoundError: the file is not there and cannot be downloaded.
        CheckpointError: the file holds something else.

    Example::

        Inception(weights="/data/weights-inception-2015-12-05-6726825d.pth")
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
        raise DataNotFoundError(f"There is no file {weights}: weights= names {file}, from {URL_INCEPTION_V3}.")
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

    Raises:
        MissingExtraError: the packages are not installed.

    Example::

        EfficientNetLite0()(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape  # (2, 1280)
    """

    name, dim, input_size = "efficientnet_lite0", lite0.CHANNELS, lite0.SIZE
    resize = "to 224: bilinear, antialiased"

    def __init__(self) -> None:
        super().__init__()
        purpose = f"extractor={self.name}"
        network: Any = lite0.build(purpose)
        network.load_state_dict(read_torch(lite0.weights_file(purpose)))
        self.network: Any = network.eval().requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        """See ``Extractor``."""
        x = interpolate(pixels.float(), (lite0.SIZE, lite0.SIZE), mode="bilinear", align_corners=False, antialias=True)
        # What lite0.MEAN and STD say, of bytes: exactly as these features were always computed.
        return self.network.extract_features((x - 127) / 128).mean((2, 3))


class ClassifierLatents(Extractor):
    """The latents z of a classifier of the project's own, which knows the domain: Inception has seen no digits.

    Args:
        classifier: its images' size must be that of the images that come; if it reads one channel, RGB is averaged.

    Example:
        >>> from iin_lightning.encoders.classifier import Classifier
        >>> extractor = ClassifierLatents(Classifier(n_classes=10, image_size=16, channels=1, latent_dim=8, width=4))
        >>> extractor(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape
        torch.Size([2, 8])
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
    """The extractor of a name.

    Args:
        name: inception, efficientnet_lite0 or classifier.
        weights: of inception; see there.
        classifier: of classifier; see there.

    Raises:
        ConfigError: there is none of that name, or it lacks its classifier.

    Example:
        >>> build_extractor("incepton")
        Traceback (most recent call last):
            ...
        iin_lightning.errors.ConfigError: There is no extractor incepton; allowed are: inception, ...
    """
    if name == Inception.name:
        return Inception(weights)
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if name != ClassifierLatents.name:
        raise ConfigError(f"There is no extractor {name}; {choices(name, EXTRACTORS)}.")
    if classifier is None:
        raise ConfigError("extractor=classifier needs a trained classifier: give one, or choose another extractor.")
    return ClassifierLatents(classifier)
