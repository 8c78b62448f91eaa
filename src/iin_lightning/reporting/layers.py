"""What ``look encoder=...`` shows: the layers of a network from outside, and which of them it can be cut at."""

from collections.abc import Sequence
from math import prod

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from rich.text import Text

from iin_lightning.cli.arguments import carried, user_folder
from iin_lightning.encoders.base import sides
from iin_lightning.encoders.listing import Layer, layers
from iin_lightning.encoders.pretrained import default_layer, preprocess_for
from iin_lightning.encoders.taps import reading
from iin_lightning.encoders.zoo import Outside
from iin_lightning.errors import ConfigError
from iin_lightning.printing import command_line
from iin_lightning.progress import Screen
from iin_lightning.runs.build import AS_THE_DATA, class_concept

WIDTH = 110


def look_at_layers(config: DictConfig) -> None:
    """Print the layers of the network that ``encoder`` names, and how to train with it.

    Its weights do not matter here and are not read, but for those of a user's own network, whose checkpoint may say how
    it was built.

    Raises:
        ConfigError: the encoder is none that is cut at a layer of the user's choice.
    """
    encoder = config.encoder
    if "network" not in encoder:
        raise ConfigError(
            f"{encoder._target_.rpartition('.')[2]} is cut at its z of encoder.latent_dim numbers, so it has no layers "
            "to choose from: look at encoder=torchvision/<name>, efficientnet_lite0 or module."
        )
    told: dict[str, int | None] = {} if "target" in encoder.network else {"weights": None}
    if encoder.network.n_classes == AS_THE_DATA:
        data = instantiate(config.data)
        told["n_classes"] = len(data.classes[class_concept(config, data)])
    network: Outside = instantiate(encoder.network, **told)
    output = encoder.get("output", "logits")
    preprocess = preprocess_for(network, encoder.size, encoder.get("mean"), encoder.get("std"))
    size = preprocess.size or instantiate(config.data).image_shape[1:]
    image = torch.zeros(1, len(preprocess.mean), *sides(size))
    with reading(image):
        found = layers(network.model, image)
    chosen = default_layer(network, output) if network.default_layer and output != "image" else None
    # Names of layers are to be copied, so a narrow screen folds lines instead of cutting them off.
    console = Screen(highlight=False, width=max(Screen().width, WIDTH))
    of = OmegaConf.select(encoder, "network.name") or type(network.model).__name__
    console.print(
        Text(f"{of}, layers in the order of call, of images {'x'.join(map(str, image.shape[1:]))}", style="bold")
    )
    console.print(layer_table(found, chosen))
    console.print(
        Text(
            "\nName one with encoder.layer=<layer>. Where it has many numbers, add encoder.reduce=pool (the mean over "
            "positions) or encoder.reduce=pca:512. A bypassed one, round which another branch goes, can be read and "
            f"edited beside its image, but not reduced.\n\nTrain with\n  {_command(config, chosen)}"
        ),
        soft_wrap=True,
    )


def layer_table(found: Sequence[Layer], chosen: str | None) -> Table:
    """A row for each layer: name, shape without the batch, N, and what to know of it.

    Args:
        found: in the order of call.
        chosen: the layer that is taken if none is named.
    """
    table = Table(box=None, pad_edge=False)
    for title, justify in (("layer", "left"), ("shape", "left"), ("N", "right"), ("", "left")):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for layer in found:
        shape = "no tensor" if layer.shape is None else "x".join(map(str, layer.shape))
        n = "" if layer.shape is None else f"{prod(layer.shape):,}"
        table.add_row(Text(layer.name), shape, n, _note(layer, chosen), style="bold" if layer.name == chosen else None)
    return table


def _note(layer: Layer, chosen: str | None) -> str:
    if layer.name == chosen:
        return "the default"
    if layer.shape is None:
        return "no place to cut"
    if layer.calls > 1:
        return f"no place to cut: {layer.calls} calls"
    return "" if layer.passes_all else "bypassed"


def _command(config: DictConfig, chosen: str | None) -> str:
    hydra = HydraConfig.get()
    choices = [f"{group}={hydra.runtime.choices[group]}" for group in ("data", "encoder")]
    said = [one for one in hydra.overrides.task if not one.startswith(("data=", "encoder="))]
    more = [one for one in said if one.lstrip("+~").startswith("encoder.")]
    layer = "" if chosen is not None or config.encoder.layer is not None else " encoder.layer=<layer>"
    told = [*carried([], user_folder()), *choices, *carried(said, None), *more, "model=sup"]
    return command_line("train", *told) + layer
