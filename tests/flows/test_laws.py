"""What every bijection promises, for every bijection and size."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests.flows.networks import mlp

from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.flows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Conditioner,
    Inverse,
    PaperTranslator,
    Permutation,
    ResidualConditioner,
    Rotation,
    RotationBlock,
    ShuffleBlock,
    Translator,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


BIJECTORS: dict[str, Callable[[int], Bijector]] = {
    "actnorm": ActNorm,
    "coupling_first": lambda n: AffineCoupling(n, "first", mlp(16, 1)),
    "coupling_second": lambda n: AffineCoupling(n, "second", mlp(16, 0)),
    "permutation": lambda n: Permutation.random(n, generator()),
    "rotation": lambda n: Rotation(n, generator()),
    "coupling_residual": lambda n: AffineCoupling(n, "first", partial(ResidualConditioner, hidden=16, depth=2)),
    "block": lambda n: RotationBlock(n, 16, 1, generator()),
    "shuffle_block": lambda n: ShuffleBlock(n, 16, 2, generator()),
    "chain": lambda n: Chain([ActNorm(n), Inverse(AffineCoupling(n, "second", mlp(16, 1))), ActNorm(n)]),
    "translator": lambda n: Translator(n, n_blocks=3, hidden=32),
    "paper": lambda n: PaperTranslator(n, n_blocks=3, hidden=32),
    "reversible": lambda n: Translator(n, n_blocks=3, hidden=32, reversible=True),
    "inverse": lambda n: Inverse(Translator(n, n_blocks=2, hidden=16, seed=1)),
}
SIZES = [2, 5, 63, 64, 513]
BATCHES = [1, 2, 25]


def trained(name: str, dim: int) -> Bijector:
    """A bijection as training would leave it: nothing is zero, nothing waits for a first batch.

    With twice the noise, three blocks stretch some directions 300-fold, which float32 cannot undo to 1e-4,
    whatever the code.
    """
    torch.manual_seed(dim)
    bijector = BIJECTORS[name](dim)
    bijector.train()
    forward = bijector.bijector if isinstance(bijector, Inverse) else bijector
    forward(torch.randn(64, dim))
    with torch.no_grad():
        for parameter in bijector.parameters():
            fan_in = 10 if parameter.ndim == 1 else parameter.shape[-2]
            parameter.add_(0.5 * torch.randn_like(parameter) / fan_in**0.5)
    return bijector.eval()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("name", BIJECTORS)
def test_inverse_undoes_forward_and_logdets_cancel(name, dim, batch):
    bijector, x = trained(name, dim), torch.randn(batch, dim)
    y, logdet = bijector(x)
    x_again, logdet_back = bijector.inverse(y)
    assert y.shape == x.shape
    assert logdet.shape == logdet_back.shape == (batch,)
    assert (x_again - x).abs().max() < 1e-4
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("name", BIJECTORS)
def test_forward_undoes_inverse_and_logdets_cancel(name, dim, batch):
    bijector, y = trained(name, dim), torch.randn(batch, dim)
    x, logdet_back = bijector.inverse(y)
    y_again, logdet = bijector(x)
    assert (y_again - y).abs().max() < 1e-4
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dim", [2, 5, 16])
@pytest.mark.parametrize("name", BIJECTORS)
def test_logdet_is_that_of_the_autograd_jacobian(name, dim):
    bijector = trained(name, dim).double()
    x = torch.randn(3, dim, dtype=torch.float64)
    for direction in (bijector, bijector.inverse):
        _, logdet = direction(x)
        # Examples do not depend on each other, so the sum over the batch keeps their Jacobians apart.
        jacobian = torch.autograd.functional.jacobian(lambda v, to=direction: to(v)[0].sum(0), x)
        expected = torch.linalg.slogdet(jacobian.transpose(0, 1)).logabsdet
        torch.testing.assert_close(logdet, expected)


@pytest.mark.parametrize("name", BIJECTORS)
def test_an_example_does_not_depend_on_its_batch(name):
    bijector, x = trained(name, 5), torch.randn(25, 5)
    y, logdet = bijector(x)
    y_alone, logdet_alone = bijector(x[7:8])
    torch.testing.assert_close(y_alone, y[7:8])
    torch.testing.assert_close(logdet_alone, logdet[7:8])


@pytest.mark.parametrize("name", BIJECTORS)
@pytest.mark.parametrize("dim", [2, 5, 64])
def test_gradients_reach_all_parameters_and_the_input(name, dim):
    bijector, x = trained(name, dim), torch.randn(25, dim, requires_grad=True)
    y, logdet = bijector(x)
    (y.square() @ torch.linspace(1, 2, dim) - logdet).mean().backward()  # a rotation changes no norm
    assert x.grad is not None
    assert x.grad.abs().sum(0).min() > 0
    for parameter_name, parameter in bijector.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", BIJECTORS)
def test_training_mode_equals_evaluation_mode(name):
    bijector, x = trained(name, 5), torch.randn(25, 5)
    for evaluated, in_training in zip(bijector(x), bijector.train()(x)):
        assert torch.equal(evaluated, in_training)


@pytest.mark.parametrize("copied", [False, True], ids=["state_dict", "deepcopy"])
@pytest.mark.parametrize("name", BIJECTORS)
def test_a_copy_agrees_and_does_not_initialise_again(name, copied):
    original = trained(name, 5)
    torch.manual_seed(1)
    copy_ = copy.deepcopy(original) if copied else BIJECTORS[name](5)
    copy_.load_state_dict(original.state_dict())
    copy_.train()(100 + 7 * torch.randn(25, 5))  # a first training batch of other statistics
    for key, value in original.state_dict().items():
        assert torch.equal(copy_.state_dict()[key], value), key
    x = torch.randn(4, 5)
    assert torch.equal(copy_(x)[0], original(x)[0])


@pytest.mark.parametrize("name", BIJECTORS)
def test_the_inverse_of_the_inverse_is_the_bijection(name):
    bijector, x = trained(name, 5), torch.randn(4, 5)
    twice = Inverse(Inverse(bijector))
    assert torch.equal(twice(x)[0], bijector(x)[0])
    assert torch.equal(twice.inverse(x)[1], bijector.inverse(x)[1])


@pytest.mark.parametrize("name", BIJECTORS)
def test_a_bijection_prints_itself_in_a_few_lines(name):
    text = repr(BIJECTORS[name](64))
    assert text.startswith(type(BIJECTORS[name](64)).__name__)
    assert max(map(len, text.splitlines())) < 100
    assert len(text.splitlines()) < 60


def test_the_log_determinants_of_a_chain_add_up():
    parts = [trained(name, 5) for name in ("actnorm", "coupling_first", "coupling_second")]
    y, total = torch.randn(4, 5), torch.zeros(4)
    chained = Chain(parts)(y)
    for part in parts:
        y, logdet = part(y)
        total = total + logdet
    torch.testing.assert_close(chained, (y, total))


def test_a_bijection_may_come_twice_in_a_chain():
    turn, x = Permutation([1, 2, 0]), torch.randn(4, 3)
    chain = Chain([turn, turn])
    assert len(chain) == 2
    assert torch.equal(chain(x)[0], turn(turn(x)[0])[0])
    assert torch.equal(chain.inverse(chain(x)[0])[0], x)


def test_a_coupling_leaves_its_condition_alone_and_bounds_its_scale():
    x = torch.randn(25, 5)
    for transformed, kept in (("second", slice(0, 2)), ("first", slice(2, 5))):
        coupling = AffineCoupling(5, transformed, mlp(16, 1))
        for weight in coupling.conditioner.weights:
            weight.data.mul_(100)
        y, logdet = coupling(x)
        assert torch.equal(y[:, kept], x[:, kept])
        assert logdet.abs().max() <= (3 if transformed == "second" else 2)


def test_each_head_of_a_conditioner_is_its_own_mlp():
    conditioner = Conditioner(3, 4, hidden=16, depth=2, heads=3)
    x = torch.randn(7, 3)
    for head, output in enumerate(conditioner(x)):
        layers: list[torch.nn.Module] = []
        for weight, bias in zip(conditioner.weights, conditioner.biases):
            linear = torch.nn.Linear(*weight.shape[1:])
            linear.weight.data, linear.bias.data = weight[head].T, bias[head]
            layers += [linear, torch.nn.LeakyReLU(0.01)]
        torch.testing.assert_close(torch.nn.Sequential(*layers[:-1])(x), output)


def test_a_conditioner_starts_as_linear_layers_do():
    conditioner = Conditioner(100, 50, hidden=400, depth=1)
    for weight, bias in zip(conditioner.weights, conditioner.biases):
        linear = torch.nn.Linear(*weight.shape[1:])
        for ours, theirs in ((weight, linear.weight), (bias, linear.bias)):
            assert ours.abs().max() <= linear.in_features**-0.5
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.2)


def test_residual_networks_start_at_the_identity():
    coupling, x = AffineCoupling(5, "first", partial(ResidualConditioner, hidden=16, depth=1)), torch.randn(4, 5)
    y, logdet = coupling(x)
    assert torch.equal(y, x)
    assert torch.equal(logdet, torch.zeros(4))


@pytest.mark.parametrize("dim", [1, 2, 5, 64])
def test_a_rotation_starts_as_one_and_depends_on_its_generator_alone(dim):
    rotation, x = Rotation(dim, generator()), torch.randn(7, dim)
    y, logdet = rotation(x)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(logdet, torch.zeros(7))
    assert torch.equal(Rotation(dim, generator())(x)[0], y)
    assert dim == 1 or not torch.allclose(Rotation(dim, generator(1))(x)[0], y)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: AffineCoupling(1, "first", mlp(8, 1)), ShapeError, "at least 2 dimensions.*dim=1"),
        (lambda: AffineCoupling(4, "frist", mlp(8, 1)), ConfigError, "'frist'.*did you mean first"),
        (lambda: Conditioner(2, 2, hidden=0, depth=1), ConfigError, "hidden=0"),
        (lambda: Conditioner(2, 2, hidden=8, depth=-1), ConfigError, "depth=-1"),
        (lambda: ResidualConditioner(2, 2, hidden=0, depth=1), ConfigError, "hidden=0"),
        (lambda: Rotation(0, generator()), ShapeError, "dim=0"),
        (lambda: Permutation([0, 2, 2]), ShapeError, r"each of 0, ..., N-1 once, got \[0, 2, 2\]"),
        (lambda: Permutation([[0, 1]]), ShapeError, "once"),
    ],
)
def test_impossible_arguments_are_named(build, error, text):
    with pytest.raises(error, match=text):
        build()
