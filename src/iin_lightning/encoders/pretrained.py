"""A network from outside becomes E and G: cut at a layer, with what brings images in [-1,1] to what it reads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from iin_lightning.encoders.base import Output, Size, plain, sides
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.reductions import reduction_from
from iin_lightning.encoders.taps import find
from iin_lightning.encoders.zoo import Interpolation, Outside
from iin_lightning.errors import ConfigError, ShapeError

PREFIX = "model."
"""Of the layers of a network from outside, since it is a part of what builds it again."""

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL turns RGB into grey


class Preprocess(nn.Module):
    """x in [-1,1] -> [0,1] -> resized, if its size is another -> (x - mean) / std, a channel at a time.

    The whole image is resized (bilinear or bicubic, antialiased): nothing is cropped away, since a translator should
    see all that a user sees. A single channel is repeated where the network reads three; of three the luma is taken
    where it reads one. ``mean`` and ``std`` are of each channel that the network reads, in [0,1]; a ``size`` of None
    leaves images as they come.

    Raises:
        ConfigError: mean and std have not as many channels, or a std is not positive.
        ShapeError: when called: images of another number of channels.

    Example:
        >>> preprocess = Preprocess(size=8, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
        >>> preprocess(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 3, 8, 8])
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, size: Size | None, mean: Sequence[float], std: Sequence[float], interpolation: Interpolation = "bilinear"
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ConfigError(
                f"mean={list(mean)} and std={list(std)} must have one number for each channel that the network reads, "
                "those of std above 0."
            )
        self.mean, self.std, self.interpolation = list(mean), list(std), interpolation
        self.size = None if size is None else plain(size)
        # Not persistent: the description holds them.
        self.register_buffer("_mean", torch.tensor(self.mean)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(self.std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) in [-1,1] to what the network reads, (B, len(mean), *size)."""
        if x.shape[1] == 3 and len(self.mean) == 1:
            x = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        if x.shape[1] not in (1, len(self.mean)):
            raise ShapeError(
                f"The network reads {len(self.mean)} channels, and the images have {x.shape[1]}: mean and std have a "
                "number for each channel that it reads (encoder.mean, encoder.std)."
            )
        x = (x + 1) / 2
        if self.size is not None and tuple(x.shape[2:]) != (shape := sides(self.size)):
            x = interpolate(x, shape, mode=self.interpolation, align_corners=False, antialias=True)
            if self.interpolation == "bicubic":  # which overshoots
                x = x.clamp(0, 1)
        return (x - self._mean) / self._std


def pretrained(
    network: Outside,
    *,
    layer: str | None = None,
    reduce: str | None = None,
    size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: Output = "logits",
    image_size: Size = 224,
    channels: int = 3,
) -> Cut:
    """Cut a network from outside at a layer; its images are resized and normalised as it was trained.

    ``layer`` is a name of the network's own ("layer4"), by default the input of its last layer. ``reduce`` is None,
    "pool" or "pca:512", for activations of many numbers; a PCA is yet to be fitted. Images come in ``image_size`` and
    are resized to ``size``; where that, or mean and std of channels in [0,1], is None, the network says it.

    Raises:
        ConfigError: the network has no such layer, or none by default; see ``Cut``.

    Example:
        >>> from iin_lightning.encoders.zoo import Torchvision
        >>> network = Torchvision("mobilenet_v3_small", weights=None)
        >>> pretrained(network, size=64, image_size=32).latent_dim
        1024
    """
    if layer is None:
        layer = default_layer(network, output)
    elif layer not in dict(network.model.named_modules()):
        layer = layer.removeprefix(PREFIX)  # as errors of Cut and attributes of it write it
    find(network.model, layer)
    return Cut(
        network,
        PREFIX + layer,
        image_size=image_size,
        channels=channels,
        output=output,
        preprocess=preprocess_for(network, size, mean, std),
        reduction=reduction_from(reduce),
    )


def default_layer(network: Outside, output: Output = "logits") -> str:
    """Name the input of a network's last layer, where it is cut by default.

    Raises:
        ConfigError: the network has no last layer, or makes images.
    """
    if network.default_layer is None or output == "image":
        raise ConfigError(
            f"{type(network.model).__name__} has no last linear layer to be cut at: name a layer with "
            "encoder.layer=<name>. python -m iin_lightning.look encoder=... lists them."
        )
    return network.default_layer


def preprocess_for(
    network: Outside, size: Size | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Preprocess:
    """Build what brings images in [-1,1] to what a network reads; what is None is as the network says."""
    return Preprocess(
        network.size if size is None else size,
        network.mean if mean is None else mean,
        network.std if std is None else std,
        network.interpolation,
    )
