"""Statistics of real images on disk: what is the same for every model that is compared with them.

A file is named after the hash of all that its numbers depend on (data, protocol, extractor, weights), which it also
holds in full; so a changed crop or palette makes another file, and never a stale number.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 1


def write(folder: Path, key: Mapping[str, Any], tensors: Mapping[str, Tensor], **notes: Any) -> Path | None:
    """Write tensors as safetensors, under a temporary name first, so that no reader meets half a file.

    Args:
        folder: is made if it does not exist.
        key: all that the tensors depend on, as plain values.
        tensors: by name.
        notes: further plain values.

    Returns:
        The file; None where it cannot be written, which costs time alone.
    """
    path, text = _locate(folder, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f"{path.name}.", suffix=".part")
    except OSError as error:
        log.warning("%s cannot be written (%s): the real images will be looked at again.", folder, error.strerror)
        return None
    os.close(handle)
    try:
        contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contents, name, metadata={"key": text, "notes": json.dumps(notes)})
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def read(folder: Path, key: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and notes that ``write`` wrote under an equal key; None if there are none, or a damaged file.

    Example:
        >>> read(Path("nowhere"), {"data": "0f3c"}) is None
        True
    """
    path, text = _locate(folder, key)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        log.warning("%s is damaged (%s): the statistics of the real images are computed again.", path, error)
        return None
    return (tensors, json.loads(metadata["notes"])) if metadata.get("key") == text else None


def _locate(folder: Path, key: Mapping[str, Any]) -> tuple[Path, str]:
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return folder / f"{sha256(text.encode()).hexdigest()[:16]}.safetensors", text
