"""A network from outside becomes E and G: cut at a layer, with what brings images in [-1,1] to what it reads."""

from collections.abc import Sequence

from iin_lightning.encoders.base import Output, Size
from iin_lightning.encoders.preprocess import Preprocess
from iin_lightning.encoders.reductions import reduction_from
from iin_lightning.encoders.split import Split
from iin_lightning.encoders.taps import find
from iin_lightning.encoders.zoo import Outside
from iin_lightning.errors import ConfigError

PREFIX = "model."
"""Of the layers of a network from outside, since it is a part of what builds it again."""


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
) -> Split:
    """Cut a network from outside at a layer; its images are resized and normalised as it was trained.

    Args:
        network: one of ``zoo``, or a ``UserNetwork``.
        layer: a name of the network's own ("layer4"); None: the input of its last layer.
        reduce: None, "pool" or "pca:512", for activations of many numbers; a PCA is yet to be fitted.
        size: that images are resized to, a side or height and width; None: what the network says.
        mean: of the channels, in [0,1]; None: what the network says.
        std: the same.
        output: logits, values or image.
        image_size: of the images that come.
        channels: of the same.

    Raises:
        ConfigError: there is no such layer, or none by default; see ``Split``.

    Example:
        >>> from iin_lightning.encoders.zoo import Torchvision
        >>> network = Torchvision("mobilenet_v3_small", weights=None)
        >>> pretrained(network, size=64, image_size=32).latent_dim
        1024
    """
    if layer is None:
        layer = default_layer(network, output)
    elif layer not in dict(network.model.named_modules()):
        layer = layer.removeprefix(PREFIX)  # as errors of Split and attributes of it write it
    find(network.model, layer)
    return Split(
        network,
        PREFIX + layer,
        image_size=image_size,
        channels=channels,
        output=output,
        preprocess=preprocess_for(network, size, mean, std),
        reduction=reduction_from(reduce),
    )


def default_layer(network: Outside, output: Output = "logits") -> str:
    """Where a network is cut if nobody says where: at the input of its last layer.

    Raises:
        ConfigError: it has none, or makes images.
    """
    if network.default_layer is None or output == "image":
        raise ConfigError(
            f"{type(network.model).__name__} has no last linear layer to be cut at: name a layer with "
            "encoder.layer=<name>. python -m iin_lightning.look encoder=... lists them."
        )
    return network.default_layer


def preprocess_for(
    network: Outside,
    size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Preprocess:
    """What brings images in [-1,1] to what a network reads; what is None is as the network says."""
    return Preprocess(
        network.size if size is None else size,
        network.mean if mean is None else mean,
        network.std if std is None else std,
        network.interpolation,
    )
