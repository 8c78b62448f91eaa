"""The authors' autoencoder and classifier: E and G, for a translator of yours or theirs.

Their ActNorm is ``y = scale * (x + loc)``, ours ``exp(log_scale) * (x + loc)``; their decoder's layers are counted
from the image to z, ours from z to the image.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from iin_lightning.convert_from.authors import shape_of, transfer
from iin_lightning.encoders.autoencoder import Autoencoder, Norm, Posterior
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.errors import CheckpointError

FIRST, DENSE = "feature_layers.0.sub_layers", "dense_encode.sub_layers.0"
HEADS = {
    "to_moments": DENSE,
    "to_latent": DENSE,
    "from_latent": "dense_decode.sub_layers.0",
    "head": "classifier",
}
# The first mark decides: batch norm has a weight, too.
MARKS: dict[Norm, str] = {"actnorm": "scale", "batch": "running_mean", "instance": "weight"}


class Sizes(TypedDict):
    """The sizes of a trunk."""

    image_size: int
    channels: int
    width: int
    n_down: int
    norm: Norm


def autoencoder(tensors: Mapping[str, Tensor], posterior: Posterior = "gaussian") -> Autoencoder:
    """Build our autoencoder with the weights of their state dict, whose shapes give every size.

    No tensor says how it was trained, so ``posterior`` does: theirs has log-variances in any case, which of a
    deterministic posterior mean nothing and are left out. Spectral norm divides weights of the discriminator alone,
    which is no part of the state dict of E and G.

    Raises:
        CheckpointError: names or shapes are not those of the authors' autoencoder.
        NonFiniteError: NaN or infinity among the weights.
    """
    latent_dim = shape_of(tensors, f"{HEADS['from_latent']}.weight", 4)[0]
    if posterior == "deterministic":
        dense = {f"{DENSE}.{kind}" for kind in ("weight", "bias")}
        tensors = {name: x.chunk(2)[0] if name in dense else x for name, x in tensors.items()}
    network = Autoencoder(latent_dim=latent_dim, posterior=posterior, **_sizes(tensors))
    transfer(tensors, network, names(network), _layout)
    _restore_signs(network, tensors)
    return network.eval()


def classifier(tensors: Mapping[str, Tensor]) -> Classifier:
    """Build our classifier with the weights of their state dict, whose shapes give every size.

    Raises the errors of ``autoencoder``.
    """
    n_classes, latent_dim = shape_of(tensors, "classifier.weight", 2)
    network = Classifier(n_classes, latent_dim=latent_dim, **_sizes(tensors))
    transfer(tensors, network, names(network), _layout)
    _restore_signs(network, tensors)
    return network.eval()


def names(network: Autoencoder | Classifier) -> dict[str, tuple[str, ...]]:
    """Return the table of both networks: our tensor -> theirs.

    Example:
        >>> table = names(Autoencoder(image_size=16, latent_dim=4, width=4, n_down=3))
        >>> table["decoder.0.1.log_scale"], table["decoder.2.weight"]
        (('decoder_layers.1.sub_layers.1.scale',), ('image_layer.sub_layers.0.weight',))
    """
    return {name: (_theirs(name, network.n_down),) for name in network.state_dict()}


def _theirs(name: str, n_down: int) -> str:
    match name.split("."):
        case ["trunk", "layers", i, j, leaf]:
            place = f"feature_layers.{i}.sub_layers.{j}"
        case ["decoder", i, j, leaf]:
            place = f"decoder_layers.{n_down - 2 - int(i)}.sub_layers.{j}"
        case ["decoder", _, leaf]:
            place = "image_layer.sub_layers.0"
        case [head, leaf]:
            place = HEADS[head]
    return f"{place}.{leaf.replace('log_scale', 'scale')}"


def _sizes(tensors: Mapping[str, Tensor]) -> Sizes:
    width, channels, *_ = shape_of(tensors, f"{FIRST}.0.weight", 4)
    n_down = len({match[0] for name in tensors if (match := re.match(r"feature_layers\.\d+\.", name))})
    # What is left of the image before z; their dense layers are convolutions over all of it.
    out_size = shape_of(tensors, f"{DENSE}.weight", 4)[-1]
    return Sizes(image_size=out_size * 2**n_down, channels=channels, width=width, n_down=n_down, norm=_norm(tensors))


def _norm(tensors: Mapping[str, Tensor]) -> Norm:
    leaves = {match[1] for name in tensors if (match := re.match(r"feature_layers\.\d+\.sub_layers\.1\.(\w+)$", name))}
    for norm, mark in MARKS.items():
        if mark in leaves:
            return norm
    raise CheckpointError(
        f"The checkpoint's feature_layers.*.sub_layers.1 have {', '.join(sorted(leaves)) or 'no tensors'}, so their "
        f"normalisation is none of {', '.join(MARKS)}."
    )


def _layout(name: str, theirs: Sequence[Tensor]) -> Tensor:
    (value,) = theirs
    if name.endswith((".loc", ".log_scale")):
        value = value.flatten()
    if name.endswith(".log_scale"):
        return value.abs().log()
    return value.bool() if name.endswith(".initialized") else value


@torch.no_grad()
def _restore_signs(network: Autoencoder | Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Give convolutions the signs of the scales: scale * (w x + loc) = |scale| * (± w x ± loc).

    Nothing keeps an autoencoder's scale from becoming negative in training, as log|det| keeps a flow's.
    """
    for name, (theirs,) in names(network).items():
        if name.endswith(".log_scale"):
            layer, sign = name.removesuffix(".1.log_scale"), tensors[theirs].flatten().sign()
            out_axis = 1 if layer.startswith("decoder") else 0  # a transposed convolution has (in, out, h, w)
            network.get_parameter(f"{layer}.1.loc").mul_(sign)
            network.get_parameter(f"{layer}.0.weight").mul_(sign.view(-1, 1, 1, 1).transpose(0, out_axis))
