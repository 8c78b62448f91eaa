"""Maps of factors: held-out images as points, near each other where a factor is alike; made once, kept for all users.

Symbols: z̃_k (n, N_k) is one factor of n held-out images.
"""

import base64
import io
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from iin_lightning.analysis.embed import fit_embedding
from iin_lightning.errors import MissingExtraError
from iin_lightning.explorer.alone import alone
from iin_lightning.explorer.embedding import Map, has_umap, in_a_process
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import to_pixels
from iin_lightning.plots.embed import CLASS_COLORS, UNKNOWN
from iin_lightning.seeding import FIXED, generator

KEPT = 32  # maps
CELL = 32  # pixels: the side of a thumbnail
CHUNK = 100  # images that are made small at once

Key = tuple[str, ...]


class Maps:
    """The maps that were asked for, and those that are being made, UMAP's one at a time.

    Attributes:
        methods: that can be asked for.
    """

    def __init__(self) -> None:
        self.methods = ("umap", "pca") if has_umap() else ("pca",)
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._kept: dict[Key, Future[Map]] = {}
        self._sprites: dict[Key, str] = {}

    def ask(self, explored: Explored, factor: str, method: str, *, again: bool = False) -> "Future[Map]":
        """A map, or the promise of one: principal components are there at once, UMAP takes some seconds.

        Args:
            explored: the model.
            factor: of it.
            method: "pca" or "umap".
            again: try anew what has failed; else it has failed for all who ask.
        """
        key = (explored.name, explored.fingerprint, factor, method)
        with self._lock:
            promise = self._kept.get(key)
            new = promise is None or ((again or method == "pca") and _has_failed(promise))
            if promise is None or new:
                promise = self._kept[key] = Future[Map]()
            for oldest in list(self._kept)[:-KEPT]:
                del self._kept[oldest]
        arguments = (promise, explored, factor, method)
        if new and method == "pca":
            self._fulfil(*arguments)
        elif new and method not in self.methods:
            promise.set_exception(MissingExtraError("umap-learn", "embed", "UMAP"))
        elif new:
            # Not one of a pool, for which the program would wait at its end.
            threading.Thread(target=self._fulfil, args=arguments, daemon=True).start()
        if method == "pca":
            wait([promise])  # another thread may be at it
        return promise

    def sprite(self, explored: Explored) -> str:
        """Thumbnails of ``Explored.some``, row by row in a square picture, as a data URI; remembered."""
        key = (explored.name, explored.fingerprint)
        with self._lock:
            if key in self._sprites:
                return self._sprites[key]
        made = sprite_of(explored)
        with self._lock:
            self._sprites[key] = made
            for oldest in list(self._sprites)[:-KEPT]:
                del self._sprites[oldest]
        return made

    def _fulfil(self, promise: "Future[Map]", explored: Explored, factor: str, method: str) -> None:
        try:
            z_tilde_k = explored.factors.split(explored.translated())[factor]
            if z_tilde_k.shape[1] == 1 and method == "pca":
                promise.set_result(line(z_tilde_k))
            elif method == "pca":
                promise.set_result(_components(z_tilde_k))
            else:
                with self._turn:
                    promise.set_result(in_a_process(z_tilde_k, "umap"))
        except BaseException as error:
            promise.set_exception(error)


def _has_failed(promise: "Future[Map]") -> bool:
    return promise.done() and promise.exception() is not None


def line(z_tilde_k: Tensor) -> Map:
    """A factor (n, 1) of one dimension to the right; heights are random, so that points do not hide each other.

    Example:
        >>> line(torch.tensor([[2.0], [1.0]])).points[:, 0].tolist()
        [2.0, 1.0]
    """
    heights = torch.rand(len(z_tilde_k), 1, generator=generator(FIXED, "heights of a map"))
    return Map(torch.cat([z_tilde_k, heights], 1), "Value and random height (the factor has one dimension)")


@alone
def _components(z_tilde_k: Tensor) -> Map:
    embedding = fit_embedding(z_tilde_k, 2, "pca")
    return Map(embedding.points, embedding.name)


def sprite_of(explored: Explored) -> str:
    """See ``Maps.sprite``."""
    cells = [_small(explored, explored.some[i : i + CHUNK]) for i in range(0, len(explored.some), CHUNK)]
    pixels = torch.cat(cells)
    across = columns(len(pixels))
    rows = -(-len(pixels) // across)
    sheet = torch.zeros(rows * across, *pixels.shape[1:], dtype=torch.uint8)
    sheet[: len(pixels)] = pixels
    sheet = sheet.view(rows, across, 3, CELL, CELL).permute(0, 3, 1, 4, 2).reshape(rows * CELL, across * CELL, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet.numpy()).save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@alone
def _small(explored: Explored, items: list[int]) -> Tensor:
    """Thumbnails (n, 3, CELL, CELL) of held-out images."""
    images = explored.images(items)
    longest = max(images.shape[-2:])
    images = interpolate(images, [max(1, round(side * CELL / longest)) for side in images.shape[-2:]], mode="area")
    height, width = images.shape[-2:]
    top, left = (CELL - height) // 2, (CELL - width) // 2
    images = pad(images, (left, CELL - width - left, top, CELL - height - top), value=1.0)
    return to_pixels(images).expand(-1, 3, -1, -1)


def columns(count: int) -> int:
    """How many thumbnails there are in a row of the sheet.

    Example:
        >>> columns(10)
        4
    """
    return int(np.ceil(np.sqrt(count)))


def drawing(explored: Explored, shown: Map, concept: str) -> Mapping[str, Any]:
    """A map as plain values for the script of the page.

    Args:
        explored: the model.
        shown: the map.
        concept: whose classes colour the points; "" for none.

    Returns:
        ``points`` [x, y] in [0, 1], upwards; their ``items`` and ``classes`` (-1: unknown); the ``names`` and
        ``colors`` of classes, the grey of those unknown last; ``across`` and ``cell`` of the sheet of thumbnails.
    """
    low, high = shown.points.amin(0), shown.points.amax(0)
    points = (shown.points - low) / (high - low).clamp(min=1e-9)
    names = list(explored.subject.data.classes[concept]) if concept else []
    return {
        "points": [[round(x, 4), round(y, 4)] for x, y in points.tolist()],
        "items": explored.some,
        "classes": labels(explored, concept).tolist(),
        "names": names,
        "concept": concept,
        "colors": [
            *(CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(names))),
            UNKNOWN if concept else "#7d8590",
        ],
        "across": columns(len(points)),
        "cell": CELL,
    }


def labels(explored: Explored, concept: str) -> Tensor:
    """The classes (n,) of ``Explored.some``, -1 where they are not known, or nobody asks."""
    if not concept or concept not in explored.source.concepts:
        return torch.full((len(explored.some),), -1)
    return explored.source.labels[explored.some, explored.source.concepts.index(concept)].cpu()
