"""Latents on disk: written as they are encoded, mapped into memory when they are opened, checked byte by byte.

A cache is a folder of raw arrays and a record in JSON, which says what they are and what their checksums are. While it
is written it has another name, and its record says how much of the arrays is surely there: encoding goes on from there.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from zlib import crc32

import torch
from torch import Tensor

from iin_lightning.data.disk import Mapped, check_space, check_writable, locked, write_whole
from iin_lightning.data.encoding import Encoded
from iin_lightning.data.latents import LatentCache
from iin_lightning.errors import CheckpointError

log = logging.getLogger(__name__)

FORMAT = 1  # raises with every change of what a cache means, or of how latents are computed
RECORD = "record.json"
SECONDS = 10.0  # of encoding that a killed process costs at most
KEPT = ("The latents", "name another folder, paths.cache=<folder>, or train with latents=online")
TYPES = {"mean": torch.float32, "scale": torch.float32, "labels": torch.long}


class Parts(Protocol):
    """Posteriors that come in parts, as an ``Encoding`` gives them."""

    @property
    def concepts(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def n_bytes(self) -> int: ...  # noqa: D102

    def after(self, done: int) -> Iterator[Encoded]: ...  # noqa: D102


def load_or_build(path: Path, key: str, parts: Parts) -> LatentCache:
    """Open a cache if it is whole and has the key; otherwise encode into it first.

    Parallel jobs, and the processes of one training, wait for the one that encodes, and then map the same file, of
    which the machine keeps one copy in memory. It is not cut up between them: each draws from the whole set.

    Args:
        path: the folder of the cache; the folder around it is made.
        key: says what the latents are computed from: encoder, data and noise.
        parts: the posteriors, of which one part is held at a time.

    Raises:
        ConfigError: there is not enough space.
    """
    with locked(path):
        try:
            return load(path, key)
        except FileNotFoundError:
            pass
        except CheckpointError as error:
            log.warning("%s Its images are encoded again.", error)
        save(path, key, parts)
        return load(path, key)


def save(path: Path, key: str, parts: Parts) -> None:
    """Write a cache; under a temporary name until it is whole, so that no reader meets half of one.

    What an interrupted call has written of the same cache is kept: only the rest is encoded.

    Raises:
        ConfigError: there is not enough space.
    """
    part = path.with_name(f"{path.name}.part")
    check_writable(path.parent, *KEPT)
    shutil.rmtree(path, ignore_errors=True)
    arrays = _kept(part, key)
    n_bytes = parts.n_bytes - sum(_n_bytes(array["shape"], TYPES[name]) for name, array in arrays.items())
    check_space(path.parent, n_bytes, *KEPT)
    part.mkdir(exist_ok=True)
    _write(part, key, parts, arrays)
    part.rename(path)


def load(path: Path, key: str) -> LatentCache:
    """Map a cache into memory, after every byte of it was compared with its checksum.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged, or was computed from something else.
    """
    try:
        record = _read_record(path)
        files = tuple(Mapped.of(path / name) for name in TYPES)
        mean, scale, labels = (_map(path / name, dtype, **record["arrays"][name]) for name, dtype in TYPES.items())
    except (OSError, ValueError, TypeError, LookupError) as error:
        if not path.exists():
            raise FileNotFoundError(f"There are no latents in {path}.") from error
        raise CheckpointError(f"{path} is not a complete cache of latents ({error}).") from error
    if record["key"] != key:
        raise CheckpointError(f"{path} holds the latents of {record['key']!r}, not those of {key!r}.")
    return LatentCache(mean, scale, labels, tuple(record["concepts"]), files=files)


def _kept(part: Path, key: str) -> dict[str, dict[str, Any]]:
    """Shape and checksum of each array as far as it is surely written; nothing else is left in the folder."""
    nothing = {name: {"shape": [0], "checksum": 0} for name in TYPES}
    if not part.exists():
        return nothing
    try:
        record = _read_record(part)
        if record["key"] != key:
            raise ValueError("it holds other latents")
        arrays: dict[str, dict[str, Any]] = record["arrays"]
        for name, dtype in TYPES.items():
            os.truncate(part / name, _n_bytes(arrays[name]["shape"], dtype))  # what was written after the record
            _map(part / name, dtype, **arrays[name])
    except (OSError, ValueError, TypeError, LookupError) as error:
        log.warning("%s is damaged (%s): its images are encoded from the first on.", part, error)
        shutil.rmtree(part)
        return nothing
    return arrays


def _write(folder: Path, key: str, parts: Parts, arrays: dict[str, dict[str, Any]]) -> None:
    """Append the parts that are not written yet, and keep the record up to date, also where this is stopped."""
    # Written, not mapped: the memory that this takes does not grow with the files, and a full disk is an error.
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("ab")) for name in TYPES}

        def keep() -> None:
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
            content = json.dumps({"key": key, "concepts": parts.concepts, "arrays": arrays}, indent=1).encode()
            write_whole(folder / RECORD, b"%d\n%b" % (crc32(content), content))

        keep()
        kept = monotonic()
        try:
            for part in parts.after(arrays["labels"]["shape"][0]):
                longer = {}
                for (name, dtype), rows in zip(TYPES.items(), part):
                    files[name].write(content := rows.to(dtype).contiguous().numpy().data)
                    shape = [arrays[name]["shape"][0] + len(rows), *rows.shape[1:]]
                    longer[name] = {"shape": shape, "checksum": crc32(content, arrays[name]["checksum"])}
                arrays = longer
                if monotonic() - kept > SECONDS:
                    keep()
                    kept = monotonic()
        finally:
            keep()


def _read_record(path: Path) -> dict[str, Any]:
    checksum, _, content = (path / RECORD).read_bytes().partition(b"\n")
    if checksum != b"%d" % crc32(content):
        raise ValueError("its record is not the one that was written")
    record: dict[str, Any] = json.loads(content)
    return record


def _n_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    return prod(shape) * dtype.itemsize


def _map(file: Path, dtype: torch.dtype, shape: Sequence[int], checksum: int) -> Tensor:
    n_bytes = _n_bytes(shape, dtype)
    if file.stat().st_size != n_bytes:
        raise ValueError(f"{file.name} has {file.stat().st_size} bytes instead of {n_bytes}")
    array = torch.from_file(str(file), shared=False, size=prod(shape), dtype=dtype).view(*shape)
    if crc32(array.numpy().data) != checksum:
        raise ValueError(f"the bytes of {file.name} are not those that were written")
    return array
