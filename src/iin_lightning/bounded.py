"""Files from elsewhere, read within bounds: no pipe is waited for, and no file makes more memory than it fills."""

import json
import math
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from iin_lightning.errors import CheckpointError

LARGEST_TEXT = 16 << 20  # bytes; a model.json with all names of ImageNet-21k has half a million
MAKE = (
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.eye),
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.arange, torch.linspace),
)
"""Functions by which networks make tensors."""

SPARE = 1 << 24  # values that a network may hold besides those of its file, which it also draws anew


def check_file(path: Path, most: int | None = None) -> Path:
    """Return the path of a regular file of at most so many bytes; a pipe or a device would be waited for.

    Raises:
        CheckpointError: it is another kind of file, or larger.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no regular file, so it is not read: copy the folder again.")
    if most is not None and (size := path.stat().st_size) > most:
        raise CheckpointError(
            f"{path} has {size / 1e6:,.1f} MB, and at most {most / 1e6:,.1f} MB are read of such a file: look at what "
            "fills it, or copy it again from where it was made."
        )
    return path


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """Return the text of a small file.

    Raises:
        CheckpointError: it is no regular file, or too large.
        ValueError: it is not in UTF-8.
    """
    return check_file(path, most).read_text(encoding="utf-8")


def read_json(path: Path, most: int = LARGEST_TEXT) -> Any:
    """Return what a file of json holds.

    Raises:
        CheckpointError: it is no regular file, or too large.
        ValueError: it is no json.
    """
    try:
        return json.loads(read_text(path, most))
    except RecursionError as error:
        raise ValueError("it has too many levels") from error


class Bounded(TorchFunctionMode):
    """A context in which a network is built that must not hold far more values than its file of weights, safetensors.

    Raises:
        CheckpointError: the file is absent or damaged; within the context: the network is larger.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.weights = check_file(weights)
        try:
            with safe_open(str(weights), "pt") as file:
                held = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{weights} is damaged ({error}). Copy the folder again.") from error
        self.left = 8 * held + SPARE  # most values are drawn several times before they are read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what is about to be made."""
        kwargs = kwargs or {}
        if func in MAKE and "out" not in kwargs:
            sized = {key: value for key, value in kwargs.items() if key not in ("device", "generator", "pin_memory")}
            self.left -= func(*args, **sized, device="meta").numel()  # which takes no memory
            if self.left < 0:
                raise CheckpointError(
                    f"{self.weights} holds far fewer numbers than the network that stands beside it would have, so "
                    "that is not built: copy the folder again."
                )
        return func(*args, **kwargs)


def check_finite(module: nn.Module, path: Path) -> None:
    """Check that weights that were read are numbers.

    Raises:
        CheckpointError: a value is NaN, or a parameter infinite.
    """
    parameters = {name for name, _ in module.named_parameters()}
    for name, value in module.state_dict().items():
        broken = value.isnan() if name not in parameters else ~value.isfinite()
        if broken.any():
            raise CheckpointError(
                f"{path} has values in {name} that are not finite, so nothing that the network says would be true: "
                "copy the folder again, or train the network again."
            )


def read_torch(path: Path) -> Any:
    """Return what a file of ``torch.save`` holds, tensors and plain values alone, on the CPU; no code in it is run.

    Raises:
        CheckpointError: it is damaged, holds objects, or is a file of another kind.
    """
    if path.exists():
        check_file(path)
    if (other := _other_kind(path)) is not None:
        raise CheckpointError(f"{path} is {other}.")
    if (broken := _broken_member(path)) is not None:
        raise CheckpointError(
            f"{path} is damaged, {broken} in it: its bytes are not those that were written. Copy or download it again."
        )
    try:
        # Without map_location a file of a GPU cannot be read where there is none.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way
        if (name := re.search(r"GLOBAL (\S+)", str(error))) is not None:
            raise CheckpointError(
                f"{path} holds {name[1]} beside tensors and plain values. Loading it could run code of whoever wrote "
                "the file, so it is not read: save the state dict alone where you trust it."
            ) from error
        raise CheckpointError(
            f"{path} is no file of torch.save, or damaged ({reason(error)}): copy or download it again."
        ) from error


def reason(error: Exception) -> str:
    """Return an error of a file in one line, without torch's advice to read it in a way that runs its code."""
    text = str(error).splitlines() if isinstance(error, RuntimeError | OSError) else []
    return text[0] if text else type(error).__name__


def _other_kind(path: Path) -> str | None:
    """What a file is that users take for one of torch.save, and what to do; None if it may be one."""
    with path.open("rb") as file:
        head = file.read(40)
    if path.suffix == ".onnx":
        return "an ONNX graph, whose weights have other names: save state_dict() of the torch network that it came from"
    if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return (
            f"a text that begins with {head[:24].decode()!r}, such as a page about the file or a pointer of Git LFS: "
            "download the file itself"
        )
    with suppress(BadZipFile, OSError), ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            return (
                "a TorchScript archive, a program with its weights: write these into a file of their own, python -c "
                f"\"import torch; torch.save(torch.jit.load('{path}', 'cpu').state_dict(), 'weights.pth')\", and name "
                "that"
            )
    return None


def _broken_member(path: Path) -> str | None:
    """The part of a file of torch.save whose bytes are not those that were written; torch does not look."""
    if not is_zipfile(path):
        return None
    name = "its list"
    try:
        with ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename
                with archive.open(member) as file:
                    # torch can be told to write no checksums, and then writes zeros.
                    while member.CRC and file.read(1 << 20):
                        pass
    except (BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error):
        return name
    return None
