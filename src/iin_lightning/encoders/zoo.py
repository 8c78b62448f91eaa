"""Trained networks from outside, to be cut at one of their layers: torchvision's, timm's, or one inside a package.

A model folder holds such a network whole: once its weights are loaded, ``weights`` is None, and what builds it again
needs neither their file nor a download. For a class of your own see ``user_network``.
"""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from iin_lightning.encoders import lite0
from iin_lightning.encoders.base import Size, plain
from iin_lightning.encoders.heads import expose_latent, n_classes_of, set_classes
from iin_lightning.encoders.preprocess import Interpolation
from iin_lightning.encoders.torchvision_weights import DEFAULT, OPTIONS, named_weights, read_named, renamed
from iin_lightning.encoders.weights import load_into, read_weights
from iin_lightning.errors import ConfigError, DataNotFoundError, MissingExtraError, choices

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Outside(nn.Module):
    """A network from outside, in evaluation mode, with what its images must look like.

    Args:
        model: the network. The input of its last layer becomes a layer, too; its weights keep their names.
        n_classes: a number other than the model's gives a fresh last layer; None: that of the model.

    Attributes:
        weights: None: what is here is loaded.
        n_classes: the outputs of the last layer; None if the network has none.
        fresh_head: whether the last layer is another one than the model came with.
        default_layer: the input of the last layer, mostly a pooled representation; None if the network has none.
        size: that it reads, a side or height and width; None: any.
        mean: of its images' channels in [0,1].
        std: of the same.
        interpolation: how it wants images to be resized.

    Raises:
        ConfigError: there is no last layer to replace.
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
        """What the network makes of preprocessed images."""
        return self.model(x)


class Torchvision(Outside):
    """A classifier of torchvision.

    Args:
        name: any of ``torchvision.models.list_models(module=torchvision.models)``.
        weights: "default", another name among torchvision's weights of it ("IMAGENET1K_V1"), the path of a state dict,
            or None: random.
        n_classes: see ``Outside``.

    Raises:
        ConfigError: there is no such network, or it has no last layer to replace.
        DataNotFoundError: the weights are not there and cannot be downloaded.
        CheckpointError: a file holds something else.

    Example:
        >>> network = Torchvision("mobilenet_v3_small", weights=None, n_classes=5)
        >>> network.default_layer, network(torch.zeros(1, 3, 64, 64)).shape
        ('classifier.3.latent', torch.Size([1, 5]))
    """

    def __init__(self, name: str, weights: str | None = DEFAULT, n_classes: int | None = None) -> None:
        check_torchvision(name)
        known = None if weights is None else named_weights(name, weights)
        model = torchvision.models.get_model(name, weights=None, **OPTIONS.get(name, {}))
        if weights is not None:
            state = read_weights(Path(weights)) if known is None else read_named(known)
            load_into(model, renamed(state), weights if known is None else f"{name}, {known.name},")
        super().__init__(model, n_classes)
        self.name = name
        transform = (known or named_weights(name, DEFAULT)).transforms()
        self.size, self.mean, self.std = transform.crop_size[0], tuple(transform.mean), tuple(transform.std)
        self.interpolation = transform.interpolation.value


class Timm(Outside):
    """A classifier of timm; needs ``pip install "iin-lightning[timm]"``.

    Args:
        name: any of ``timm.list_models()``, with a tag of its weights if wanted ("resnet50.a1_in1k").
        weights: "default": timm downloads them; the path of a state dict; or None: random.
        n_classes: see ``Outside``.

    Raises:
        MissingExtraError: timm is not installed.
        ConfigError: there is no such network, or it has no last layer to replace.
        DataNotFoundError: the weights are not there and cannot be downloaded.
        CheckpointError: a file holds something else.
    """

    def __init__(self, name: str, weights: str | None = DEFAULT, n_classes: int | None = None) -> None:
        timm = check_timm(name)
        try:
            model = timm.create_model(name, pretrained=weights == DEFAULT)
        except Exception as error:  # whatever the hub's client says
            raise DataNotFoundError(
                f"timm cannot get the weights of {name} ({str(error).splitlines()[0]}): name a file of them with "
                "encoder.network.weights=<file>, or try the command with encoder.network.weights=null, random ones."
            ) from error
        if weights not in (None, DEFAULT):
            load_into(model, read_weights(Path(str(weights))), str(weights))
        wants = timm.data.resolve_model_data_config(model)
        super().__init__(model, n_classes)
        self.name = name
        self.size, self.mean, self.std = plain(wants["input_size"][1:]), tuple(wants["mean"]), tuple(wants["std"])
        self.interpolation = "bilinear" if wants["interpolation"] == "bilinear" else "bicubic"


class EfficientNetLite0(Outside):
    """EfficientNet-Lite0, trained on ImageNet: its weights come by pip.

    Args:
        weights: "default": ImageNet's; the path of a state dict; or None: random.
        n_classes: see ``Outside``.

    Raises:
        MissingExtraError: the packages are not installed.
        CheckpointError: a file holds something else.

    Example::

        EfficientNetLite0()(torch.zeros(1, 3, 224, 224)).shape  # (1, 1000)
    """

    size, mean, std = lite0.SIZE, lite0.MEAN, lite0.STD

    def __init__(self, weights: str | None = DEFAULT, n_classes: int | None = None) -> None:
        purpose = "encoder=efficientnet_lite0"
        model = lite0.build(purpose)
        if weights is not None:
            path = lite0.weights_file(purpose) if weights == DEFAULT else Path(weights)
            load_into(model, read_weights(path), str(path))
        super().__init__(model, n_classes)


def check_torchvision(name: str) -> None:
    """See that torchvision has a classifier of that name.

    Raises:
        ConfigError: suggests the nearest one.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ConfigError(f"torchvision has no classifier {name!r}; {choices(name, names)}.")


def check_timm(name: str) -> Any:
    """See that timm has a network of that name; gives the package.

    Raises:
        MissingExtraError: it is not installed.
        ConfigError: suggests the nearest names, of the thousand that there are.
    """
    try:
        timm = import_module("timm")
    except ImportError as error:
        raise MissingExtraError("timm", "timm", f"encoder=timm/{name}") from error
    if not timm.is_model(name):
        near = get_close_matches(name.partition(".")[0], timm.list_models(), n=5, cutoff=0.0)
        raise ConfigError(f"timm has no network {name!r}; nearest are: {', '.join(near)} (did you mean {near[0]}?).")
    return timm
