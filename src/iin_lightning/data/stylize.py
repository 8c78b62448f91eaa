"""A sketch makes a version of an image: what is shown stays, the strokes are those of the sketch.

Symbols: x an image, a a sketch, x_a = stylizer(x, a) the version.
"""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from iin_lightning.data.base import digest
from iin_lightning.data.change import ChangeError, described
from iin_lightning.data.sketches import read_sketch
from iin_lightning.data.transforms import to_levels, to_range

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class Stylizer(Protocol):
    """What lends content the style of another image; any ``torch.nn.Module`` with this ``forward`` fits.

    content (B, 3, H, W) and style (B or 1, 3, S, S) are float32 in [-1, 1], and so is the result (B, 3, H, W). A
    network is used in eval mode, without gradients, on the processor. It is known by its ``fingerprint()``, or by its
    ``repr``, its plain attributes and its weights: other options, in a tensor or an object of one's own, belong into
    ``extra_repr``, or versions that were made with others would be taken for its own.
    """

    def __call__(self, content: Tensor, style: Tensor, /) -> Tensor: ...  # noqa: D102


class Stylize:
    """The change x -> x_a of images by one sketch; see ``Change``.

    Args:
        stylizer: a network or function.
        sketch: name of one of the project's own sketches, or path of an image.

    Raises:
        DataNotFoundError: there is no such sketch.
        ConfigError: it is no image.

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
        """The version, uint8 (3, H, W), of an image of the same kind.

        Raises:
            ChangeError: the image has no three channels, or the stylizer gives no image of its shape in finite numbers.
        """
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


def keep_color(stylized: Tensor, content: Tensor) -> Tensor:
    """The luma of the stylised image under the chroma of the content.

    With the luma y = 0.299 r + 0.587 g + 0.114 b, and r - y, g - y, b - y of the content, y is that of the stylised
    image, or the nearest for which all three colours are possible: chroma is kept exactly, luma where it can be.

    Args:
        stylized: (B, 3, H, W) in [-1, 1].
        content: the same.

    Returns:
        (B, 3, H, W) in [-1, 1].

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
