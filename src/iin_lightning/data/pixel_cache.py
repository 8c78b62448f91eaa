"""Images that are decoded once and kept as pixels of the final size, in memory or in a file.

A JPEG takes a hundred times as long to decode as its pixels take to copy.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from math import ceil, prod
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.data.disk import Mapped, check_space, locked
from iin_lightning.data.files import BrokenImages, Listing, PackedPaths, content_key
from iin_lightning.data.framing import BrokenImageError, Framing, read_image
from iin_lightning.data.images import ImageTensor
from iin_lightning.errors import DataNotFoundError
from iin_lightning.progress import Bar
from iin_lightning.seeding import Noise

log = logging.getLogger(__name__)

FORMAT = 1  # raises with every change of what a file of pixels means
CHUNK_BYTES = 1 << 20  # pixels that a worker hands over at a time: little enough for a container's shared memory
PROBES = 64  # images of a file whose bytes are compared before it is trusted


class MappedImages(ImageTensor):
    """Images in a file of raw pixels, which the operating system reads as they are drawn and shares over processes.

    A pickle of it holds the path instead of the pixels.

    Args:
        path: the file.
        shape: (n, C, H, W).
        labels: long (n, K).
        concepts: the K names of the columns of ``labels``.

    Raises:
        DataNotFoundError: the file holds another number of images.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], labels: Tensor, concepts: tuple[str, ...]) -> None:
        if path.stat().st_size != prod(shape):
            raise DataNotFoundError(f"{path} was made again by another job, from other images: start this one again.")
        pixels = torch.from_file(str(path), shared=False, size=prod(shape), dtype=torch.uint8)
        super().__init__(pixels.view(shape), labels, concepts, path.stem)  # a hash of the files names that of pixels
        self.path, self._file = path, Mapped.of(path)

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """See ``ImageTensor``."""
        self._file.check()
        return super().draw(indices, noise)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedImages, (self.path, tuple(self.images.shape), self.labels, self.concepts)


def into_memory(
    listing: Listing,
    concepts: tuple[str, ...],
    framing: Framing,
    broken: BrokenImages,
    *,
    memory: Path | None = None,
    workers: int = 0,
    quiet: bool = False,
) -> ImageTensor:
    """Decode all images of a split into memory; broken ones and their labels are left out.

    Args:
        listing: the files, and their labels (n, K).
        concepts: the K names of the columns of the labels.
        framing: what is kept of an image.
        broken: of these files; keeps account of those that cannot be read.
        memory: see ``content_key``.
        workers: processes that decode; 0 decodes in this one.
        quiet: show no progress bar.

    Raises:
        BrokenImagesError: more images are broken than may be.
    """
    images = torch.empty(len(listing.paths), 3, *framing.shape, dtype=torch.uint8)
    n = 0
    reasons: dict[int, str] = {}
    for pixels, failures in _decode(broken, framing, workers, quiet):
        images[n : n + len(pixels)] = pixels
        n += len(pixels)
        reasons |= failures
    key = content_key(broken.paths, framing, memory, quiet=quiet)
    return ImageTensor(images[:n], _without(listing.labels, reasons), concepts, key)


def onto_disk(
    listing: Listing,
    concepts: tuple[str, ...],
    framing: Framing,
    broken: BrokenImages,
    folder: Path,
    *,
    memory: Path | None = None,
    workers: int = 0,
    quiet: bool = False,
    mend: bool = True,
) -> MappedImages:
    """Decode all images of a split into a file, or find the file that holds them; broken ones are left out.

    The file is named after a hash of the framing and of the bytes of all images: one that is added, removed or changed
    makes another one, and it is found again wherever the images lie. Beside it lies a record in JSON, which is written
    last, so that pixels without a record are half-written; before a file is used, its length and the bytes of 64 images
    that are spread over it are compared with the record, and if they differ it is made again. A change of a few other
    bytes would go unnoticed. It is made again, too, if an image that was broken can be read now, as after a failure of
    a network drive. Parallel jobs wait for the one that decodes.

    Args:
        listing: the files, and their labels (n, K), which are not kept in the file.
        concepts: the K names of the columns of the labels.
        framing: what is kept of an image.
        broken: of these files; keeps account of those that cannot be read.
        folder: where the file is kept; made if it is absent.
        memory: see ``content_key``.
        workers: processes that decode; 0 decodes in this one.
        quiet: show no progress bar.
        mend: see whether broken images can be read now. Processes of one training must not, since one may succeed
            where another fails, and they would train on different sets.

    Raises:
        BrokenImagesError: more images are broken than may be.
        ConfigError: there is not enough space.
    """
    path = folder / f"{content_key(broken.paths, framing, memory, quiet=quiet)}.pixels"
    with locked(path):
        record = _read_record(path)
        if record is None or (mend and _is_mended(record, broken.paths, framing)):
            record = _write(path, framing, broken, workers, quiet)
        else:
            for item, reason in record["broken"].items():
                broken.report(item, reason)
    return MappedImages(path, tuple(record["shape"]), _without(listing.labels, record["broken"]), concepts)


class _Chunks(Dataset[tuple[Tensor, dict[int, str]]]):
    """The files of a split in chunks, decoded."""

    def __init__(self, paths: PackedPaths, framing: Framing) -> None:
        self.paths = paths
        self.framing = framing
        self.length = max(1, CHUNK_BYTES // (3 * prod(framing.shape)))

    def __len__(self) -> int:
        return ceil(len(self.paths) / self.length)

    def __getitem__(self, chunk: int) -> tuple[Tensor, dict[int, str]]:
        pixels, failures = [torch.empty(0, 3, *self.framing.shape, dtype=torch.uint8)], {}
        for item in range(chunk * self.length, min((chunk + 1) * self.length, len(self.paths))):
            try:
                pixels.append(read_image(self.paths[item], self.framing)[None])
            except BrokenImageError as error:
                failures[item] = str(error)
        return torch.cat(pixels), failures


def _decode(
    broken: BrokenImages, framing: Framing, workers: int, quiet: bool
) -> Iterator[tuple[Tensor, dict[int, str]]]:
    """The readable images of one chunk of files after the other, and item -> what is wrong of the others."""
    chunks = _Chunks(broken.paths, framing)
    workers = min(workers, len(chunks) - 1)  # one chunk is quicker decoded than a process is started
    # A generator of its own: a loader would draw from the global one, and a run would depend on what is cached.
    loader = DataLoader(chunks, batch_size=None, num_workers=workers, generator=torch.Generator())
    # Workers start before the bar does, whose thread might hold a lock while they are forked.
    decoded = iter(loader)
    with Bar(quiet=quiet) as bar:
        task = bar.add_task(f"Decoding {broken.split} images", total=len(broken.paths))
        for pixels, failures in decoded:
            for item, reason in failures.items():
                broken.report(item, reason)
            bar.advance(task, len(pixels) + len(failures))
            yield pixels, failures


def _write(path: Path, framing: Framing, broken: BrokenImages, workers: int, quiet: bool) -> dict[str, Any]:
    """Decode into a file, and leave its record beside it; nobody else writes it at the same time."""
    n_bytes = len(broken.paths) * 3 * prod(framing.shape)
    what = f"The pixels of {len(broken.paths)} {broken.split} images"
    check_space(path.parent, n_bytes, what, "let data.cache_dir point to another disk, or set data.cache=none")
    record_path, part = path.with_suffix(".json"), path.with_suffix(".part")
    record_path.unlink(missing_ok=True)
    n = 0
    reasons: dict[int, str] = {}
    try:
        # Written, not mapped: the memory that this takes does not grow with the file.
        with part.open("wb") as file:
            for pixels, failures in _decode(broken, framing, workers, quiet):
                file.write(pixels.numpy().data)
                n += len(pixels)
                reasons |= failures
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    shape = [n, 3, *framing.shape]
    record = {
        "format": FORMAT,
        "framing": asdict(framing),
        "first file": broken.paths[0],
        "shape": shape,
        "broken": reasons,
        "probes": _probe(path, shape),
    }
    part.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(part, record_path)
    return record


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record of a file of pixels, or nothing where the file must be made, for the first time or again."""
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        n_bytes = prod(record["shape"])
        if path.stat().st_size != n_bytes:
            raise ValueError(f"it has {path.stat().st_size} bytes instead of {n_bytes}")
        if _probe(path, record["shape"]) != record["probes"]:
            raise ValueError("its bytes are not those that were written")
        return record | {"broken": {int(item): reason for item, reason in record["broken"].items()}}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        log.warning("%s is damaged (%s): its images are decoded again.", path, error)
        return None


def _is_mended(record: dict[str, Any], paths: PackedPaths, framing: Framing) -> bool:
    """Whether an image that was broken when the record was written can be read now."""
    for item in record["broken"]:
        try:
            read_image(paths[item], framing)
        except BrokenImageError:
            continue
        log.warning("%s was broken and can be read now: the images are decoded again.", paths[item])
        return True
    return False


def _probe(path: Path, shape: list[int]) -> int:
    n, length = shape[0], prod(shape[1:])
    code = 0
    with path.open("rb") as file:
        for item in torch.linspace(0, n - 1, min(PROBES, n)).long().tolist():
            file.seek(item * length)
            code = crc32(file.read(length), code)
    return code


def _without(labels: Tensor, items: Iterable[int]) -> Tensor:
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[list(items)] = False
    return labels[kept]
