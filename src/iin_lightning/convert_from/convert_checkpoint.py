"""``convert kind=checkpoint``: a file of the authors' training becomes a model folder."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.text import Text

from iin_lightning import serialization
from iin_lightning.convert_from import Checkpoint, Kind, autoencoder, classifier, kind_of, read, translator
from iin_lightning.encoders import Autoencoder, Classifier
from iin_lightning.encoders.base import Encoder, sides
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.interpreter import Interpreter
from iin_lightning.printing import LABEL, argument, command_line, file_line
from iin_lightning.progress import Screen

# Which keys say what a checkpoint of that kind does not.
OPTIONS: dict[Kind, tuple[str, ...]] = {
    "autoencoder": ("posterior",),
    "classifier": (),
    "translator": ("first_stage", "factors"),
}


def checkpoint(config: DictConfig) -> None:
    """Convert the authors' autoencoder, classifier, or translator; the latter with its encoder is an interpreter.

    Raises:
        CheckpointError: it is none of theirs, does not fit the encoder, or ``out`` holds another model.
        ConfigError: a key has no meaning for this kind of network.
        FactorError: the factors do not sum to the latent's dimension.
    """
    source, out = Path(config.source), Path(config.out)
    if (out / serialization.STRUCTURE).exists():
        raise CheckpointError(f"{out} holds a model: say another out=<folder>, or remove that one.")
    if not isinstance(config.factors, DictConfig | None):
        raise ConfigError(f"factors={config.factors} must be names and dimensions, {{digit: 22, residual: 42}} say.")
    found = read(source)
    kind = kind_of(found.tensors)
    for key in (key for other, keys in OPTIONS.items() for key in keys if other != kind):
        if config[key] is not None:
            raise ConfigError(f"{source} is of the authors' {kind}, for which {key}={config[key]} has no meaning.")
    origin = {"kind": kind, "file": source.name, "sha256": found.sha256, "step": found.step}
    if kind == "autoencoder":
        about, use = _encoder(autoencoder(found.tensors, config.posterior or "gaussian"), out, origin)
    elif kind == "classifier":
        about, use = _encoder(classifier(found.tensors), out, origin)
    else:
        about, use = _translator(config, found, out, origin)
    _show(kind, about, use, found, out)


def _encoder(network: Autoencoder | Classifier, out: Path, origin: dict[str, Any]) -> tuple[str, str]:
    serialization.save(network, out, {"network": serialization.describe(network), "origin": origin})
    model = "unsup" if isinstance(network, Autoencoder) else "sup"
    height, width = sides(network.image_size)
    about = (
        f"images {network.channels}x{height}x{width}, latents of {network.latent_dim}, width {network.width}, "
        f"{network.n_down} layers, {network.norm}"
    )
    told = (f"model={model}", argument("first_stage.path", out), f"encoder.latent_dim={network.latent_dim}")
    return about, f"{command_line('train', *told)} data=<its data set>"


def _translator(config: DictConfig, found: Checkpoint, out: Path, origin: dict[str, Any]) -> tuple[str, str]:
    network, factors = translator(found.tensors, None if config.factors is None else dict(config.factors))
    if config.first_stage is not None:
        encoder = serialization.load(Path(config.first_stage))
        if not isinstance(encoder, Encoder):
            raise CheckpointError(
                f"{config.first_stage} holds a {type(encoder).__name__}, which encodes nothing: name another."
            )
        Interpreter(encoder, network, factors).save_pretrained(out, origin=origin)
        use = f"Interpreter.from_pretrained({str(out)!r})"
    else:
        structure = {"network": serialization.describe(network), "factors": dict(factors), "origin": origin}
        serialization.save(network, out, structure)
        load = f"serialization.load({str(out)!r})"
        use = f"Interpreter(encoder, {load}, factors), or first_stage=<folder> for a whole one"
    about = f"latents of {network.dim}, {network.n_blocks} blocks, hidden {network.hidden}, depth {network.depth}"
    return f"{about}, {factors}", use


def _show(kind: Kind, about: str, use: str, found: Checkpoint, out: Path) -> None:
    lines = {
        "network": f"{kind}: {about}",
        "step": "unknown" if found.step is None else f"{found.step:,}",
        "left out": ", ".join(found.rest) or "nothing",
        "folder": str(out),
        "use": use,
    }
    console = Screen(highlight=False)
    for name, text in lines.items():
        console.print(file_line(name, text) if name == "folder" else Text(name.ljust(LABEL) + text), soft_wrap=True)
