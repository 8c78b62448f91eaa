"""Networks on disk: weights as safetensors, structure as json, never a pickle.

A network is described by its class and the arguments of its constructor, which it keeps as attributes of the same names
(scikit-learn's convention). So a network of one's own need not be registered; but whoever loads what another user has
saved says that its package is trusted: see ``trusted``.
"""

import hashlib
import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from iin_lightning.bounded import Bounded, check_file, check_finite, read_text
from iin_lightning.errors import CheckpointError, IINError
from iin_lightning.trusted import UNSIGNED, is_own, sign, trusted_code
from iin_lightning.trusted import trust as trust  # noqa: PLC0414  where users look for it

FORMAT = 1
WEIGHTS, STRUCTURE = "model.safetensors", "model.json"
CHECKSUM, SIGNATURE = "weights_sha256", "signature"


def describe(module: nn.Module) -> dict[str, Any]:
    """Return the class of a network and the arguments that build it again, networks among them in the same way.

    Raises:
        CheckpointError: an argument is no attribute of the same name, or not a plain value.

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


def build(description: dict[str, Any], source: str = "The description", *, own: bool = False) -> nn.Module:
    """Build the network that ``describe`` described, with fresh weights; errors name the source.

    What this user has written (``own``) may name any package.

    Raises:
        CheckpointError: the class is not of a trusted package, cannot be imported, is no ``nn.Module``, or refuses its
            arguments.

    Example:
        >>> build({"class": "torch.nn:Identity", "arguments": {}})
        Identity()
    """
    try:
        cls = trusted_code(description["class"], source, own=own)
        # Only networks are built: a model file from elsewhere must not call any function it likes.
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise CheckpointError(f"{source}: {description['class']} is no torch.nn.Module, so it is not built.")
        for argument in getattr(cls, "names_code", ()):
            trusted_code(description["arguments"][argument], source, own=own)
        arguments = {
            key: build(value, source, own=own)
            if isinstance(value, dict) and set(value) == {"class", "arguments"}
            else value
            for key, value in description["arguments"].items()
        }
        return cls(**arguments)
    except IINError:
        raise
    except Exception as error:  # what a constructor says of arguments that are none
        raise CheckpointError(
            f"{source}: cannot build the network {description!r:.400}: {type(error).__name__}: {error!s:.400}."
        ) from error


def fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits that change with any weight, buffer or argument of a network.

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
    """Write the weights of a network to ``model.safetensors`` in a folder, and plain values to ``model.json``.

    The structure says what ``describe`` says of the network or its parts, and whatever should be known beside.

    Raises:
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{WEIGHTS}.part"
    try:
        save_model(module, str(part))
        checksum = _checksum(part)
        # A folder without structure is no model, so that new weights never stand beside an old structure.
        (folder / STRUCTURE).unlink(missing_ok=True)
        part.replace(folder / WEIGHTS)
    except SafetensorError as error:  # which has the system's number in its text alone
        if (said := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1])), str(folder / WEIGHTS)) from error
    finally:
        part.unlink(missing_ok=True)
    whole = {"format": FORMAT, SIGNATURE: UNSIGNED, CHECKSUM: checksum, **structure}
    write_whole(folder / STRUCTURE, sign(json.dumps(whole, indent=2) + "\n"))


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it, so that no reader and no accident meets half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_folder(folder: Path) -> Path:
    """Return where the model of a run folder lies, or the folder itself if it is a model's."""
    return folder / "model" if (folder / "model" / STRUCTURE).is_file() else folder


def read_structure(folder: Path) -> dict[str, Any]:
    """Return what ``model.json`` of a model folder says; under ``signature``, whether this user has written it.

    Raises:
        CheckpointError: it is no model folder, or of a newer format.
    """
    path = Path(folder) / STRUCTURE
    if not path.is_file():
        found = sorted(p.name for p in Path(folder).glob("*"))[:8] if Path(folder).is_dir() else "no such folder"
        raise CheckpointError(f"{folder} is no model folder: it lacks {STRUCTURE} (found: {found}).")
    try:
        structure: dict[str, Any] = json.loads(text := read_text(path))
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:  # no json, or no text at all
        raise CheckpointError(
            f"{path} is not json: {error}. Was the copy interrupted? Copy the folder again."
        ) from error
    if not isinstance(structure, dict):
        raise CheckpointError(f"{path} holds a {type(structure).__name__}, not a network. Copy the folder again.")
    if structure.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {structure.get('format')!r:.40}, this version reads {FORMAT}: update iin-lightning."
        )
    return structure | {SIGNATURE: is_own(text)}


def load_weights(module: nn.Module, folder: Path) -> None:
    """Load ``model.safetensors`` of a folder into a network of the same structure.

    Raises:
        CheckpointError: weights are missing, left over, of another shape, no numbers, or the file is damaged.
    """
    path = check_file(Path(folder) / WEIGHTS)
    if _checksum(path) != read_structure(folder).get(CHECKSUM):
        raise CheckpointError(
            f"{path} is damaged: its bytes are not those that {STRUCTURE} says were written. Copy the folder again, or "
            "train the network again."
        )
    try:
        load_model(module, str(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {error}") from error
    check_finite(module, path)


def load(folder: Path) -> nn.Module:
    """Build the single network of a model folder, or of the run that made it, and load its weights.

    Raises:
        CheckpointError: see ``read_structure``, ``build`` and ``load_weights``; or it holds no single network.
    """
    folder = model_folder(Path(folder))
    structure = read_structure(folder)
    if "network" not in structure:
        raise CheckpointError(
            f"{folder} holds no single network; an interpreter is loaded by Interpreter.from_pretrained."
        )
    with Bounded(folder / WEIGHTS):
        module = build(structure["network"], str(folder / STRUCTURE), own=structure[SIGNATURE])
    load_weights(module, folder)
    return module.eval()
