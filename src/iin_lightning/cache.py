"""One cache for all that takes long to make: tensors in a folder that is named after a hash of what they depend on.

An entry has a file of raw values for each tensor, and a record in JSON with shapes and checksums. It is written under
another name, part by part, and renamed when it is whole. The record of an unfinished entry says how much is surely
there, so that the next call goes on from it. A tensor grows in a single file, not in many shards, since it is mapped
into memory as it lies there: all processes of a machine share one copy.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Self
from zlib import crc32

import torch
from torch import Tensor

from iin_lightning.disk import check_space, check_writable, in_units, locked, write_whole
from iin_lightning.errors import ConfigError, ResourceError

log = logging.getLogger(__name__)

FORMAT = 1  # raises with every change of what a folder means
RECORD = "record.json"
SECONDS = 10.0  # of work that a killed process costs at most


class Part(NamedTuple):
    """Rows to append to the tensors of an entry.

    Attributes:
        tensors: by name; the first part says type and shape of each, the following ones add rows.
        done: how many items have been made so far, this part included. An item may give no row.
        notes: plain values to remember.
    """

    tensors: Mapping[str, Tensor]
    done: int
    notes: Mapping[str, Any] = {}


Make = Callable[[int], Iterable[Part]]
"""Number of items that are there -> the parts that follow."""


class Entry:
    """The tensors of a folder, mapped into memory, and the notes beside them; a pickle holds the path alone.

    Attributes:
        tensors: by name.
        notes: plain values.
    """

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self.path = path
        self.made = crc32(json.dumps(record).encode())  # tells it from what another job makes in its place
        self.notes: dict[str, Any] = record["notes"]
        self._files = {path / name: (path / name).stat() for name in record["tensors"]}
        self.tensors = {name: _mapped(path / name, **said) for name, said in record["tensors"].items()}

    @classmethod
    def open(cls, path: Path, made: int | None = None) -> Self:
        """Map what was checked before.

        Raises:
            ResourceError: another job has made the entry again since it was pickled.
        """
        entry = cls(path, _read_record(path))
        if made not in (None, entry.made):
            raise ResourceError(f"{path} was made again by another job: start this command again.")
        return entry

    def check(self) -> None:
        """Raise a ResourceError where a file was cut off: reading the rest would end this process without a word."""
        for path, then in self._files.items():
            try:
                now = path.stat()
            except OSError:  # deleted, which takes nothing away from who has it mapped
                continue
            if now.st_ino == then.st_ino and now.st_size < then.st_size:
                raise ResourceError(
                    f"{path} was cut off while it was read: it has {in_units(now.st_size)} instead of "
                    f"{in_units(then.st_size)}. Start the same command again, which makes the file anew."
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.path, self.made)


class Cache:
    """Entries in a folder.

    Args:
        folder: made when something is kept.
        what: names what is kept, in the plural, for the text of an error.
        cure: what to do instead of making room.

    Example:
        >>> from tempfile import mkdtemp
        >>> cache = Cache(Path(mkdtemp()), "The squares", "compute them again")
        >>> def squares(done):
        ...     for number in range(done, 3):
        ...         yield Part({"square": torch.tensor([number**2])}, number + 1)
        >>> cache.get("squares of 3 numbers", squares, n_bytes=24).tensors["square"].tolist()
        [0, 1, 4]
    """

    def __init__(self, folder: Path, what: str, cure: str) -> None:
        self.folder = folder
        self.what = what
        self.cure = cure

    def path(self, key: str) -> Path:
        """The folder of an entry."""
        return self.folder / sha256(f"{FORMAT} {key}".encode()).hexdigest()[:32]

    def find(self, key: str) -> Entry | None:
        """The entry of a key, after every byte was compared with its checksum; None where it is absent or damaged."""
        path = self.path(key)
        try:
            return Entry(path, _checked(path, key))
        except (OSError, ValueError, TypeError, LookupError) as error:
            if path.exists():
                log.warning("%s is damaged (%s): %s are made again.", path, error, self.what)
            return None

    def get(
        self, key: str, make: Make, n_bytes: int, outdated: Callable[[Mapping[str, Any]], bool] = lambda notes: False
    ) -> Entry:
        """The entry of a key, made first where it is absent or damaged; parallel jobs wait for the one that makes it.

        Args:
            key: says all that the tensors depend on.
            make: gives the parts that are not there yet.
            n_bytes: of all tensors, at most.
            outdated: says by its notes that what was made would be made otherwise now, and so is made again.

        Raises:
            ConfigError: there is not enough space, or the folder cannot be written.
        """
        path = self.path(key)
        with locked(path):
            if (found := self.find(key)) is not None and not outdated(found.notes):
                return found
            check_writable(self.folder, self.what, self.cure)
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                raise ConfigError(f"{path} is damaged, and another user's: have it removed, or {self.cure}.")
            part = path.with_name(f"{path.name}.part")
            record = self._begun(part, key, outdated)
            there = sum(_n_bytes(**said) for said in record["tensors"].values())
            check_space(self.folder, n_bytes - there, self.what, self.cure)
            part.mkdir(exist_ok=True)
            _append(part, record, make)
            part.rename(path)
            return Entry.open(path)

    def _begun(self, part: Path, key: str, outdated: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The record of an unfinished entry; nothing but what it says is left in the folder."""
        new: dict[str, Any] = {"key": key, "tensors": {}, "done": 0, "notes": {}}
        if not part.exists():
            return new
        try:
            for name, said in _read_record(part)["tensors"].items():
                os.truncate(part / name, _n_bytes(**said))  # what was written after the record
            if not outdated((record := _checked(part, key))["notes"]):
                return record
        except (OSError, ValueError, TypeError, LookupError) as error:
            log.warning("%s is damaged (%s): %s are made from the first on.", part, error, self.what)
        shutil.rmtree(part)
        return new


def _append(folder: Path, record: dict[str, Any], make: Make) -> None:
    """Write the parts that are not there yet, and keep the record up to date, also where this is stopped."""
    # Written, not mapped: the memory that this takes does not grow with the files, and a full disk is an error.
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("ab")) for name in record["tensors"]}

        def keep() -> None:
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
            content = json.dumps(record, indent=1).encode()
            write_whole(folder / RECORD, b"%d\n%b" % (crc32(content), content))

        keep()
        kept = monotonic()
        try:
            for part in make(record["done"]):
                longer = {}
                for name, rows in part.tensors.items():
                    if name not in files:
                        files[name] = stack.enter_context((folder / name).open("wb"))
                    content = _bytes(rows)
                    files[name].write(content)
                    longer[name] = _with(rows, content, record["tensors"].get(name))
                record |= {"tensors": longer, "done": part.done, "notes": {**record["notes"], **part.notes}}
                if monotonic() - kept > SECONDS:
                    keep()
                    kept = monotonic()
        finally:
            keep()


def _with(rows: Tensor, content: memoryview, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a record says of a tensor after more rows."""
    if before is None:
        return {"dtype": str(rows.dtype).removeprefix("torch."), "shape": list(rows.shape), "checksum": crc32(content)}
    shape = [before["shape"][0] + len(rows), *before["shape"][1:]]
    return {**before, "shape": shape, "checksum": crc32(content, before["checksum"])}


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _read_record(path: Path) -> dict[str, Any]:
    checksum, _, content = (path / RECORD).read_bytes().partition(b"\n")
    if checksum != b"%d" % crc32(content):
        raise ValueError("its record is not the one that was written")
    record: dict[str, Any] = json.loads(content)
    return record


def _checked(path: Path, key: str) -> dict[str, Any]:
    record = _read_record(path)
    if record["key"] != key:
        raise ValueError(f"it holds {record['key']!r}, not {key!r}")
    for name, said in record["tensors"].items():
        if crc32(_bytes(_mapped(path / name, **said))) != said["checksum"]:
            raise ValueError(f"the bytes of {name} are not those that were written")
    return record


def _n_bytes(dtype: str, shape: Iterable[int], checksum: int = 0) -> int:
    return prod(shape) * getattr(torch, dtype).itemsize


def _mapped(file: Path, dtype: str, shape: Iterable[int], checksum: int = 0) -> Tensor:
    n_bytes, found = _n_bytes(dtype, shape), file.stat().st_size
    if found != n_bytes:
        raise ValueError(f"{file.name} has {found} bytes instead of {n_bytes}")
    if n_bytes == 0:
        return torch.empty(*shape, dtype=getattr(torch, dtype))
    flat = torch.from_file(str(file), shared=False, size=prod(shape), dtype=getattr(torch, dtype))
    return flat.view(*shape) if shape else flat[0]
