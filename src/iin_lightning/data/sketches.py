"""Sketches: black strokes on white whose shape is a concept; two come with the project and are drawn by it.

A sketch is uint8 (3, S, S) with S = SIZE pixels.
"""

from collections.abc import Callable, Sequence
from math import cos, sin, tau
from pathlib import Path

import torch
from torch import Tensor

from iin_lightning.data.framing import BrokenImageError, Framing, read_image
from iin_lightning.errors import ConfigError, DataNotFoundError, choices

SIZE = 256
STROKE = 5.0  # width in pixels
CELLS = 4  # motifs a row
TURN = 2.4  # radians from motif to motif, the golden angle: no direction is preferred

Motif = Sequence[Tensor]
"""Polylines (P, 2) within the unit disc."""


def read_sketch(sketch: str | Path) -> Tensor:
    """A sketch by the name of one of the project's own, or from an image file of any size and mode.

    Transparency is laid on white, and white fills an image up to a square.

    Raises:
        DataNotFoundError: the file is absent.
        ConfigError: the file is no image, or a damaged one.

    Example:
        >>> read_sketch("round").shape
        torch.Size([3, 256, 256])
    """
    if str(sketch) in BUILT_IN:
        return draw(BUILT_IN[str(sketch)])
    path = Path(sketch).expanduser()
    if not path.is_file():
        raise DataNotFoundError(
            f"The sketch {path} is no file: give the path of an image, or the name of a sketch that comes with the "
            f"project; {choices(str(sketch), BUILT_IN)}."
        )
    try:
        return read_image(path, Framing(SIZE, pad=True))
    except BrokenImageError as error:
        raise ConfigError(
            f"The sketch {path} cannot be read as an image ({error}): give a PNG or JPEG of black strokes on white, or "
            f"one of {', '.join(BUILT_IN)}, which come with the project."
        ) from error


def draw(motifs: Sequence[Motif]) -> Tensor:
    """Motifs in turn on a square grid, each turned further than the last, in strokes of a single width."""
    side = SIZE // CELLS
    ink = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for place in range(CELLS**2):
        row, column = divmod(place, CELLS)
        c, s = cos(place * TURN), sin(place * TURN)
        turned = torch.tensor([[c, s], [-s, c]], dtype=torch.float64) * (side - STROKE) / 2
        lines = [side / 2 + line @ turned for line in motifs[(place + row) % len(motifs)]]  # + row: no equal columns
        edge = STROKE / 2 + 0.5 - _distance(lines, side)
        ink[row * side :, column * side :][:side, :side] = edge.clamp(0, 1)  # grey over one pixel
    return (255 * (1 - ink)).round().byte().expand(3, SIZE, SIZE).contiguous()


def _distance(lines: Motif, side: int) -> Tensor:
    """Distance (side, side) of each pixel's centre from the nearest of polylines, all in pixels."""
    axis = torch.arange(side, dtype=torch.float64) + 0.5
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[..., None, :]
    start, end = torch.cat([line[:-1] for line in lines]), torch.cat([line[1:] for line in lines])
    along, to_pixel = end - start, pixels - start
    t = ((to_pixel * along).sum(-1) / (along**2).sum(-1)).clamp(0, 1)
    return (to_pixel - t[..., None] * along).norm(dim=-1).amin(-1)


def _curve(radius: Callable[[Tensor], Tensor], turns: float = 1.0) -> Tensor:
    """A polyline of radius(angle), over so many turns; its corners are too flat to be seen."""
    angle = torch.linspace(0, turns * tau, int(turns * 36) + 1, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], dim=1) * radius(angle)[:, None]


def _corners(*points: tuple[float, float]) -> Tensor:
    """A polyline from corner to corner."""
    return torch.tensor(points, dtype=torch.float64)


def _polygon(corners: int, radius: float, inner: float | None = None) -> Tensor:
    """A regular polygon, or a star whose inward corners lie at another radius."""
    n = corners if inner is None else 2 * corners
    radii = [radius if inner is None or k % 2 == 0 else inner for k in range(n + 1)]
    return _corners(*((r * cos(tau * k / n), r * sin(tau * k / n)) for k, r in enumerate(radii)))


ROUND: tuple[Motif, ...] = (
    [_curve(lambda a: 0 * a + 1), _curve(lambda a: 0 * a + 0.5)],  # rings
    [_curve(lambda a: 0.1 + 0.9 * a / (2.25 * tau), turns=2.25)],  # a spiral
    [_curve(lambda a: (2 * a).cos())],  # loops
)
ANGULAR: tuple[Motif, ...] = (
    [  # a zigzag
        _corners(
            *((-0.95, -0.2), (-0.7, 0.7), (-0.4, -0.9), (-0.15, 0.95)),
            *((0.15, -0.95), (0.4, 0.9), (0.7, -0.7), (0.95, 0.2)),
        )
    ],
    [_polygon(3, 1.0), _polygon(3, 0.45)],  # triangles
    [_polygon(5, 1.0, inner=0.38)],  # a star
)
BUILT_IN: dict[str, tuple[Motif, ...]] = {"round": ROUND, "angular": ANGULAR}
