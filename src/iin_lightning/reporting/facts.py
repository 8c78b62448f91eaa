"""What a model is and where it comes from, as rows of name and value."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from iin_lightning.disk import in_units
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.frozen import Frozen
from iin_lightning.encoders.split import Split
from iin_lightning.interpreter import Interpreter
from iin_lightning.reporting.cards import Rows
from iin_lightning.serialization import CHECKSUM, WEIGHTS, describe, fingerprint, read_structure


def explained(network: nn.Module) -> nn.Module:
    """The network itself, without what holds it."""
    encoder = network.encoder if isinstance(network, Interpreter) else network
    return encoder.encoder if isinstance(encoder, Frozen) else encoder


def kind(network: nn.Module) -> str:
    """What a network is called in a sentence.

    Example:
        >>> from iin_lightning.encoders.classifier import Classifier
        >>> kind(Classifier(n_classes=2, image_size=16, latent_dim=4, width=8))
        'Classifier'
    """
    inner = explained(network)
    if isinstance(inner, Split):
        inner = inner.network
    return str(getattr(inner, "name", type(inner).__name__))


def lead(network: nn.Module, title: str | None) -> str:
    """What is shown, in a sentence or two.

    Args:
        network: an interpreter, or a network.
        title: of the data, if they are known.
    """
    name, images = kind(network), f" The images: {title.rstrip('.')}." if title else ""
    if not isinstance(network, Interpreter):
        gives = {"image": "decodes them again", "logits": "tells classes from them", "values": "reads values from them"}
        said = gives.get(getattr(network, "output", ""), "goes on from them")
        return f"A network, {name}, that encodes images to latents and {said}; nothing has interpreted it yet.{images}"
    start = f"An invertible network translates the latents of a frozen network, {name}, into"
    if not network.factors.concepts:
        said = "standard normal ones, of which new latents can be drawn"
    else:
        said = (
            f"factors: one for each concept ({', '.join(network.factors.concepts)}) and a residual for all else. A "
            "factor can be exchanged, walked or drawn anew without the others"
        )
    return f"{start} {said}; the network itself is unchanged.{images}"


def model_rows(network: nn.Module, folder: Path) -> Rows:
    """The card of a model.

    Args:
        network: an interpreter, or a network.
        folder: of the model.
    """
    inner = explained(network)
    rows: Rows = [("network", _call(describe(inner)))]
    if isinstance(inner, Encoder):
        rows += [("latent dimensions", f"{inner.latent_dim}"), ("gives", inner.output)]
    rows.append(("parameters of the network", f"{_count(inner):,}"))
    rows.append(("fingerprint of the network", fingerprint(inner)))
    if isinstance(network, Interpreter):
        rows += [
            ("factors", ", ".join(f"{name} {dim}" for name, dim in network.factors.items())),
            ("translator", _call(describe(network.translator))),
            ("parameters of the translator", f"{_count(network.translator):,}"),
            ("fingerprint of the translator", fingerprint(network.translator)),
        ]
    weights = folder / WEIGHTS
    if weights.is_file():
        rows.append(("file", f"{WEIGHTS}, {in_units(weights.stat().st_size)}"))
    if checksum := read_structure(folder).get(CHECKSUM):
        rows.append(("SHA-256 of the file", str(checksum)))
    return rows


def provenance_rows(found: Mapping[str, Any]) -> Rows:
    """What ``provenance.json`` says, of the beginning and of each time that the run went on."""
    rows = _session(found)
    for place, session in enumerate(_list(found.get("resumed")), 1):
        rows += [(f"went on ({place}): {name}", value) for name, value in _session(_dict(session))]
    return rows


def _session(said: Mapping[str, Any]) -> Rows:
    git, hardware = _dict(said.get("git")), _dict(said.get("hardware"))
    gpus = ", ".join(f"{gpu.get('name')}, {gpu.get('memory_gb')} GB" for gpu in map(_dict, _list(hardware.get("gpus"))))
    memory = hardware.get("memory_gb")
    versions = _dict(said.get("versions"))
    rows = [
        ("command", said.get("command")),
        ("overrides", " ".join(map(str, _list(said.get("overrides"))))),
        ("started", said.get("started")),
        ("commit of this code", _commit(git.get("code"))),
        ("commit of the working folder", _commit(git.get("working_folder"))),
        ("Python", said.get("python")),
        ("packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("system", hardware.get("platform")),
        ("processor", _joined(hardware.get("cpu"), hardware.get("cores") and f"{hardware['cores']} cores")),
        ("memory", memory and f"{memory} GB"),
        ("GPUs", gpus and _joined(gpus, hardware.get("cuda") and f"CUDA {hardware['cuda']}")),
        ("processes", said.get("processes")),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _commit(said: Any) -> str:
    commit = _dict(said).get("commit")
    return f"{commit}{', with changes that are not in it' if _dict(said).get('dirty') else ''}" if commit else ""


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _call(description: Mapping[str, Any]) -> str:
    """A description as a line of Python."""
    arguments = []
    for name, value in description["arguments"].items():
        nested = isinstance(value, Mapping) and set(value) == {"class", "arguments"}
        arguments.append(f"{name}={_call(value) if nested else value!r}")
    return f"{description['class'].rpartition(':')[2]}({', '.join(arguments)})"


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# A file of another version, or from elsewhere, may hold anything.
def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else []
