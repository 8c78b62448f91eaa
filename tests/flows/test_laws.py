"""What every bijection promises, for every bijection and size."""

import copy

import pytest
import torch
from tests.flows.networks import BIJECTORS, generator, mlp, residual, trained

from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.flows import AffineCoupling, Chain, Conditioner, Permutation, ResidualConditioner, Rotation

every_bijector = pytest.mark.parametrize("name", BIJECTORS)


@pytest.mark.parametrize("dim", [2, 5, 129])
@every_bijector
def test_inverse_undoes_forward_and_logdets_cancel(name, dim):
    bijector = trained(name, dim)
    for batch in (1, 2, 25):
        for there, back in ((bijector, bijector.inverse), (bijector.inverse, bijector)):
            x = torch.randn(batch, dim)
            y, logdet = there(x)
            x_again, logdet_back = back(y)
            assert y.shape == x.shape
            assert logdet.shape == logdet_back.shape == (batch,)
            assert (x_again - x).abs().max() < 1e-4
            torch.testing.assert_close(logdet_back, -logdet, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dim", [2, 5])
@every_bijector
def test_logdet_is_that_of_the_autograd_jacobian(name, dim):
    bijector = trained(name, dim).double()
    x = torch.randn(3, dim, dtype=torch.float64)
    for direction in (bijector, bijector.inverse):
        _, logdet = direction(x)
        # Examples do not depend on each other, so the sum over the batch keeps their Jacobians apart.
        jacobian = torch.autograd.functional.jacobian(lambda v, to=direction: to(v)[0].sum(0), x)
        expected = torch.linalg.slogdet(jacobian.transpose(0, 1)).logabsdet
        torch.testing.assert_close(logdet, expected)


@every_bijector
def test_an_example_does_not_depend_on_its_batch_and_neither_on_the_mode(name):
    bijector, x = trained(name, 5), torch.randn(25, 5)
    outputs = bijector(x)
    for whole, alone in zip(outputs, bijector(x[7:8])):
        torch.testing.assert_close(alone, whole[7:8])
    assert all(map(torch.equal, outputs, bijector.train()(x)))


@every_bijector
def test_gradients_reach_all_parameters_and_the_input(name):
    for dim in (2, 64):
        bijector, x = trained(name, dim), torch.randn(25, dim, requires_grad=True)
        y, logdet = bijector(x)
        (y.square() @ torch.linspace(1, 2, dim) - logdet).mean().backward()  # a rotation changes no norm
        assert x.grad.abs().sum(0).min() > 0
        for parameter_name, parameter in bijector.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name


@every_bijector
def test_a_copy_agrees_and_does_not_initialise_again(name):
    original, x = trained(name, 5), torch.randn(4, 5)
    fresh = BIJECTORS[name](5)
    fresh.load_state_dict(original.state_dict())
    for made in (fresh, copy.deepcopy(original)):
        made.train()(100 + 7 * torch.randn(25, 5))  # a first training batch of other statistics
        for key, value in original.state_dict().items():
            assert torch.equal(made.state_dict()[key], value), key
        assert torch.equal(made(x)[0], original(x)[0])


@pytest.mark.parametrize("name", ["permutation", "translator", "paper"])
def test_a_bijection_prints_itself_in_a_few_lines(name):
    lines = repr(BIJECTORS[name](64)).splitlines()
    assert lines[0].startswith(type(BIJECTORS[name](64)).__name__)
    assert max(map(len, lines)) < 100
    assert len(lines) < 60


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


def test_s_and_t_are_mlps_of_their_own():
    conditioner = Conditioner(3, 4, hidden=16, depth=2)
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
    coupling, x = AffineCoupling(5, "first", residual(16, 1)), torch.randn(4, 5)
    y, logdet = coupling(x)
    assert torch.equal(y, x)
    assert torch.equal(logdet, torch.zeros(4))


@pytest.mark.parametrize("dim", [1, 2, 64])
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
