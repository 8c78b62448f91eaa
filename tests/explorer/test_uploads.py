"""Whatever is uploaded becomes a picture of the model's size, or a sentence; nothing large is ever decoded."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from iin_lightning.data.framing import to_rgb
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.pictures import decoded, sketch_of_upload, sketch_pixels

SIZE = (90, 60)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient():
    return Image.radial_gradient("L").resize(SIZE)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side):
    """A PNG of a few kilobytes with side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gray_16_bit():
    levels = np.asarray(gradient()).astype(np.uint16) * 257
    return Image.fromarray(levels)


def palette_with_transparency():
    return saved(gradient().convert("RGB").quantize(16), transparency=0)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(gradient().convert("RGB"), "JPEG", exif=exif)


KINDS = {
    "RGB": lambda: saved(gradient().convert("RGB")),
    "alpha": lambda: saved(gradient().convert("RGBA")),
    "gray": lambda: saved(gradient()),
    "gray with alpha": lambda: saved(gradient().convert("LA")),
    "16 bit": lambda: saved(gray_16_bit()),
    "1 bit": lambda: saved(gradient().convert("1")),
    "palette": lambda: saved(gradient().quantize(16)),
    "palette with transparency": palette_with_transparency,
    "CMYK": lambda: saved(gradient().convert("CMYK"), "JPEG"),
    "turned": turned,
    "WEBP": lambda: saved(gradient().convert("RGB"), "WEBP"),
    "moving GIF": lambda: saved(gradient(), "GIF", save_all=True, append_images=[Image.new("L", SIZE)]),
    "one pixel": lambda: saved(Image.new("RGB", (1, 1))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_all_kinds_become_pictures(explored, kind):
    picture = explored.upload(KINDS[kind]())
    assert picture.pixels(explored.shape).shape == explored.shape
    image = explored.image(picture)
    assert image.min() >= -1
    assert image.max() <= 1
    assert explored.encode(picture)[0].isfinite().all()


def test_all_levels_of_16_bits_are_rounded_to_those_of_8():
    levels = np.arange(2**16)
    expected = (levels / 257).round()
    for kind in (np.uint16, np.int32):
        rgb = np.asarray(to_rgb(Image.fromarray(levels.reshape(256, 256).astype(kind))))
        assert (rgb == expected.reshape(256, 256, 1)).all()


def test_a_strip_is_filled_up_without_the_memory_of_its_square():
    strip = Image.new("L", (60_000, 40), 0)
    pixels = sketch_pixels(sketch_of_upload(saved(strip)))
    assert pixels[:, 128].max() < 255
    assert pixels[:, 100].min() == 255


def test_uploads_are_decoded_one_at_a_time():
    at_work, most = [], []
    begun = threading.Barrier(4)

    def read(file):
        at_work.append(file)
        most.append(len(at_work))
        threading.Event().wait(0.05)
        at_work.pop()
        return file

    def upload(_):
        begun.wait()
        return decoded(KINDS["one pixel"](), read)

    with ThreadPoolExecutor(4) as many:
        assert len(list(many.map(upload, range(4)))) == 4
    assert max(most) == 1


BROKEN = {
    "nothing": b"",
    "text": b"hello",
    "a program": b"\x7fELF" + bytes(100),
    "truncated": KINDS["RGB"]()[:200],
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "zip": b"PK\x03\x04" + bytes(50),
    "float": saved(Image.new("F", (8, 8)), "TIFF"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_image_is_refused_in_words(explored, kind):
    with pytest.raises(ConfigError, match=r"no image|cannot be read") as refusal:
        explored.upload(BROKEN[kind])
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("side", [5100, 30_000, 2**31 - 1])
def test_a_bomb_is_not_decoded(explored, side, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ConfigError, match="pixels"):
        explored.upload(bomb(side))


def test_a_file_of_many_bytes_is_refused(explored):
    with pytest.raises(ConfigError, match="20 MB"):
        explored.upload(bytes(21_000_000))
