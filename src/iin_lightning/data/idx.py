"""IDX, the file format of MNIST: a magic number, the sizes, and the values, all big-endian.

The magic number is two zero bytes, a type (8: unsigned byte, the only one in MNIST), and the number of sizes.
"""

import gzip
import math
import struct
import zlib
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import Tensor

from iin_lightning.errors import DataNotFoundError

_UNSIGNED_BYTE = 8


def read_idx(path: Path | Traversable) -> Tensor:
    """Read an IDX file of unsigned bytes, plain or compressed with gzip (``.gz``).

    Returns:
        uint8, of the shape that the file states.

    Raises:
        DataNotFoundError: the file is not an IDX file of bytes, or is cut short.
    """
    try:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"cannot be decompressed ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise _damaged(path, f"starts with 0x{content[:4].hex()}, an IDX file of bytes with 0x000008")
    n_sizes = content[3]
    header = 4 + 4 * n_sizes
    if len(content) < header:
        raise _damaged(path, f"ends within its header, after {len(content)} of {header} bytes")
    sizes = struct.unpack(f">{n_sizes}I", content[4:header])
    if len(content) != header + math.prod(sizes):
        came, stated = len(content) - header, "x".join(map(str, sizes))
        raise _damaged(path, f"holds {came} values, its header states {stated} = {math.prod(sizes)}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].reshape(sizes)


def first_values(path: Path | Traversable, count: int) -> bytes:
    """The first values of an IDX file with one size, plain or ``.gz``; fewer if it is damaged, as ``read_idx`` says."""
    try:
        with path.open("rb") as file:
            content = gzip.GzipFile(fileobj=file) if path.name.endswith(".gz") else file
            return content.read(8 + count)[8:]
    except (OSError, EOFError, zlib.error):
        return b""


def _damaged(path: Path | Traversable, what: str) -> DataNotFoundError:
    return DataNotFoundError(f"The file {path} {what}. Delete it and fetch it again.")
