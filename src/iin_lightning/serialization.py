"""Networks on disk: weights as safetensors, structure as json, never a pickle.

A network is described by its class and the arguments of its constructor, which it keeps as attributes of the
same names (scikit-learn's convention). So whoever writes a network of his own need not register it anywhere.
"""

import hashlib
import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from iin_lightning.errors import CheckpointError

FORMAT = 1
WEIGHTS, STRUCTURE = "model.safetensors", "model.json"


def describe(module: nn.Module) -> dict[str, Any]:
    """The class of a network and the arguments that build it again, as plain values.

    Args:
        module: a network whose constructor arguments are attributes of the same names.

    Returns:
        ``{"class": "package.module:Name", "arguments": {...}}``; networks among the arguments are described
        in the same way.

    Raises:
        CheckpointError: an argument is no attribute, or not a plain value.

    Example:
        >>> describe(nn.Identity())
        {'class': 'torch.nn.modules.linear:Identity', 'arguments': {}}
    """
    cls = type(module)
    name = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in name or cls.__module__ == "__main__":
        raise CheckpointError(f"{name} cannot be imported from elsewhere: define the class in a module.")
    arguments: dict[str, Any] = {}
    for key, parameter in inspect.signature(cls.__init__).parameters.items():
        if key == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(module, key):
            raise CheckpointError(
                f"{name} does not keep its constructor argument {key!r} as an attribute, so it cannot be "
                f"rebuilt: add self.{key} = {key} to its constructor."
            )
        value = getattr(module, key)
        arguments[key] = describe(value) if isinstance(value, nn.Module) else value
    try:
        json.dumps(arguments)
    except TypeError as error:
        raise CheckpointError(f"The arguments of {name} are not plain values: {error}.") from error
    return {"class": name, "arguments": arguments}


def build(description: dict[str, Any]) -> nn.Module:
    """Build the network that ``describe`` described, with fresh weights.

    Raises:
        CheckpointError: the class cannot be imported, is no ``nn.Module``, or refuses its arguments.

    Example:
        >>> build({"class": "torch.nn:Identity", "arguments": {}})
        Identity()
    """
    try:
        module_name, _, qualname = description["class"].partition(":")
        cls = import_module(module_name)
        for part in qualname.split("."):
            cls = getattr(cls, part)
        # Only networks are built: a model file from elsewhere must not call any function it likes.
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise CheckpointError(f"{description['class']} is no torch.nn.Module, so it is not built.")
        arguments = {
            key: build(value) if isinstance(value, dict) and set(value) == {"class", "arguments"} else value
            for key, value in description["arguments"].items()
        }
        return cls(**arguments)
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"Cannot build the network {description}: {error}.") from error


def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits that change with any weight, buffer or argument of a network.

    Example:
        >>> fingerprint(nn.Identity()) == fingerprint(nn.Identity())
        True
    """
    digest = hashlib.sha256(json.dumps(describe(module), sort_keys=True).encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save(module: nn.Module, folder: Path, structure: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and ``model.json`` into a folder.

    Args:
        module: the network whose weights are written.
        folder: is made if it does not exist.
        structure: plain values that ``model.json`` holds: what ``describe`` says of the network or its parts, and
            whatever should be known beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_model(module, str(folder / WEIGHTS))
    (folder / STRUCTURE).write_text(json.dumps({"format": FORMAT, **structure}, indent=2) + "\n")


def read_structure(folder: Path) -> dict[str, Any]:
    """What ``model.json`` of a model folder says.

    Raises:
        CheckpointError: it is no model folder, or of a newer format.
    """
    path = Path(folder) / STRUCTURE
    if not path.is_file():
        found = sorted(p.name for p in Path(folder).glob("*"))[:8] if Path(folder).is_dir() else "no such folder"
        raise CheckpointError(f"{folder} is no model folder: it lacks {STRUCTURE} (found: {found}).")
    try:
        structure: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not json: {error}. Was the copy interrupted?") from error
    if structure.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {structure.get('format')!r}, this version reads {FORMAT}: update iin-lightning."
        )
    return structure


def load_weights(module: nn.Module, folder: Path) -> None:
    """Load ``model.safetensors`` of a folder into a network of the same structure.

    Raises:
        CheckpointError: weights are missing, left over, of another shape, or the file is damaged.
    """
    path = Path(folder) / WEIGHTS
    try:
        load_model(module, str(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {error}") from error


def load(folder: Path) -> nn.Module:
    """Build the single network of a model folder and load its weights.

    Raises:
        CheckpointError: see ``read_structure``, ``build`` and ``load_weights``; or it holds no single network.
    """
    structure = read_structure(Path(folder))
    if "network" not in structure:
        raise CheckpointError(f"{folder} holds an interpreter: load it with Interpreter.from_pretrained.")
    module = build(structure["network"])
    load_weights(module, folder)
    return module.eval()


def read_torch(path: Path) -> Any:
    """What a file of ``torch.save`` holds, tensors and plain values alone, on the CPU; no code in it is run.

    Raises:
        CheckpointError: it is damaged, or holds objects.
    """
    try:
        # Without map_location a file of a GPU cannot be read where there is none.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way
        if (name := re.search(r"GLOBAL (\S+)", str(error))) is not None:
            raise CheckpointError(
                f"{path} holds {name[1]} beside tensors and plain values. Loading it could run code of whoever wrote "
                "the file, so it is not read: save the state dict alone where you trust it."
            ) from error
        reason = str(error).splitlines()[0] if isinstance(error, RuntimeError | OSError) else type(error).__name__
        raise CheckpointError(
            f"{path} is no file of torch.save, or damaged ({reason}): copy or download it again."
        ) from error
