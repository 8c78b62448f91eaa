"""Laws of a network that is cut: E and G make up the network bit for bit, and it stays as it was."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.encoders.awkward import (
    Apart,
    Branches,
    Buffers,
    Codes,
    Dice,
    Memory,
    Mixed,
    Skip,
    Unread,
    Untraceable,
    quick,
)
from torch import fx, nn
from torchvision import models

from iin_lightning import serialization
from iin_lightning.encoders import PCA, Autoencoder, Classifier, Cut, Frozen, Pool, layers
from iin_lightning.encoders.taps import tapped
from iin_lightning.errors import ConfigError, ShapeError

SIZE = 32
PROJECTS = {"image_size": SIZE, "latent_dim": 6, "width": 4, "norm": "batch"}


class Darker(nn.Module):
    def forward(self, x):
        return 0.5 * x - 0.5


def channels_last():
    return quick(models.squeezenet1_1).to(memory_format=torch.channels_last)


GRAPH, RERUN, BYPASSED = "graph", "rerun", "bypassed"
SMALL = {
    "squeezenet": (lambda: quick(models.squeezenet1_1), "features.7", GRAPH, {}),
    "channels_last": (channels_last, "features.6.squeeze", GRAPH, {}),
    "mobilenet": (lambda: quick(models.mobilenet_v3_small), "features.5", GRAPH, {"preprocess": Darker()}),
    "mobilenet-bypassed": (lambda: quick(models.mobilenet_v3_small), "features.5.block.1.0", BYPASSED, {}),
    "autoencoder": (lambda: Autoencoder(**PROJECTS), "trunk", RERUN, {"output": "image"}),
    "classifier": (lambda: Classifier(3, **PROJECTS), "to_latent", RERUN, {}),
    "stem": (Branches, "stem", GRAPH, {}),
    "merge": (Branches, "merge", GRAPH, {}),
    "left": (Branches, "left", BYPASSED, {}),
    "last": (Branches, "head", GRAPH, {}),
    "untraceable": (Untraceable, "body", RERUN, {"preprocess": Darker()}),
    "untraceable-skip": (lambda: Untraceable(skip=True), "body", BYPASSED, {}),
    "zero-head": (lambda: Untraceable(skip=True, zero_head=True), "body", BYPASSED, {}),
    "memory": (Memory, "middle", BYPASSED, {}),
    "unread": (Unread, "act", BYPASSED, {}),
    "skip": (Skip, "skip", BYPASSED, {}),
    "buffers": (Buffers, "stem", GRAPH, {}),
    "makes-tensors": (lambda: Buffers(makes=True), "stem", RERUN, {}),
    "mixed": (Mixed, "1", GRAPH, {}),
}
LARGE = {
    "resnet18-avgpool": (lambda: quick(models.resnet18), "avgpool", GRAPH, {}),
    "resnet18-layer3": (lambda: quick(models.resnet18), "layer3", GRAPH, {}),
    "resnet18-bypassed": (lambda: quick(models.resnet18), "layer4.0.conv1", BYPASSED, {}),
    "resnet50": (lambda: quick(models.resnet50), "avgpool", GRAPH, {}),
    "densenet121": (lambda: quick(models.densenet121), "features.denseblock4", GRAPH, {}),
    "vgg11": (lambda: quick(models.vgg11), "features.10", GRAPH, {}),
    "vit_b_16": (lambda: quick(models.vit_b_16, image_size=SIZE), "encoder.layers.encoder_layer_8", GRAPH, {}),
    "efficientnet_b0": (lambda: quick(models.efficientnet_b0), "features.6", GRAPH, {}),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(n=3):
    return torch.rand(n, 3, SIZE, SIZE) * 2 - 1


def cut(case):
    build, layer, way, options = case
    network = build().eval()
    return Cut(network, layer, image_size=SIZE, **options), way


def plain(split, x):
    return split.network(x if split.preprocess is None else split.preprocess(x))


def every(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@every(SMALL | LARGE)
@torch.no_grad()
def test_both_halves_are_the_network_bit_for_bit(case):
    split, way = cut(case)
    x = images()
    z, expected = split.encode(x).mean, plain(split, x)
    before = z.clone()
    assert z.shape == (3, split.latent_dim)
    assert split.resume(z, split.complement(x)).equal(expected)
    assert z.equal(before)  # whatever works in place behind the layer
    assert split.bypassed == (way == BYPASSED)
    assert not split.encode(x).scale.any()
    if way != BYPASSED:
        assert (split._remainder is not None) == (way == GRAPH)
        assert split.complement(x) is None
        assert split.decode(z).equal(expected)
        assert split(x).equal(expected)
        assert split.decode(z[:1]).shape == expected[:1].shape


@every(SMALL)
def test_the_network_is_left_as_it_was(case):
    build, layer, _, options = case
    network = build()
    network.train()
    first = next(module for module in network.modules() if not list(module.children()))
    first.training = False
    modes = [module.training for module in network.modules()]
    values, hooks = copy.deepcopy(network.state_dict()), [dict(m._forward_hooks) for m in network.modules()]
    attributes = [set(vars(m)) for m in network.modules()]
    state = torch.get_rng_state()
    split = Cut(network, layer, image_size=SIZE, **options)
    assert torch.get_rng_state().equal(state)
    if layer != "middle":  # Memory keeps more the first time
        assert [set(vars(m)) for m in network.modules()] == attributes
    assert not any(isinstance(value, fx.Proxy) for m in network.modules() for value in vars(m).values())
    assert [module.training for module in network.modules()] == modes
    network.eval()
    x = images()
    split.resume(split.encode(x).mean, split.complement(x))
    assert [dict(m._forward_hooks) for m in network.modules()] == hooks
    assert {name.removeprefix("network.") for name in split.state_dict()} == set(values)
    assert all(value.equal(values[name]) for name, value in network.state_dict().items())


@every(SMALL)
@torch.no_grad()
def test_weights_that_come_later_are_those_that_count(case):
    split, _ = cut(case)
    for value in split.network.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    x = images()
    assert split.resume(split.encode(x).mean, split.complement(x)).equal(plain(split, x))


def test_an_exception_leaves_no_hook():
    network = Untraceable(skip=True).eval()
    split = Cut(network, "body", image_size=SIZE)
    x = images()
    z = split.encode(x).mean
    network.fail = True
    split.encode(x)  # ends before
    with pytest.raises(RuntimeError, match="behind the layer"):
        split.resume(z, x)
    with pytest.raises(ZeroDivisionError), tapped(network.body, lambda output: 1 / 0):
        network(x)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("case", ["squeezenet", "merge", "mobilenet"])
def test_only_the_half_that_is_asked_for_is_computed(case):
    split, _ = cut(SMALL[case])
    x, calls = images(), []
    parts = [module for module in split.network.modules() if not list(module.children())]
    z = split.encode(x).mean
    for module in (parts[0], parts[-1]):
        module.register_forward_hook(lambda module, *_: calls.append(module))
    split.decode(z)
    assert calls == [parts[-1]]
    calls.clear()
    split.encode(x)
    assert calls == [parts[0]]


@pytest.mark.parametrize("case", ["squeezenet", "merge", "classifier", "untraceable"])
def test_gradients_reach_z_alone(case):
    split, _ = cut(SMALL[case])
    frozen, x = Frozen(split), images(2)
    z = frozen.encode(x).mean.requires_grad_()
    (gradient,) = torch.autograd.grad(frozen.decode(z).square().sum(), z)
    assert gradient.any()
    assert all(parameter.grad is None for parameter in split.parameters())
    # The network's own gradient at the layer is the same.
    leaves = []

    def cut_here(output):
        leaves.append(output.detach().requires_grad_())
        return leaves[0].clone()  # what follows may work in place

    with tapped(split.network.get_submodule(split.layer), cut_here):
        (expected,) = torch.autograd.grad(plain(split, x).square().sum(), leaves)
    torch.testing.assert_close(gradient, expected.flatten(1))


@pytest.mark.parametrize("case", ["squeezenet", "channels_last", "classifier", "merge", "untraceable"])
@torch.no_grad()
def test_a_copy_is_a_network_of_its_own(case):
    split, _ = cut(SMALL[case])
    x = images()
    expected = split(x)
    twin, pickled = copy.deepcopy(split), pickle.loads(pickle.dumps(split))
    for parameter in split.parameters():
        parameter.fill_(0.0)
    assert twin(x).equal(expected)
    assert pickled(x).equal(expected)
    assert not split(x).equal(expected)


def test_hooks_and_modes_of_the_users_are_respected():
    split, _ = cut(SMALL["merge"])
    x = images()
    z = split.encode(x).mean
    handle = split.network.register_forward_hook(lambda _module, _inputs, output: output + 1)
    assert split.decode(z).equal(split.network(x))
    handle.remove()
    calls = []
    handle = split.network.register_full_backward_pre_hook(lambda *_: calls.append(None))
    split.decode(z.detach().requires_grad_()).sum().backward()
    assert calls
    handle.remove()
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(3600, 3)).eval()
    handle = network[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    split = Cut(network, "0.0", image_size=SIZE)
    z = split.encode(x).mean
    assert split.decode(z).equal(network(x))
    handle.remove()
    assert split.decode(z).equal(network(x))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3600, 3)).eval()
    split = Cut(network, "0", image_size=SIZE)
    z = split.encode(x).mean
    network.train()
    assert not split.decode(z).equal(split.decode(z))


def test_what_was_stored_answers_alike(tmp_path):
    torch.manual_seed(1)
    split = Cut(Classifier(3, **PROJECTS), "trunk", image_size=SIZE, preprocess=Darker(), reduction=PCA(4)).eval()
    split.fit_reduction([images(8)])
    serialization.save(split, tmp_path, {"network": serialization.describe(split)})
    torch.manual_seed(2)
    restored = serialization.load(tmp_path)
    x = images()
    assert restored.encode(x).mean.equal(split.encode(x).mean)
    assert restored(x).equal(split(x))
    assert restored.reduction.explained.equal(split.reduction.explained)


def test_threads_do_not_meet():
    split, _ = cut(SMALL["untraceable"])
    bypassed, _ = cut(SMALL["left"])
    x = images(4).split(1)
    expected = [(split.encode(part).mean, plain(split, part), plain(bypassed, part)) for part in x]

    def ask(i):
        for _ in range(30):
            z = split.encode(x[i]).mean
            assert z.equal(expected[i][0])
            assert split.decode(z).equal(expected[i][1])
            assert bypassed(x[i]).equal(expected[i][2])

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, i) for i in range(4)]
        while not all(future.done() for future in asked):
            cut(SMALL["merge"])  # traced meanwhile
        for future in asked:
            future.result()
    assert not any(module._forward_hooks for module in [*split.modules(), *bypassed.modules()])


@pytest.mark.parametrize("layer", ["features.6.squeeze", "features.12", "classifier.3"])
@torch.no_grad()
def test_what_is_written_back_lies_as_it_lay(layer):
    split = Cut(channels_last(), layer, image_size=SIZE)
    x, given = images(), []
    with tapped(split.network.get_submodule(layer), lambda output: given.append(output.clone())):
        split.network(x)
    written = split.activation_of(split.encode(x).mean)
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
    assert [layer.name for layer in layers(network, images(1)) if layer.passes_all] == ["stem", "head"]
    with torch.inference_mode():
        assert [layer.name for layer in layers(network, images(1)) if layer.passes_all] == ["stem", "head"]


WRONG = {
    "no such layer": (Branches, "stme", ConfigError, r"no layer 'stme'.*stem.*did you mean stem\?"),
    "never called": (Branches, "spare", ConfigError, "called 0 times"),
    "called twice": (Branches, "twice", ConfigError, r"called 2 times.*merge \(before it\).*head \(behind it\)"),
    "shared": (lambda: quick(models.resnet18), "layer4.0.relu", ConfigError, r"2 times.*layer3 .*layer4\.0 "),
    "tuple": (Branches, "pair", ConfigError, "gives a tuple, not a tensor"),
    "whole numbers": (Codes, "1", ConfigError, "gives torch.int64, not real numbers"),
    "not deterministic": (Dice, "stem", ConfigError, "two answers to the same images"),
    "no batch": (Apart, "tokens", ShapeError, r"gives \(3, 2, 32, 32\) for 2 images"),
    "dictionary": (lambda: Apart(apart=False), "head", ConfigError, "gives a dict, not a tensor"),
}


@every(WRONG)
def test_what_is_no_place_to_cut_is_refused(case):
    build, layer, error, text = case
    network = build().train()
    with pytest.raises(error, match=text):
        Cut(network, layer, image_size=SIZE)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_bypassed_layer_needs_the_images():
    split, _ = cut(LARGE["resnet18-bypassed"])
    z = split.encode(images()).mean
    with pytest.raises(ConfigError, match=r"more than this layer.*layer3 \(before it\) and layer4\.0 \(behind it\)"):
        split.decode(z)
    with pytest.raises(ShapeError, match="3 latents and complements of 2"):
        split.resume(z, images(2))
    with pytest.raises(ConfigError, match="no way back"):
        Cut(split.network, "layer4.0.conv1", image_size=SIZE, reduction=Pool())


def test_wrong_shapes_are_refused():
    split, _ = cut(SMALL["merge"])
    with pytest.raises(ShapeError, match="expects images"):
        split.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ShapeError, match="decodes latents"):
        split.decode(torch.zeros(1, 7))
