"""The command ``look``: a data set's card and sheet, or the layers at which a network can be cut."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from iin_lightning.cli.arguments import carried, user_folder
from iin_lightning.data.module import DataModule
from iin_lightning.data.splits import SPLITS
from iin_lightning.encoders.base import sides
from iin_lightning.encoders.graph import Layer, layers
from iin_lightning.encoders.pretrained import default_layer, preprocess_for
from iin_lightning.encoders.taps import reading
from iin_lightning.encoders.zoo import Outside
from iin_lightning.errors import ConfigError, choices
from iin_lightning.plots.style import save
from iin_lightning.printing import command_line, quiet, show_files, show_next
from iin_lightning.progress import Screen
from iin_lightning.reporting.data_card import data_rows, sheet
from iin_lightning.runs.build import AS_THE_DATA, class_concept
from iin_lightning.runs.locate import uncached

WIDTH = 110  # of the table of layers: names are to be copied, so a narrow screen folds lines


def look(config: DictConfig) -> Path | None:
    """Print the card of the data and draw their sheet; or print the layers of the network that ``encoder`` names.

    Returns:
        The path of the sheet; None for layers.

    Raises:
        ConfigError: A key is out of its range.
    """
    quiet()
    if config.encoder is not None:
        look_at_layers(config)
        return None
    if config.split not in SPLITS:
        raise ConfigError(f"There is no split={config.split}; {choices(config.split, SPLITS)}.")
    if config.images < 1 or config.pairs < 0:
        raise ConfigError(f"images={config.images} must be at least 1, and pairs={config.pairs} at least 0.")
    data: DataModule = instantiate(uncached(config.data))
    figure = sheet(data.source(config.split), data, config.split, config.images, config.pairs, config.seed)
    path = save(figure, Path(config.out) / f"contact_{config.split}.png")
    console = Screen(highlight=False)
    console.print(Text(data.title, style="bold"))
    card = Table.grid(padding=(0, 2))
    card.add_column(no_wrap=True)
    card.add_column()
    for name, value in data_rows(data):
        card.add_row(Text(name), Text(value))
    console.print(card)
    if (frequencies := getattr(data, "frequencies", None)) is not None:
        console.print("\nAttributes of all training images")
        cells = [
            Text(f"{share:6.1%} {name}", style="bold" if name in data.concepts else "")
            for name, share in frequencies().items()
        ]
        console.print(Columns(cells, padding=(0, 2), column_first=True))
    show_files([("sheet", path)], console)
    hydra = HydraConfig.get()
    typed = [override for override in hydra.overrides.task if not override.startswith("data=")]
    arguments = carried([f"data={hydra.runtime.choices['data']}", *typed], user_folder())
    models = ("autoencoder", "sup" if data.concepts else "unsup")
    show_next((("train", *arguments, f"model={model}") for model in models), "Train with", console)
    return path


def look_at_layers(config: DictConfig) -> None:
    """Print the layers of a network, and how to train with it.

    Weights are not read, except those of a user's own network, whose checkpoint may say how it was built.

    Raises:
        ConfigError: The encoder has no layers to choose from.
    """
    encoder = config.encoder
    if "network" not in encoder:
        raise ConfigError(
            f"{encoder._target_.rpartition('.')[2]} is cut at its z of encoder.latent_dim numbers, so it has no layers "
            "to choose from: look at encoder=torchvision/<name>, efficientnet_lite0 or module."
        )
    options: dict[str, int | None] = {} if "target" in encoder.network else {"weights": None}
    if encoder.network.n_classes == AS_THE_DATA:
        data = instantiate(config.data)
        options["n_classes"] = len(data.classes[class_concept(config, data)])
    network: Outside = instantiate(encoder.network, **options)
    preprocess = preprocess_for(network, encoder.size, encoder.get("mean"), encoder.get("std"))
    size = preprocess.size or instantiate(config.data).image_shape[1:]
    image = torch.zeros(1, len(preprocess.mean), *sides(size))
    with reading(image):
        listed = layers(network.model, image)
    output = encoder.get("output", "logits")
    chosen = default_layer(network, output) if network.default_layer and output != "image" else None
    name = OmegaConf.select(encoder, "network.name") or type(network.model).__name__
    console = Screen(highlight=False, width=max(Screen().width, WIDTH))
    title = f"{name}, layers in the order of call, of images {'x'.join(map(str, image.shape[1:]))}"
    console.print(Text(title, style="bold"))
    console.print(_layer_table(listed, chosen))
    advice = (
        "\nName a layer with encoder.layer=<layer>. Where it has many numbers, add encoder.reduce=pool (the mean over "
        "positions) or encoder.reduce=pca:512. A bypassed layer, round which another branch goes, can be read and "
        f"edited beside its image, but not reduced.\n\nTrain with\n  {_command(config, chosen)}"
    )
    console.print(Text(advice), soft_wrap=True)


def _layer_table(listed: Sequence[Layer], chosen: str | None) -> Table:
    """Make a row for each layer: name, shape without the batch, N, and what to know of it."""
    table = Table(box=None, pad_edge=False)
    for title in ("layer", "shape", "N", ""):
        table.add_column(title, justify="right" if title == "N" else "left", no_wrap=True)
    for layer in listed:
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
    """Return the command that trains with this network."""
    hydra = HydraConfig.get()
    typed = [override for override in hydra.overrides.task if not override.startswith(("data=", "encoder="))]
    data = carried([f"data={hydra.runtime.choices['data']}", *typed], user_folder())
    own = [override for override in typed if override.lstrip("+~").startswith("encoder.")]
    layer = "" if chosen is not None or config.encoder.layer is not None else " encoder.layer=<layer>"
    return command_line("train", *data, f"encoder={hydra.runtime.choices['encoder']}", *own, "model=sup") + layer
