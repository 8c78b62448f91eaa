"""Reversible training: the gradients of plain autograd, from a memory that does not grow with depth."""

import weakref
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from tests.flows.networks import generator, mlp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from iin_lightning.flows import ActNorm, AffineCoupling, Chain, Permutation, RotationBlock, ShuffleBlock, Translator
from iin_lightning.flows.reversible import run_reversibly
from iin_lightning.serialization import build, describe

DIM = 6
Gradients = dict[str, Tensor]
Function = Callable[[Tensor], tuple[Tensor, Tensor]]


def twice() -> Chain:
    coupling = AffineCoupling(DIM, "first", mlp(8, 1))
    return Chain([coupling, Permutation([3, 4, 5, 0, 1, 2]), coupling])


CHAINS: dict[str, Callable[[], Chain]] = {
    "translator": lambda: Translator(DIM, n_blocks=3, hidden=16).blocks,
    "rotation block": lambda: RotationBlock(DIM, 16, 1, generator()),
    "chain in a chain": lambda: Chain([Chain([ActNorm(DIM)]), AffineCoupling(DIM, "second", mlp(8, 0))]),
    "one coupling twice": twice,
}


def latents(count: int = 32, seed: int = 1) -> Tensor:
    return 2 + 3 * torch.randn(count, DIM, dtype=torch.float64, generator=generator(seed))


@torch.no_grad()
def trained(module: nn.Module) -> nn.Module:
    """In float64, past its first batch, and with no parameter at zero."""
    module.double()(latents())
    noise = generator()
    for parameter in module.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    return module


def translator(**options: int) -> Translator:
    torch.manual_seed(0)
    return Translator(DIM, **{"n_blocks": 3, "hidden": 16, **options})


def scalar(y: Tensor, logdet: Tensor) -> Tensor:
    """Depends on both outputs, on each example in its own way."""
    weights = torch.linspace(1, 2, len(y), dtype=y.dtype)
    return (weights * (0.5 * y.square().sum(1) - logdet.exp().log1p())).mean()


def gradients(function: Function, module: nn.Module, z: Tensor) -> Gradients:
    module.zero_grad()
    z = z.clone().requires_grad_()
    scalar(*function(z)).backward()
    return of(module) | {"z": z.grad}


def of(module: nn.Module) -> Gradients:
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def distance(a: Gradients, b: Gradients) -> float:
    """Of all gradients together, relative to those of a."""
    assert a.keys() == b.keys()
    return (sum((a[k] - b[k]).square().sum() for k in a) / sum(v.square().sum() for v in a.values())).sqrt().item()


def switch(module: Translator, reversible: bool) -> Translator:
    module.reversible = reversible
    return module


def assert_same(actual: Gradients, expected: Gradients) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CHAINS)
def test_gradients_are_those_of_plain_autograd(name):
    chain = trained(CHAINS[name]())
    plain = gradients(chain, chain, latents())
    assert_same(gradients(lambda z: run_reversibly(chain, z), chain, latents()), plain)


@pytest.mark.parametrize("part", ["actnorm", "coupling_1", "coupling_2", "permutation"])
def test_rewinding_gives_the_input_back_and_keeps_no_graph(part):
    bijector, x = trained(ShuffleBlock(DIM, 16, 1, generator())).get_submodule(part), latents()
    y, logdet = bijector(x)
    x_again, grad_x, found = bijector.rewind(y.detach(), torch.ones_like(y), torch.ones_like(logdet))
    torch.testing.assert_close(x_again, x)
    assert not any(value.requires_grad for value in (x_again, grad_x, *found.values()))
    assert found.keys() == set(bijector.parameters())


def test_float32_loses_what_the_round_trip_does():
    module, z = translator(n_blocks=12), latents(64).float()
    module.initialize(z)
    plain = gradients(module, module, z)
    assert distance(plain, gradients(switch(module, True), module, z)) < 1e-5


def test_autocast_loses_less_by_it_than_by_itself():
    module, z = trained(translator()).float(), latents().float()
    exact = gradients(module, module, z)

    def low(z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return module(z)

    plain, outputs = gradients(low, module, z), low(z)
    switch(module, True)
    assert all(map(torch.equal, low(z), outputs))
    assert 0 < distance(plain, gradients(low, module, z)) < 0.5 * distance(exact, plain)


def test_backward_may_run_within_autocast():
    module, z = switch(trained(translator()).float(), True), latents().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = gradients(module, module, z)
        # Weights that were cast where gradients are off are not what others get.
        plain = gradients(switch(module, False), module, z)
    assert inside.keys() == plain.keys() == {"z", *dict(module.named_parameters())}


def test_the_first_batch_initialises_as_without():
    plain, reversible = translator().double(), switch(translator().double(), True)
    assert_same(gradients(reversible, reversible, latents()), gradients(plain, plain, latents()))
    assert reversible.ready
    torch.testing.assert_close(reversible.state_dict(), plain.state_dict())


@pytest.mark.parametrize("output", [0, 1], ids=["z_tilde", "logdet"])
def test_a_loss_may_use_one_output_alone(output):
    module = trained(translator())

    def only(z: Tensor) -> tuple[Tensor, Tensor]:
        outputs = module(z)
        return (outputs[0], torch.zeros(len(z))) if output == 0 else (torch.zeros_like(z), outputs[1])

    plain = gradients(only, module, latents())
    actual = gradients(only, switch(module, True), latents())
    # What no loss depends on has no gradient in one, and a gradient of zero in the other.
    assert_same({name: actual[name] for name in plain}, plain)
    assert not any(value.any() for name, value in actual.items() if name not in plain)


@pytest.mark.parametrize("frozen", ["log_scale", "blocks.2", "blocks"])
def test_frozen_parameters_get_no_gradient_and_the_others_theirs(frozen):
    module = trained(translator())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(frozen not in name)
    plain = gradients(module, module, latents())
    assert not any(frozen in name for name in plain)
    assert_same(gradients(switch(module, True), module, latents()), plain)
    if frozen == "blocks":
        assert not any(value.requires_grad for value in module(latents()))


def test_evaluation_can_be_differentiated_twice_and_training_says_that_it_cannot():
    module, z = switch(trained(translator()), True), latents().requires_grad_()

    def differentiate_twice() -> None:
        (first,) = torch.autograd.grad(scalar(*module(z)), z, create_graph=True)
        first.square().sum().backward()

    with pytest.raises(RuntimeError, match="differentiate twice"):
        differentiate_twice()
    module.eval()
    differentiate_twice()
    assert z.grad.any()


def test_parameters_changed_before_the_way_back_are_an_error():
    module = switch(trained(translator()), True)
    loss = scalar(*module(latents()))
    with torch.no_grad():
        next(module.parameters()).add_(1)  # as an optimizer would
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


class Box:
    """A tensor whose end can be waited for."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def peak_bytes(module: Translator) -> int:
    """What autograd keeps at the most in a training step, parameters left out."""
    parameters = {parameter.data_ptr() for parameter in module.parameters()}
    live = peak = 0

    def release(nbytes: int) -> None:
        nonlocal live
        live -= nbytes

    def pack(value: Tensor) -> Box:
        nonlocal live, peak
        box = Box(value)
        if value.data_ptr() not in parameters:
            live += value.nbytes
            peak = max(peak, live)
            weakref.finalize(box, release, value.nbytes)
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.value):
        scalar(*module(latents())).backward()
    return peak


def test_memory_does_not_grow_with_depth():
    plain, reversible = (
        [peak_bytes(trained(switch(translator(n_blocks=n), reversible))) for n in (2, 8)]
        for reversible in (False, True)
    )
    assert plain[1] > 3.5 * plain[0]
    assert reversible[1] == reversible[0] < plain[0]


def test_distributed_training_sees_all_gradients(tmp_path):
    module = trained(translator())
    plain = gradients(module, module, latents())
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        distributed = DistributedDataParallel(switch(module, True))
        for _ in range(2):  # the second raises if the first was not finished
            assert_same(gradients(distributed, module, latents()), plain)
    finally:
        dist.destroy_process_group()


def test_compiled_training_is_the_same():
    module = switch(trained(translator(n_blocks=1)), True)
    plain = gradients(module, module, latents())
    assert_same(gradients(torch.compile(module, backend="eager"), module, latents()), plain)


def test_a_saved_translator_knows_it():
    assert build(describe(translator(reversible=True))).reversible is True
