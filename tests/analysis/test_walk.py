"""Walks in one factor: the law of Ornstein and Uhlenbeck, and all other factors at rest."""

import pytest
import torch

from iin_lightning.analysis.chunks import CHUNK, in_chunks
from iin_lightning.analysis.walk import factor_walks, ornstein_uhlenbeck
from iin_lightning.encoders import Classifier
from iin_lightning.errors import ConfigError, FactorError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import PaperTranslator
from iin_lightning.interpreter import Interpreter
from iin_lightning.seeding import generator

N_WALKS = 4000
ERROR = N_WALKS**-0.5  # of a mean of N(0, 1); an unbiased variance has sqrt(2) of it
DIMS = {"residual": 3, "digit": 3, "color": 2}


@pytest.fixture
def interpreter():
    network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4, norm="batch")
    translator = PaperTranslator(8, n_blocks=3, hidden=16)
    translator.initialize(torch.randn(64, 8, generator=generator(3)))
    return Interpreter(network, translator, Factors(DIMS, 8)).eval()


@pytest.mark.parametrize("r", [0.0, 0.5, 0.95])
def test_the_stationary_law_stays_and_two_points_correlate_as_r_to_the_steps_between(r):
    start = torch.randn(N_WALKS, 1, generator=generator("start"))
    walks = ornstein_uhlenbeck(start, 20, r, generator("walk"))[:, :, 0]
    assert walks.mean(1).abs().max() < 4 * ERROR
    assert (walks.var(1) - 1).abs().max() < 4 * 2**0.5 * ERROR
    correlations = torch.corrcoef(walks)
    for t in (1, 3, 10):
        assert abs(correlations[5, 5 + t] - r**t) < 4 * ERROR


def test_a_walk_forgets_its_start_at_the_known_rate():
    r, steps, start = 0.8, 40, 10.0
    walks = ornstein_uhlenbeck(torch.full((N_WALKS, 1), start), steps, r, generator("walk"))[:, :, 0]
    for t in (1, 5, steps):
        assert abs(walks[t].mean() - r**t * start) < 4 * ERROR
        assert abs(walks[t].var() - (1 - r ** (2 * t))) < 4 * 2**0.5 * ERROR


def test_dimensions_and_walks_are_independent_and_the_limits_of_r_are_what_they_say():
    start = torch.zeros(2000, 2)
    end = ornstein_uhlenbeck(start, 3, 0.0, generator(0))
    assert torch.corrcoef(torch.cat([end[1].T, end[2].T])).fill_diagonal_(0).abs().max() < 4 * 2000**-0.5
    assert torch.equal(ornstein_uhlenbeck(start + 3, 5, 1.0, generator(0)), (start + 3).expand(6, -1, -1))


def test_a_walk_like_examples_has_their_mean_and_covariance():
    like = torch.randn(500, 2, generator=generator("like")) @ torch.tensor([[0.5, 0.3], [0.0, 0.1]]) + torch.tensor(
        [2.0, -1]
    )
    walks = ornstein_uhlenbeck(torch.zeros(N_WALKS, 2), 30, 0.5, generator(0), like)
    assert torch.equal(walks[0], torch.zeros(N_WALKS, 2))
    torch.testing.assert_close(walks[30].mean(0), like.mean(0), rtol=0, atol=4 * ERROR * 0.5)
    torch.testing.assert_close(walks[30].T.cov(), like.T.cov(), rtol=0, atol=8 * ERROR * 0.3)
    flat = like * torch.tensor([1.0, 0.0])  # a dimension that never varies
    assert ornstein_uhlenbeck(like[:10], 60, 0.0, generator(0), flat)[-1, :, 1].abs().max() < 1e-3


def test_one_factor_walks_from_where_it_is_and_the_others_stay(interpreter):
    z = torch.randn(7, 8, generator=generator(5))
    walks = factor_walks(interpreter, z, "digit", 6, 0.5, generator(0))
    assert walks.shape == (7, 7, 8)
    torch.testing.assert_close(walks[0], z, rtol=1e-4, atol=1e-4)
    before = interpreter.factors.split(interpreter.translate(z))
    after = interpreter.factors.split(interpreter.translate(walks.flatten(0, 1)).unflatten(0, (7, 7)))
    for name in ("residual", "color"):
        torch.testing.assert_close(after[name], before[name].expand(7, -1, -1), rtol=1e-4, atol=1e-4)
    expected = ornstein_uhlenbeck(before["digit"], 6, 0.5, generator(0))
    torch.testing.assert_close(after["digit"], expected, rtol=1e-4, atol=1e-4)


def test_networks_see_few_rows_at_a_time_and_all_in_order():
    seen = []

    def double(rows):
        seen.append(len(rows))
        return 2 * rows

    rows = torch.arange(2 * CHUNK + 3)
    assert torch.equal(in_chunks(double, rows), 2 * rows)
    assert seen == [CHUNK, CHUNK, 3]


def test_bad_input_is_named(interpreter):
    with pytest.raises(FactorError, match=r"no factor 'diigt'.*did you mean digit"):
        factor_walks(interpreter, torch.zeros(2, 8), "diigt", 4, 0.9, generator(0))
    for steps, r in ((0, 0.5), (3, 1.1), (3, -0.1)):
        with pytest.raises(ConfigError, match=f"got steps={steps} and r={r}: r=0 draws"):
            ornstein_uhlenbeck(torch.zeros(2, 1), steps, r, generator(0))
