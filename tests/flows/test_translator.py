"""The translators: their size, its outer door, its start, and what it says when it fails."""

import pytest
import torch

from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError
from iin_lightning.flows import PaperTranslator, Translator


def test_the_sizes_of_the_papers_are_the_papers():
    translator = PaperTranslator(64)
    assert (translator.n_blocks, translator.hidden, translator.depth) == (12, 512, 2)
    assert sum(parameter.numel() for parameter in translator.parameters()) == 26_815_488


def test_log_prob_is_the_change_of_variables():
    translator, z = Translator(5, n_blocks=2, hidden=16), torch.randn(8, 5)
    z_tilde, logdet = translator(z)
    base = torch.distributions.MultivariateNormal(torch.zeros(5), torch.eye(5))
    torch.testing.assert_close(translator.log_prob(z), base.log_prob(z_tilde) + logdet)


def test_the_density_integrates_to_one():
    torch.manual_seed(0)
    translator = Translator(2, n_blocks=2, hidden=16).eval()
    axis = torch.linspace(-12, 12, 401)
    grid = torch.cartesian_prod(axis, axis)
    mass = translator.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_the_seed_alone_decides_the_permutations():
    torch.manual_seed(0)
    first = PaperTranslator(16, n_blocks=2, hidden=4, seed=3)
    after = torch.randn(1)
    torch.manual_seed(0)
    other = PaperTranslator(16, n_blocks=2, hidden=4, seed=4)
    assert torch.equal(after, torch.randn(1))
    torch.manual_seed(1)
    same = PaperTranslator(16, n_blocks=2, hidden=4, seed=3)

    def permutations(translator):
        return [value for key, value in translator.state_dict().items() if key.endswith("index")]

    assert all(map(torch.equal, permutations(first), permutations(same)))
    assert not any(map(torch.equal, permutations(first), permutations(other)))
    assert not torch.equal(*permutations(first))


def test_arguments_are_kept_by_name():
    given = {"dim": 5, "n_blocks": 2, "hidden": 8, "depth": 1, "seed": 9, "reversible": True}
    for kind in (Translator, PaperTranslator):
        translator = kind(**given)
        assert {name: getattr(translator, name) for name in given} == given


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 5, 1, 1)])
@pytest.mark.parametrize("direction", ["forward", "inverse", "log_prob", "initialize"])
def test_a_wrong_shape_is_named(direction, shape):
    translator = Translator(5, n_blocks=1, hidden=8)
    with pytest.raises(ShapeError, match=rf"\(B, 5\), got \({', '.join(map(str, shape))}"):
        getattr(translator, direction)(torch.zeros(shape))
    assert translator.training


def test_impossible_sizes_are_named():
    with pytest.raises(ShapeError, match="at least 2 dimensions, got dim=1"):
        Translator(1)
    with pytest.raises(ConfigError, match="n_blocks=0"):
        Translator(4, n_blocks=0)
    with pytest.raises(ConfigError, match="hidden=0"):
        Translator(4, n_blocks=1, hidden=0)


@pytest.mark.parametrize("training", [True, False])
def test_initialize_sets_every_actnorm_and_keeps_the_mode(training):
    translator = Translator(5, n_blocks=3, hidden=16).train(training)
    z = 3 + 2 * torch.randn(1000, 5)
    assert not translator.ready
    translator.initialize(z)
    assert translator.ready
    assert translator.training is training
    x = z
    for block in translator.blocks:
        y, _ = block.actnorm(x)
        torch.testing.assert_close(y.mean(0), torch.zeros(5), rtol=0, atol=1e-4)
        torch.testing.assert_close(y.std(0), torch.ones(5), rtol=0, atol=1e-4)
        x, _ = block(x)
    assert all(parameter.grad is None for parameter in translator.parameters())


def test_initialize_asks_for_more_than_one_latent():
    with pytest.raises(ShapeError, match="at least 2 latents to start from, got 1"):
        Translator(5, n_blocks=2, hidden=16).initialize(torch.randn(1, 5))


def test_a_batch_of_nan_stops_the_start():
    translator, z = Translator(5, n_blocks=2, hidden=8), torch.randn(4, 5)
    z[1] = torch.nan
    with pytest.raises(NonFiniteError, match="5 of 20 values"):
        translator.initialize(z)
