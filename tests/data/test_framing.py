import struct
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw

from iin_lightning.data.framing import BrokenImageError, Framing, read_image, to_rgb
from iin_lightning.errors import ConfigError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def levels(pixels: torch.Tensor) -> list[int]:
    """Of an image of one colour."""
    assert (pixels == pixels[:, :1, :1]).all()
    return pixels[:, 0, 0].tolist()


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
def test_the_middle_is_cropped_exactly_and_not_resized_where_it_has_the_size_already(size, antialias):
    image = noise(*size)
    left, top = (size[0] - 16) // 2, (size[1] - 16) // 2
    expected = torch.from_numpy(np.array(image)[top : top + 16, left : left + 16]).permute(2, 0, 1)
    pixels = Framing(16, crop=16, antialias=antialias)(image)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, expected)


@pytest.mark.parametrize("side", [9, 40])
def test_resizing_is_what_pil_gives_to_one_grey_level(side):
    image = noise(side, side)
    expected = torch.from_numpy(np.array(image.resize((16, 16), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    difference = Framing(16)(image).int() - expected.int()
    assert difference.abs().max() <= 1


def test_without_antialiasing_only_the_nearest_four_pixels_count():
    image = noise(64, 64)
    # Pixel i of 16 lies at 4i + 1.5 of 64: halfway between the second and the third of its four.
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    expected = (x[:, 1::4, 1::4] + x[:, 1::4, 2::4] + x[:, 2::4, 1::4] + x[:, 2::4, 2::4]) / 4
    assert (Framing(16, antialias=False)(image) - expected).abs().max() <= 0.5
    assert (Framing(16)(image).float() - expected).abs().mean() > 5


def test_nothing_outside_the_crop_is_seen():
    image = Image.new("RGB", (218, 178), "white")
    image.paste((0, 0, 0), (29, 9, 189, 169))
    assert levels(Framing(64, crop=160)(image)) == [0, 0, 0]


def test_padding_keeps_the_whole_image_in_the_middle_of_white():
    image = Image.new("RGB", (8, 16), (10, 20, 30))
    pixels = Framing(16, pad=True)(image)
    assert levels(pixels[:, :, 4:12]) == [10, 20, 30]
    assert levels(pixels[:, :, :4]) == levels(pixels[:, :, 12:]) == [255, 255, 255]


@pytest.mark.parametrize(("options", "image"), [({}, (64, 32)), ({"crop": 16}, (32, 64)), ({"pad": True}, (50, 40))])
def test_a_result_that_is_not_square_shows_the_image_unstretched(options, image):
    disc = Image.new("RGB", image, "black")
    ImageDraw.Draw(disc).ellipse([image[0] / 2 - 6, image[1] / 2 - 6, image[0] / 2 + 5, image[1] / 2 + 5], fill="red")
    pixels = Framing([8, 16], **options)(disc)
    assert pixels.shape == (3, 8, 16)
    red = pixels[0].float() - pixels[1]
    assert red.amax() > 50
    assert red.amax(0).sum() == pytest.approx(red.amax(1).sum().item(), rel=0.15)


def test_a_part_that_is_very_large_is_shrunk_first(monkeypatch):
    image = noise(41, 60)
    expected = Framing(4)(image.reduce(3, (0, 9, 41, 50)))
    monkeypatch.setattr("iin_lightning.data.framing.LONGEST", 16)
    assert torch.equal(Framing(4)(image), expected)


def test_16_bits_of_grey_become_8(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    pixels = read_image(tmp_path / "deep.png", Framing(16))
    assert torch.equal(pixels, torch.from_numpy(RAMP).expand(3, 16, 16))
    # A PGM of 16 bits, big-endian, which PIL reads as 32 bits.
    (tmp_path / "deep.pgm").write_bytes(b"P5 16 16 65535\n" + (RAMP.astype(">u2") * 257).tobytes())
    assert torch.equal(read_image(tmp_path / "deep.pgm", Framing(16)), pixels)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 7, [7, 7, 7]),
        ("1", 1, [255, 255, 255]),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
        ("RGBA", (0, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (255, 0, 0, 255), [255, 0, 0]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("LA", (0, 0), [255, 255, 255]),
        ("LA", (0, 51), [204, 204, 204]),
    ],
)
def test_every_mode_becomes_rgb_on_white(mode, color, expected):
    assert levels(Framing(8)(Image.new(mode, (8, 8), color))) == expected


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_colour_that_a_png_declares_transparent_becomes_white(tmp_path, mode):
    image = Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    transparent = image.getpixel((0, 0))
    image.save(tmp_path / "x.png", transparency=transparent)
    assert levels(read_image(tmp_path / "x.png", Framing(8))) == [255, 255, 255]


def test_a_photograph_is_turned_upright(tmp_path):
    image = Image.new("RGB", (16, 16), "white")
    image.paste((0, 0, 0), (0, 0, 16, 8))  # black above
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was held so that the top is at the right
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    pixels = read_image(tmp_path / "turned.jpg", Framing(16))
    assert pixels[:, :, :8].min() > 250
    assert pixels[:, :, 8:].max() < 5


def bomb() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", crc32(header))


def broken_files(folder):
    noise(32, 32).save(folder / "whole.jpg")
    noise(32, 32).save(folder / "whole.png")
    (folder / "truncated.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-400])
    (folder / "truncated.png").write_bytes((folder / "whole.png").read_bytes()[:-900])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "folder.jpg").mkdir()
    Image.fromarray(RAMP.astype(np.float32)).save(folder / "float.tiff")
    return ["truncated.jpg", "truncated.png", "empty.jpg", "page.jpg", "bomb.png", "folder.jpg", "float.tiff", "no.jpg"]


def test_whatever_is_wrong_with_a_file_is_one_error(tmp_path):
    for name in broken_files(tmp_path):
        with pytest.raises(BrokenImageError, match=r"\w+: "):
            read_image(tmp_path / name, Framing(8))
    assert read_image(tmp_path / "whole.jpg", Framing(8)).shape == (3, 8, 8)


@pytest.mark.filterwarnings("error")
def test_a_large_image_is_read_though_pil_would_refuse(tmp_path, monkeypatch):
    noise(20, 60).save(tmp_path / "large.png")
    expected = read_image(tmp_path / "large.png", Framing(8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert torch.equal(read_image(tmp_path / "large.png", Framing(8)), expected)
    assert Image.MAX_IMAGE_PIXELS == 500


def test_an_image_too_large_for_memory_is_said_to_be_so(tmp_path, monkeypatch):
    noise(20, 60).save(tmp_path / "large.png")
    monkeypatch.setattr("iin_lightning.data.framing.MOST_PIXELS", 1000)
    with pytest.raises(BrokenImageError, match="too large, 20x60"):
        read_image(tmp_path / "large.png", Framing(8))


def test_grey_levels_without_a_range_are_refused():
    with pytest.raises(ValueError, match="floating-point"):
        to_rgb(Image.new("F", (4, 4)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 0}, "size=0"),
        ({"size": [8, 0]}, r"size=\[8, 0\]"),
        ({"size": [8, 8, 3]}, "height and width"),
        ({"size": "64x128"}, "size=64x128"),
        ({"size": None}, "size=None"),
        ({"crop": 0}, "crop=0"),
        ({"crop": 4, "pad": True}, "exclude each other"),
    ],
)
def test_a_framing_out_of_range_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        Framing(**options)
