"""ColorMNIST: digit times colour, the data set with two known concepts (Sec. 4.1 of the paper)."""

from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from iin_lightning.data.base import Source, Split, digest
from iin_lightning.data.images import Trait, ink, render, slant
from iin_lightning.data.mnist import IMAGE_SIZE, Preset, check_preset, find_mnist, read_split
from iin_lightning.data.module import DataModule
from iin_lightning.data.splits import choose
from iin_lightning.errors import ConfigError, choices
from iin_lightning.seeding import FIXED, Noise
from iin_lightning.seeding import generator as keyed_generator

Background = Literal["black", "complement"]
BACKGROUNDS: tuple[Background, ...] = ("black", "complement")

# With fewer items a colour, most of a small split's items would have no partner of the same colour.
ITEMS_PER_COLOR = 8


def draw_palette(n: int, min_brightness: float, generator: torch.Generator) -> Tensor:
    """Draw n colours (n, 3), uniform on [0, 1]³ under the condition max(R, G, B) >= min_brightness.

    A darker colour would erase the digit that it paints.

    Example:
        >>> draw_palette(4, 0.5, torch.Generator().manual_seed(0)).amax(1).ge(0.5).all().item()
        True
    """
    palette = torch.empty(0, 3)
    while len(palette) < n:
        candidates = torch.rand(n, 3, generator=generator)
        palette = torch.cat([palette, candidates[candidates.amax(1) >= min_brightness]])
    return palette[:n]


def draw_deformations(n: int, strength: float, generator: torch.Generator) -> Tensor:
    """Amounts (n, 6) by which ``deform`` turns, scales, shears and shifts n images, each by its own.

    At strength 1 an amount is uniform within these bounds, which grow in proportion to the strength: rotation ±0.2
    rad, log-scale of either axis ±0.12, shear ±0.2, shift of either axis ±1/16 of the image. At strength 0 nothing
    moves.
    """
    bounds = torch.tensor([0.2, 0.12, 0.12, 0.2, 1 / 8, 1 / 8])  # the grid spans [-1, 1]: 1/8 is 1/16 of the image
    return (torch.rand(n, 6, generator=generator) * 2 - 1) * bounds * strength


def deform(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Turn, scale, shear and shift each image, uint8 (n, H, W), a little (Simard, Steinkraus & Platt, 2003).

    The amounts (n, 6) are those of ``draw_deformations``. What comes in from beyond the border is black.

    Example:
        >>> square = torch.zeros(2, 8, 8, dtype=torch.uint8)
        >>> square[:, 2:6, 2:6] = 255
        >>> a, b = deform(square, draw_deformations(2, 1.0, torch.Generator().manual_seed(0)))
        >>> bool((a != b).any())
        True
    """
    angle, log_x, log_y, shear, shift_x, shift_y = amounts.unbind(1)
    scale_x, scale_y = log_x.exp(), log_y.exp()
    row_x = torch.stack([angle.cos() * scale_x, shear - angle.sin() * scale_y, shift_x], dim=1)
    row_y = torch.stack([angle.sin() * scale_x, angle.cos() * scale_y, shift_y], dim=1)
    grid = affine_grid(torch.stack([row_x, row_y], dim=1), [len(pixels), 1, *pixels.shape[1:]], align_corners=False)
    return grid_sample(pixels[:, None].float(), grid, align_corners=False)[:, 0].round_().byte()


class ColoredDigits(Source):
    """A source in which a coloured view of a digit is an item: item v·n + i is view v of image i, uint8 (n, H, W).

    View 0 has the digit as it was written; in further views it may be deformed. The views are shared out evenly and
    at random over the palette, and an item keeps its colour. The stroke has the colour s and the background b; a
    pixel of grey level g in [0, 1] becomes g·s + (1 - g)·b, rounded to 256 levels as a file would be. The background
    is black, b = 0, or the complement of the stroke, b = 1 - s with s = (1 + c)/2: this equals multiplying an image
    that is already in [-1, 1] by c. The palette (P, 3) in [0, 1] has the colours c.
    """

    concepts = ("digit", "color")

    def __init__(
        self,
        images: Tensor,
        digits: Tensor,
        palette: Tensor,
        *,
        views: int = 1,
        background: Background = "black",
        deformation: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.images = images
        self.background = background
        self.strokes = palette if background == "black" else (1 + palette) / 2
        color = torch.randperm(views * len(digits), generator=generator) % len(palette)
        self.labels = torch.stack([digits.repeat(views), color], dim=1)
        self.deformations: Tensor | None = None
        if deformation > 0:
            key = generator or torch.default_generator
            self.deformations = draw_deformations(len(self.labels), deformation, key)
            self.deformations[: len(images)] = 0

    def colors(self, indices: Tensor) -> Tensor:
        """The true stroke colours (B, 3) of items, RGB in [0, 1]."""
        return self.strokes[self.labels[indices, 1]]

    def draw(self, indices: Tensor, noise: Noise | None) -> Tensor:
        """Coloured images (B, 3, H, W) in [-1, 1], dequantised by the noise if there is any."""
        grey = self.images[indices % len(self.images)]
        if self.deformations is not None:
            grey = deform(grey, self.deformations[indices])
        grey = grey[:, None].float()
        stroke = self.colors(indices)[:, :, None, None]
        pixels = grey * stroke
        if self.background == "complement":
            pixels += (255 - grey) * (1 - stroke)
        return render(pixels.round_().byte(), noise)

    def content(self) -> str:
        """A hash of the digits, of their colours and of their deformations."""
        moved = [] if self.deformations is None else [self.deformations]
        return self.background + digest(self.images, self.strokes, self.labels, *moved)


class ColorMNIST(DataModule):
    """MNIST's digits, each painted in random colours.

    * 60,000 training digits, of which the last ``val_fraction`` validate, and 10,000 test digits
    * 3x32x32, a coloured stroke on black
    * concepts: digit (10 classes) and color (a palette a split; a label is a place in its split's palette)
    * held-out images have colours that no training image has

    The seed draws palette, colours and batches of training; what is held out is the same for every seed. A palette has
    fewer colours in a split with under 8 items a colour. ``deformation`` is how much the digits of further views are
    turned, scaled, sheared and shifted; see ``draw_deformations``. Few digits go further so. A limit counts views, and
    leaves out digits with all of theirs.
    """

    title: ClassVar[str] = "ColorMNIST: the digits of MNIST, each in a random colour on black"
    license: ClassVar[str] = "CC BY-SA 3.0"
    terms: ClassVar[str] = "Share and adapt with attribution, under the same licence."
    concepts: tuple[str, ...] = ColoredDigits.concepts
    kinds: Mapping[str, str] = {"digit": "class", "color": "color"}
    classes: Mapping[str, Sequence[str]] = {"digit": "0123456789"}

    def __init__(
        self,
        root: str | Path,
        *,
        views: int = 4,
        palette: int = 512,
        min_brightness: float = 0.5,
        background: Background = "black",
        deformation: float = 0.0,
        preset: Preset = "default",
        download: bool = False,
        val_fraction: float = 0.05,
        seed: int = 0,
        **loading: Any,
    ) -> None:
        if views < 1 or palette < 1:
            raise ConfigError(f"views={views} and palette={palette} must both be at least 1.")
        if not 0 <= min_brightness < 1:
            raise ConfigError(f"min_brightness={min_brightness} must be in [0, 1): it bounds max(R, G, B).")
        if background not in BACKGROUNDS:
            raise ConfigError(f"There is no background {background!r}; {choices(background, BACKGROUNDS)}.")
        if not deformation >= 0:
            raise ConfigError(f"deformation={deformation} must be at least 0: it is a strength, and 0 means none.")
        check_preset(preset)
        super().__init__(val_fraction=val_fraction, seed=seed, **loading)
        self.root = Path(root)
        self.preset: Preset = preset
        self.views = views
        self.deformation = deformation
        self.palette = palette
        self.min_brightness = min_brightness
        self.background: Background = background
        self.traits: Mapping[str, Trait] = {"slant": slant, "ink": ink} if background == "black" else {}
        self.download = download

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 3, IMAGE_SIZE, IMAGE_SIZE

    def notes(self) -> list[str]:
        """What a training image is."""
        return [f"Each training digit is there in {self.views} coloured views."] if self.views > 1 else []

    def folder(self) -> Path | Traversable:
        """Where the four IDX files are."""
        return find_mnist(self.root, self.download)

    def prepare_data(self) -> None:
        """Download, if necessary and allowed."""
        self.folder()

    def load(self, split: Split) -> ColoredDigits:
        """Read a split into memory and give its views their colours.

        A limit leaves digits out before the palette is sized, so that few items share few colours.
        """
        images, digits = read_split(self.folder(), split, self.val_fraction, self.preset)
        views, seed = (self.views, self.seed) if split == "train" else (1, FIXED)
        if self.limit is not None:
            views = min(views, self.limit)
            items = choose(digits[:, None], self.limit // views, FIXED)
            images, digits = images[items], digits[items]
        n_colors = min(self.palette, max(1, views * len(digits) // ITEMS_PER_COLOR))
        return ColoredDigits(
            images,
            digits,
            draw_palette(n_colors, self.min_brightness, keyed_generator(seed, "palette", split)),
            views=views,
            background=self.background,
            deformation=self.deformation,
            generator=keyed_generator(seed, "color", split),
        )


class ColorMNISTMini(ColorMNIST):
    """ColorMNIST from 10,000 training and 2,000 test digits of MNIST, which the package contains.

    They were drawn at random, since MNIST's test file is not in random order: the digits of its first half are
    harder to tell than those of its second.

    Example:
        >>> data = ColorMNISTMini(views=2)
        >>> {split: len(data.source(split)) for split in ("train", "val", "test")}
        {'train': 19000, 'val': 500, 'test': 2000}
    """

    title: ClassVar[str] = "ColorMNIST from the 10,000 + 2,000 digits of MNIST inside this package"

    def __init__(self, **options: Any) -> None:
        super().__init__(root="", download=False, **options)

    def folder(self) -> Traversable:
        """The package's own files."""
        return resources.files("iin_lightning.data") / "assets" / "mnist_mini"
