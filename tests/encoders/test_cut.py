"""Laws of a network that is cut: E and G make up the network bit for bit, and it stays as it was."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.encoders import awkward
from tests.encoders.awkward import Branches, Skip, Untraceable, quick
from torch import fx, nn
from torchvision import models

from iin_lightning import serialization
from iin_lightning.encoders import PCA, Autoencoder, Classifier, Cut, Frozen, Pool, layers
from iin_lightning.encoders.taps import tapped
from iin_lightning.errors import ConfigError, ShapeError

SIZE = 32
OURS = {"image_size": SIZE, "latent_dim": 6, "width": 4, "norm": "batch"}


class Darker(nn.Module):
    def forward(self, x):
        return 0.5 * x - 0.5


def channels_last():
    return quick(models.squeezenet1_1).to(memory_format=torch.channels_last)


def small_vit(weights):
    return models.VisionTransformer(SIZE, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32)


GRAPH, RERUN, BYPASSED = "graph", "rerun", "bypassed"
SMALL = {
    "squeezenet": (lambda: quick(models.squeezenet1_1), "features.7", GRAPH, {}),
    "channels_last": (channels_last, "features.6.squeeze", GRAPH, {}),
    "mobilenet": (lambda: quick(models.mobilenet_v3_small), "features.5", GRAPH, {"preprocess": Darker()}),
    "mobilenet-bypassed": (lambda: quick(models.mobilenet_v3_small), "features.5.block.1.0", BYPASSED, {}),
    "autoencoder": (lambda: Autoencoder(**OURS), "trunk", RERUN, {"output": "image"}),
    "classifier": (lambda: Classifier(3, **OURS), "to_latent", RERUN, {}),
    "stem": (Branches, "stem", GRAPH, {}),
    "merge": (Branches, "merge", GRAPH, {}),
    "left": (Branches, "left", BYPASSED, {}),
    "last": (Branches, "head", GRAPH, {}),
    "untraceable": (Untraceable, "body", RERUN, {"preprocess": Darker()}),
    "untraceable-skip": (lambda: Untraceable(skip=True), "body", BYPASSED, {}),
    "zero-head": (lambda: Untraceable(skip=True, zero_head=True), "body", BYPASSED, {}),
    "memory": (awkward.Memory, "middle", BYPASSED, {}),
    "unread": (awkward.Unread, "act", BYPASSED, {}),
    "skip": (Skip, "skip", BYPASSED, {}),
    "buffers": (awkward.Buffers, "stem", GRAPH, {}),
    "makes-tensors": (lambda: awkward.Buffers(makes=True), "stem", RERUN, {}),
    "mixed": (awkward.Mixed, "1", GRAPH, {}),
}
LARGE = {
    "resnet18": (lambda: quick(models.resnet18), "layer3", GRAPH, {}),
    "resnet18-bypassed": (lambda: quick(models.resnet18), "layer4.0.conv1", BYPASSED, {}),
    "densenet121": (lambda: quick(models.densenet121), "features.denseblock4", GRAPH, {}),
    "vit": (lambda: quick(small_vit), "encoder.layers.encoder_layer_1", GRAPH, {}),
    "efficientnet_b0": (lambda: quick(models.efficientnet_b0), "features.6", GRAPH, {}),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(n=3):
    return torch.rand(n, 3, SIZE, SIZE) * 2 - 1


def build(case):
    network, layer, _, options = case
    return Cut(network().eval(), layer, image_size=SIZE, **options)


def whole(cut, x):
    return cut.network(x if cut.preprocess is None else cut.preprocess(x))


def every(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


def hooks(network):
    return [dict(module._forward_hooks) for module in network.modules()]


@every(SMALL | LARGE)
@torch.no_grad()
def test_both_halves_are_the_network_bit_for_bit(case):
    cut, way = build(case), case[2]
    x = images()
    z, expected = cut.encode(x).mean, whole(cut, x)
    before = z.clone()
    assert z.shape == (3, cut.latent_dim)
    assert cut.resume(z, cut.complement(x)).equal(expected)
    assert z.equal(before)  # whatever works in place behind the layer
    assert cut.bypassed == (way == BYPASSED)
    assert not cut.encode(x).scale.any()
    if way != BYPASSED:
        assert (cut._remainder is not None) == (way == GRAPH)
        assert cut.complement(x) is None
        assert cut.decode(z).equal(expected)
        assert cut(x).equal(expected)
        assert cut.decode(z[:1]).shape == expected[:1].shape
    for value in cut.network.state_dict().values():  # weights that come later are those that count
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    assert cut.resume(cut.encode(x).mean, cut.complement(x)).equal(whole(cut, x))


@every(SMALL)
def test_the_network_is_left_as_it_was(case):
    build, layer, _, options = case
    network = build()
    network.train()
    first = next(module for module in network.modules() if not list(module.children()))
    first.training = False
    modes = [module.training for module in network.modules()]
    values, before = copy.deepcopy(network.state_dict()), hooks(network)
    attributes = [set(vars(m)) for m in network.modules()]
    state = torch.get_rng_state()
    cut = Cut(network, layer, image_size=SIZE, **options)
    assert torch.get_rng_state().equal(state)
    if layer != "middle":  # Memory keeps more the first time
        assert [set(vars(m)) for m in network.modules()] == attributes
    assert not any(isinstance(value, fx.Proxy) for m in network.modules() for value in vars(m).values())
    assert [module.training for module in network.modules()] == modes
    network.eval()
    x = images()
    cut.resume(cut.encode(x).mean, cut.complement(x))
    assert hooks(network) == before
    assert {name.removeprefix("network.") for name in cut.state_dict()} == set(values)
    assert all(value.equal(values[name]) for name, value in network.state_dict().items())


def test_an_exception_leaves_no_hook():
    network = Untraceable(skip=True).eval()
    cut = Cut(network, "body", image_size=SIZE)
    x = images()
    z = cut.encode(x).mean
    network.fail = True
    cut.encode(x)  # ends before
    with pytest.raises(RuntimeError, match="behind the layer"):
        cut.resume(z, x)
    with pytest.raises(ZeroDivisionError), tapped(network.body, lambda output: 1 / 0):
        network(x)
    assert not any(hooks(network))


@pytest.mark.parametrize("case", ["squeezenet", "merge", "mobilenet"])
def test_only_the_half_that_is_asked_for_is_computed(case):
    cut = build(SMALL[case])
    x, calls = images(), []
    parts = [module for module in cut.network.modules() if not list(module.children())]
    z = cut.encode(x).mean
    for module in (parts[0], parts[-1]):
        module.register_forward_hook(lambda module, *_: calls.append(module))
    cut.decode(z)
    assert calls == [parts[-1]]
    calls.clear()
    cut.encode(x)
    assert calls == [parts[0]]


@pytest.mark.parametrize("case", ["squeezenet", "merge", "classifier", "untraceable"])
def test_gradients_reach_z_alone(case):
    cut = build(SMALL[case])
    frozen, x = Frozen(cut), images(2)
    z = frozen.encode(x).mean.requires_grad_()
    (gradient,) = torch.autograd.grad(frozen.decode(z).square().sum(), z)
    assert gradient.any()
    assert all(parameter.grad is None for parameter in cut.parameters())
    # The network's own gradient at the layer is the same.
    leaves = []

    def cut_here(output):
        leaves.append(output.detach().requires_grad_())
        return leaves[0].clone()  # what follows may work in place

    with tapped(cut.network.get_submodule(cut.layer), cut_here):
        (expected,) = torch.autograd.grad(whole(cut, x).square().sum(), leaves)
    torch.testing.assert_close(gradient, expected.flatten(1))


@pytest.mark.parametrize("case", ["channels_last", "classifier", "merge"])
@torch.no_grad()
def test_a_copy_is_a_network_of_its_own(case):
    cut = build(SMALL[case])
    x = images()
    expected = cut(x)
    twin, pickled = copy.deepcopy(cut), pickle.loads(pickle.dumps(cut))
    for parameter in cut.parameters():
        parameter.fill_(0.0)
    assert twin(x).equal(expected)
    assert pickled(x).equal(expected)
    assert not cut(x).equal(expected)


def test_hooks_and_modes_of_the_users_are_respected():
    cut = build(SMALL["merge"])
    x = images()
    z = cut.encode(x).mean
    handle = cut.network.register_forward_hook(lambda _module, _inputs, output: output + 1)
    assert cut.decode(z).equal(cut.network(x))
    handle.remove()
    calls = []
    handle = cut.network.register_full_backward_pre_hook(lambda *_: calls.append(None))
    cut.decode(z.detach().requires_grad_()).sum().backward()
    assert calls
    handle.remove()
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(3600, 3)).eval()
    handle = network[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    cut = Cut(network, "0.0", image_size=SIZE)
    z = cut.encode(x).mean
    assert cut.decode(z).equal(network(x))
    handle.remove()
    assert cut.decode(z).equal(network(x))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3600, 3)).eval()
    cut = Cut(network, "0", image_size=SIZE)
    z = cut.encode(x).mean
    network.train()
    assert not cut.decode(z).equal(cut.decode(z))


def test_what_was_stored_answers_alike(tmp_path):
    cut = Cut(Classifier(3, **OURS), "trunk", image_size=SIZE, preprocess=Darker(), reduction=PCA(4)).eval()
    cut.fit_reduction([images(8)])
    serialization.save(cut, tmp_path, {"network": serialization.describe(cut)})
    restored = serialization.load(tmp_path)
    x = images()
    assert restored.encode(x).mean.equal(cut.encode(x).mean)
    assert restored(x).equal(cut(x))


def test_threads_do_not_meet():
    cut, bypassed = build(SMALL["untraceable"]), build(SMALL["left"])
    x = images(4).split(1)
    expected = [(cut.encode(part).mean, whole(cut, part), whole(bypassed, part)) for part in x]

    def ask(i):
        for _ in range(30):
            z = cut.encode(x[i]).mean
            assert z.equal(expected[i][0])
            assert cut.decode(z).equal(expected[i][1])
            assert bypassed(x[i]).equal(expected[i][2])

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, i) for i in range(4)]
        while not all(future.done() for future in asked):
            build(SMALL["merge"])  # traced meanwhile
        for future in asked:
            future.result()
    assert not any(hooks(cut) + hooks(bypassed))


@pytest.mark.parametrize("layer", ["features.6.squeeze", "features.12", "classifier.3"])
@torch.no_grad()
def test_what_is_written_back_lies_as_it_lay(layer):
    cut = Cut(channels_last(), layer, image_size=SIZE)
    x, given = images(), []
    with tapped(cut.network.get_submodule(layer), lambda output: given.append(output.clone())):
        cut.network(x)
    written = cut.activation_of(cut.encode(x).mean)
    assert written.equal(given[0])
    assert written.stride() == given[0].stride()


def test_the_layers_of_a_network():
    listed = layers(Branches(), images(1))
    assert [layer.name for layer in listed] == ["stem", "act", "left", "right", "merge", "twice", "pair", "head"]
    by_name = {layer.name: layer for layer in listed}
    assert by_name["stem"] == ("stem", (4, 16, 16), 1, True)
    assert (by_name["twice"].calls, by_name["pair"].shape, by_name["left"].passes_all) == (2, None, False)
    assert [layer.name for layer in listed if layer.passes_all] == ["stem", "act", "merge", "twice", "head"]
    network = Skip()
    with torch.inference_mode():
        assert [layer.name for layer in layers(network, images(1)) if layer.passes_all] == ["stem", "head"]


WRONG = {
    "no such layer": (Branches, "stme", ConfigError, r"no layer 'stme'.*stem.*did you mean stem\?"),
    "never called": (Branches, "spare", ConfigError, "called 0 times"),
    "called twice": (Branches, "twice", ConfigError, r"called 2 times.*merge \(before it\).*head \(behind it\)"),
    "tuple": (Branches, "pair", ConfigError, "gives a tuple, not a tensor"),
    "whole numbers": (awkward.Codes, "1", ConfigError, "gives torch.int64, not real numbers"),
    "not deterministic": (awkward.Dice, "stem", ConfigError, "two answers to the same images"),
    "no batch": (awkward.Apart, "tokens", ShapeError, r"gives \(3, 2, 32, 32\) for 2 images"),
    "dictionary": (lambda: awkward.Apart(apart=False), "head", ConfigError, "gives a dict, not a tensor"),
}


@every(WRONG)
def test_what_is_no_place_to_cut_is_refused(case):
    build, layer, error, text = case
    network = build().train()
    with pytest.raises(error, match=text):
        Cut(network, layer, image_size=SIZE)
    assert all(module.training for module in network.modules())
    assert not any(hooks(network))


def test_a_bypassed_layer_needs_the_images_and_shapes_are_checked():
    cut = build(SMALL["left"])
    z = cut.encode(images()).mean
    with pytest.raises(ConfigError, match=r"more than this layer.*act \(before it\) and merge \(behind it\)"):
        cut.decode(z)
    with pytest.raises(ShapeError, match="2 images comes with 3 latents"):
        cut.resume(z, images(2))
    with pytest.raises(ConfigError, match="no way back"):
        Cut(cut.network, "left", image_size=SIZE, reduction=Pool())
    with pytest.raises(ShapeError, match="expects images"):
        cut.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ShapeError, match="decodes latents"):
        cut.decode(torch.zeros(1, 7))
