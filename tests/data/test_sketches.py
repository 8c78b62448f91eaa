"""Sketches: files of every kind are read, and the two that come with the project differ in shape alone."""

import pytest
import torch
from PIL import Image, ImageDraw

from iin_lightning.data.framing import Framing
from iin_lightning.data.sketches import BUILT_IN, SIZE, STROKE, read_sketch
from iin_lightning.errors import ConfigError, DataNotFoundError


def stroke(mode="L", size=(80, 40), white=255, black=0):
    """A black bar on white."""
    image = Image.new(mode, size, white)
    ImageDraw.Draw(image).rectangle((20, 10, 60, 14), fill=black)
    return image


def saved(image, path):
    image.save(path)
    return path


FILES = {
    "grey": stroke,
    "bitmap": lambda: stroke("1"),
    "colours": lambda: stroke("RGB", white=(255, 255, 255), black=(0, 0, 0)),
    "transparent": lambda: stroke("RGBA", white=(0, 0, 0, 0), black=(0, 0, 0, 255)),
    "sixteen bits": lambda: stroke("I;16", white=65535),
    "palette": lambda: stroke().convert("P"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_sketch_of_any_mode_is_dark_strokes_on_a_white_square(kind, tmp_path):
    sketch = read_sketch(saved(FILES[kind](), tmp_path / "sketch.png"))
    assert sketch.dtype == torch.uint8
    assert sketch.shape == (3, SIZE, SIZE)
    expected = Framing(SIZE, pad=True)(stroke())
    assert (sketch.int() - expected.int()).abs().max() <= 1
    assert sketch[:, : SIZE // 4].min() == 255, "white fills it up to a square"
    assert sketch.min() == 0


def test_a_missing_sketch_names_those_of_the_project(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"ruond.*allowed are: round, angular \(did you mean round\?\)"):
        read_sketch("ruond")
    with pytest.raises(DataNotFoundError, match="round, angular"):
        read_sketch(tmp_path)


@pytest.mark.parametrize("content", [b"", b"strokes, dear", b"\x89PNG\r\n\x1a\n torn"])
def test_a_sketch_that_is_no_image_is_refused(content, tmp_path):
    path = tmp_path / "round.png"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"round\.png cannot be read as an image.*round, angular"):
        read_sketch(path)


def ink(sketch):
    return 1 - sketch.double().mean().item() / 255


def width(sketch):
    """Area of strokes by the length of their edges: the total variation of a straight bar is twice its length."""
    dark = 1 - sketch[0].double() / 255
    dx, dy = dark[1:, 1:] - dark[1:, :-1], dark[1:, 1:] - dark[:-1, 1:]
    return (2 * dark.sum() / (dx**2 + dy**2).sqrt().sum()).item()


def test_the_two_sketches_differ_in_shape_and_not_in_darkness_or_stroke():
    a, b = (read_sketch(name) for name in BUILT_IN)
    assert tuple(BUILT_IN) == ("round", "angular")
    assert ink(a) == pytest.approx(ink(b), rel=0.2)
    assert 0.2 < ink(a) < 0.4
    assert width(a) == pytest.approx(width(b), rel=0.1)
    assert width(a) == pytest.approx(STROKE, rel=0.2)
    assert (a != b).double().mean() > 0.2


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_drawn_sketch_is_the_same_every_time(name):
    sketch = read_sketch(name)
    assert torch.equal(sketch, read_sketch(name))
    assert sketch.is_contiguous()
    assert (sketch == sketch[:1]).all()
    assert {0, 255} < set(sketch.unique().tolist())
