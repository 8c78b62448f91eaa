"""Extractors: they never wake up, the pieces of others are used as their makers say, and what is missing is named."""

import copy
import importlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from iin_lightning.data.images import dequantize, to_range
from iin_lightning.encoders import Classifier, Frozen, zoo
from iin_lightning.errors import (
    CheckpointError,
    ConfigError,
    DataNotFoundError,
    MissingExtraError,
    NonFiniteError,
    ShapeError,
)
from iin_lightning.metrics import extractors
from iin_lightning.metrics.extractors import (
    ClassifierLatents,
    EfficientNetLite0,
    Inception,
    build_extractor,
    dequantize_images,
    resize_clean,
    stretch,
    to_uint8,
)
from iin_lightning.seeding import Noise, generator

LAYOUT = {"n_classes": 3, "image_size": 16, "latent_dim": 6, "width": 4, "norm": "batch"}
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pixels(n=5, size=16):
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8)


class Port(nn.Module):
    """Stands for torch-fidelity's Inception, whose weights no test downloads."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert (name, features_list) == ("inception", ["2048"])
        self.project = nn.Linear(3, 2048)
        self.dropout = nn.Dropout()
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, x):
        assert x.dtype == torch.uint8
        return (self.dropout(self.project(x.double().mean((2, 3)).float())),)


@pytest.fixture
def inception(monkeypatch, tmp_path):
    monkeypatch.setattr(extractors, "FeatureExtractorInceptionV3", Port)
    path = tmp_path / WEIGHTS
    torch.save(nn.ModuleDict({"project": nn.Linear(3, 2048)}).state_dict(), path)
    return Inception(path)


@pytest.fixture
def classifier():
    return ClassifierLatents(Classifier(**LAYOUT))


@pytest.fixture(params=["inception", "classifier"])
def extractor(request):
    return request.getfixturevalue(request.param)


def test_features_are_rows_of_single_precision_that_do_not_depend_on_the_batch(extractor):
    x = pixels()
    features = extractor(x)
    assert (features.shape, features.dtype) == ((5, extractor.dim), torch.float32)
    assert not features.requires_grad
    torch.testing.assert_close(torch.cat([extractor(part) for part in x.split(2)]), features)
    with torch.autocast("cpu", torch.bfloat16):  # a trainer of half precision changes nothing
        assert torch.equal(extractor(x), features)
    with pytest.raises(ShapeError, match="to_uint8"):
        extractor(x[:, :1])
    with pytest.raises(ShapeError, match="to_uint8"):
        extractor(x.float())


def test_nothing_wakes_it_or_moves_it(extractor):
    x, parent = pixels(), nn.ModuleDict({"extractor": extractor})
    before, features = copy.deepcopy(extractor.state_dict()), extractor(x)
    parent.train().requires_grad_()
    assert not any(module.training for module in extractor.modules())
    for module in parent.modules():
        module.training = True
    assert torch.equal(extractor(x), features)
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert all(torch.equal(value, before[key]) for key, value in extractor.state_dict().items())
    other = copy.deepcopy(extractor)
    assert other.fingerprint() == extractor.fingerprint()
    next(other.parameters()).data.flatten()[0] += 1
    assert other.fingerprint() != extractor.fingerprint(), "it is that of the weights"


def test_a_grey_classifier_reads_grey_from_rgb_exactly():
    grey = Classifier(**LAYOUT, channels=1)
    x = pixels()[:, :1]
    expected = Frozen(grey).encode(to_range(x)).mean
    assert torch.equal(ClassifierLatents(grey)(x.repeat(1, 3, 1, 1)), expected)
    assert torch.equal(ClassifierLatents(Frozen(grey))(x.repeat(1, 3, 1, 1)), expected)


def test_lite0_tells_images_apart_and_sees_the_range_that_it_was_trained_on(monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra offline is not installed")
    lite = EfficientNetLite0()
    features = lite(pixels(2, 32))
    assert features.shape == (2, 1280)
    assert (features[0] - features[1]).abs().max() > 1e-3
    seen = []
    monkeypatch.setattr(lite.network, "extract_features", lambda x: seen.append(x) or torch.zeros(1, 1280, 7, 7))
    lite(torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(-1, -1, 16, 16))
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([-127 / 128, 0, 1]))


def test_missing_packages_are_named_with_their_extra(monkeypatch):
    def without(name):
        raise ImportError(name)

    monkeypatch.setattr(zoo, "import_module", without)
    with pytest.raises(MissingExtraError, match=r'efficientnet_lite0 needs .* "iin-lightning\[offline\]"'):
        EfficientNetLite0()


def test_weights_that_cannot_be_downloaded_are_named_with_their_place_and_the_option(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(extractors, "FeatureExtractorInceptionV3", fail)
    with pytest.raises(DataNotFoundError, match=WEIGHTS) as caught:
        Inception()
    for hint in (f"{tmp_path}/checkpoints/{WEIGHTS}", "weights=<file>", "efficientnet_lite0"):
        assert hint in str(caught.value)


def test_weights_in_torchs_cache_are_found(monkeypatch, tmp_path, inception):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / WEIGHTS).rename(tmp_path / "checkpoints" / WEIGHTS)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert Inception().fingerprint() == inception.fingerprint()
    with pytest.raises(DataNotFoundError, match=r"There is no file .*absent\.pth"):
        Inception(tmp_path / "absent.pth")
    with pytest.raises(ConfigError, match="did you mean inception"):
        build_extractor("inceptoin")
    with pytest.raises(ConfigError, match="needs a trained classifier"):
        build_extractor("classifier")


class Evil:
    def __reduce__(self):
        return (importlib.import_module, ("this",))


@pytest.mark.parametrize("content", [b"<html>quota exceeded</html>", Evil()])
def test_a_file_of_something_else_is_refused_and_no_code_in_it_runs(tmp_path, inception, content):
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="does not hold Inception's weights"):
        Inception(path)


def every_level():
    return torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, -1, -1)


def test_every_grey_level_comes_back_and_the_training_noise_of_a_pixel_is_rounded_away():
    assert torch.equal(to_uint8(to_range(every_level())), every_level())
    noisy = dequantize(every_level(), Noise(0))
    assert not torch.equal(noisy, to_range(every_level()))
    assert torch.equal(to_uint8(noisy), every_level())


def test_levels_are_rounded_not_truncated_and_overshoot_is_clamped():
    x = torch.tensor([-1.3, -1 + 0.9 / 127.5, 1 - 0.4 / 127.5, 1.9]).reshape(1, 1, 2, 2)
    assert to_uint8(x)[0, 0].flatten().tolist() == [0, 1, 255, 255]
    assert torch.equal(to_uint8(x), to_uint8(x.repeat(1, 3, 1, 1))), "grey is replicated"


def spoiled(value):
    images = torch.zeros(3, 3, 4, 4)
    images[1, 2, 3, 3] = value
    return images


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ConfigError, "expects floating-point images"),
        (spoiled(255.0), ConfigError, r"in \[-1, 1\], got values from"),
        (spoiled(-2.1), ConfigError, r"in \[-1, 1\], got values from"),
        (spoiled(float("nan")), NonFiniteError, "1 of 3 images"),
        (torch.zeros(3, 4, 4), ShapeError, "C = 1 or 3"),
    ],
)
def test_what_are_no_images_is_refused(images, error, text):
    with pytest.raises(error, match=text):
        to_uint8(images)


def test_stretching_reaches_both_ends_of_each_image_alone():
    images = torch.rand(5, 3, 8, 8) * 0.5 - 0.7
    pixels = to_uint8(stretch(images))
    assert pixels.amin((1, 2, 3)).tolist() == [0] * 5
    assert pixels.amax((1, 2, 3)).tolist() == [255] * 5
    assert torch.equal(stretch(torch.full((1, 1, 4, 4), 0.3)), torch.full((1, 1, 4, 4), 0.3))


def test_half_of_the_dequantised_images_are_one_level_brighter_whatever_the_order():
    pixels = torch.randint(256, (400, 3, 4, 4), dtype=torch.uint8, generator=generator(0))
    noisy = dequantize_images(pixels, 0)
    added = noisy.int() - pixels.int()
    brighter = added.amax((1, 2, 3))
    assert torch.equal(added, brighter[:, None, None, None] * (pixels < 255))
    assert 150 < brighter.sum() < 250
    order = torch.randperm(400)
    assert torch.equal(dequantize_images(pixels[order], 0), noisy[order])
    assert not torch.equal(dequantize_images(pixels, 1), noisy)


@pytest.mark.parametrize("size", [13, 48])
def test_the_clean_resize_is_that_of_pil_in_floating_point(size):
    pixels = torch.randint(256, (2, 3, 24, 24), dtype=torch.uint8, generator=generator(1))
    for channel, resized in zip(pixels.flatten(0, 1), resize_clean(pixels, size).flatten(0, 1)):
        image = Image.fromarray(channel.float().numpy()).resize((size, size), Image.Resampling.BICUBIC)
        expected = torch.from_numpy(np.array(image)).clamp(0, 255)
        assert (resized - expected).abs().max() < 0.51, "only the rounding is ours"
