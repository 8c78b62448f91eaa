"""An interpreter within somebody's own network: it reads, and changes what an edit names."""

import threading

import pytest
import torch
from tests.encoders.awkward import Branches, Untraceable

from iin_lightning import progress
from iin_lightning.encoders import PCA, Classifier, Cut, Pool
from iin_lightning.errors import ConfigError, FactorError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter

SIZE = 16


def interpret(encoder, gray=2):
    translator = Translator(encoder.latent_dim, n_blocks=2, hidden=16)
    translator.initialize(torch.randn(64, encoder.latent_dim))
    factors = Factors({"residual": encoder.latent_dim - gray, "gray": gray}, encoder.latent_dim)
    return Interpreter(encoder, translator, factors).eval()


CUTS = {
    "whole": lambda: Cut(Branches(), "merge", image_size=SIZE),
    "pool": lambda: Cut(Branches(), "merge", image_size=SIZE, reduction=Pool()),
    "pca": lambda: Cut(Branches(), "merge", image_size=SIZE, reduction=PCA(6)),
    "bypassed": lambda: Cut(Branches(), "left", image_size=SIZE),
    "rerun": lambda: Cut(Untraceable(), "body", image_size=SIZE, reduction=Pool()),
}


@pytest.fixture(params=[name for name in CUTS if name != "rerun"])  # which compiles, and so is slow
def interpreter(request):
    torch.manual_seed(0)
    split = CUTS[request.param]()
    split.fit_reduction([images(24)])
    return interpret(split)


@pytest.fixture
def network(interpreter):
    return interpreter.encoder.encoder.network


def images(n=3):
    return torch.rand(n, 3, SIZE, SIZE) * 2 - 1


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def layer_of(interpreter):
    return interpreter.encoder.encoder.layer


def test_reading_activations_says_how_far_it_is_and_what_comes_then(monkeypatch):
    heard = []
    monkeypatch.setattr(progress, "listeners", [lambda *said: heard.append(said[:3])])
    Cut(Branches(), "merge", image_size=SIZE, reduction=PCA(6)).fit_reduction([images(10) for _ in range(4)])
    assert heard == [
        *(("Reading activations", done, 24) for done in (10, 20, 24)),
        ("Finding 6 principal components", 0, 0),
    ]


def test_an_edit_of_nothing_leaves_the_logits(interpreter, network):
    x, source = images(), images()
    expected = network(x).detach()
    close(interpreter.reconstruct(x), expected)
    close(interpreter.swap(x, source, []), expected)


def test_walks_begin_and_end_at_the_two_images(interpreter, network):
    a, b = images(), images()
    walk = interpreter.interpolate(a, b, steps=3)
    close(walk[0], network(a).detach())
    close(walk[-1], network(b).detach())


def test_reading_changes_nothing(interpreter, network):
    x = images()
    expected = network(x)
    with interpreter.attach(network, layer_of(interpreter)) as attached:
        assert attached.factors == {}
        assert network(x).equal(expected)
    close(attached.factors["gray"].detach(), interpreter.factors_of(x)["gray"].detach())
    with interpreter.attach(network, layer_of(interpreter), edit=lambda factors: {}):
        assert network(x).equal(expected)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("interpreter", CUTS, indirect=True)
def test_an_edit_within_is_an_edit_from_outside(interpreter, network):
    x = images()
    new = {"gray": torch.full((3, 2), 1.5)}
    with interpreter.attach(network, layer_of(interpreter), edit=lambda factors: new) as attached:
        logits = network(x)
    assert not torch.allclose(logits, network(x), atol=1e-4)
    close(logits.detach(), interpreter.edit(x, new))
    close(attached.factors["gray"].detach(), interpreter.factors_of(x)["gray"].detach())  # those before it
    expected = network(x)
    with interpreter.attach(network, layer_of(interpreter), edit=lambda factors: {"gray": factors["gray"]}):
        close(network(x), expected)


def test_an_edit_changes_the_named_factor_alone(interpreter, network):
    x = images()
    writes = interpreter.attach(network, layer_of(interpreter), edit=lambda factors: {"gray": 2 + 0 * factors["gray"]})
    # The second one sees what the first one wrote.
    with writes, interpreter.attach(network, layer_of(interpreter)) as after:
        network(x)
    close(after.factors["gray"], torch.full((3, 2), 2.0))
    close(after.factors["residual"].detach(), interpreter.factors_of(x)["residual"].detach())


def test_gradients_say_how_the_logits_go_with_a_factor(interpreter, network):
    x, step = images(), 1e-2
    leaf = {}

    def watch(factors):
        leaf["gray"] = factors["gray"].detach().requires_grad_()
        return leaf

    with interpreter.attach(network, layer_of(interpreter), edit=watch):
        logits = network(x)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), leaf["gray"])
    value = leaf["gray"].detach()
    ends = [interpreter.edit(x, {"gray": value + s * gradient})[:, 0].sum() for s in (-step, step)]
    expected = 2 * step * gradient.square().sum()
    assert expected > 0
    torch.testing.assert_close(ends[1] - ends[0], expected, rtol=0.1, atol=1e-5)


def test_another_threads_pass_is_left_alone():
    torch.manual_seed(0)
    network = Untraceable().eval()
    interpreter = interpret(Cut(network, "body", image_size=SIZE, reduction=Pool()))
    x = images()
    expected, other = network(x), []
    with interpreter.attach(network, "body", edit=lambda factors: {"gray": 5 + 0 * factors["gray"]}) as attached:
        thread = threading.Thread(target=lambda: other.append(network(x)))
        thread.start()
        thread.join()
        assert not attached.factors
        assert not network(x).equal(expected)
    assert other[0].equal(expected)


def test_a_stored_interpreter_of_a_split_answers_alike(tmp_path):
    torch.manual_seed(0)
    network = Classifier(3, image_size=SIZE, latent_dim=8, width=4, norm="batch")
    split = Cut(network, "trunk", image_size=SIZE, reduction=PCA(6))
    split.fit_reduction([images(24)])
    interpreter = interpret(split)
    interpreter.save_pretrained(tmp_path)
    restored = Interpreter.from_pretrained(tmp_path)
    target, source = images(), images()
    assert restored.swap(target, source, ["gray"]).equal(interpreter.swap(target, source, ["gray"]))


def test_an_encoder_that_is_no_split_explains_a_layer_of_as_many_numbers():
    torch.manual_seed(0)
    network = Classifier(3, image_size=SIZE, latent_dim=8, width=4, norm="batch").eval()
    interpreter = interpret(network)
    x, new = images(), {"gray": torch.ones(3, 2)}
    with interpreter.attach(network, "to_latent", edit=lambda factors: new):
        close(network(x).detach(), interpreter.edit(x, new))
    with pytest.raises(ShapeError, match=r"explains \(B, 8\)"), interpreter.attach(network, "head"):
        network(x)


def test_what_does_not_fit_is_refused():
    torch.manual_seed(0)
    network = Branches().eval()
    interpreter = interpret(Cut(network, "merge", image_size=SIZE))
    with pytest.raises(ConfigError, match="did you mean merge"), interpreter.attach(network, "mergee"):
        pass
    with pytest.raises(ConfigError, match="gives a tuple"), interpreter.attach(network, "pair"):
        network(images())
    with pytest.raises(ShapeError, match=r"explains \(B, 6, 8, 8\)"), interpreter.attach(network, "stem"):
        network(images())
    edit = {"grey": torch.zeros(3, 2)}
    with pytest.raises(FactorError, match="gray"), interpreter.attach(network, "merge", edit=lambda _: edit):
        network(images())
    assert not any(module._forward_hooks for module in network.modules())
