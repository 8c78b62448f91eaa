"""Walks in a world whose data are known: a bent band in the plane, z_2 = z_1² - 1 up to a little noise."""

import pytest
import torch

from iin_lightning.analysis import interpolate
from iin_lightning.analysis.interpolate import corners, evenness, measure, share_below, spread, told_apart, walks
from iin_lightning.encoders.base import DiagonalGaussian, Encoder
from iin_lightning.errors import ShapeError
from iin_lightning.factors import Factors
from iin_lightning.flows.base import Bijector
from iin_lightning.flows.linear import Permutation
from iin_lightning.flows.translator import PaperTranslator
from iin_lightning.interpreter import Interpreter

NOISE = 0.1
BORDER = 4 * NOISE


class Straighten(Bijector):
    """T of the band, in closed form: z̃_1 = z_1 and z̃_2 = (z_2 - z_1² + 1) / 0.1 are standard normal."""

    def forward(self, x):
        first, second = x.unbind(1)
        return torch.stack([first, (second - first**2 + 1) / NOISE], 1), torch.full_like(first, 1 / NOISE).log()

    def inverse(self, y):
        first, second = y.unbind(1)
        return torch.stack([first, NOISE * second + first**2 - 1], 1), torch.full_like(first, NOISE).log()


class Points(Encoder):
    """Images are points, (n, 1, 1, 2). What is off the band G draws nearer to it, by half or on its border."""

    output = "image"
    latent_dim = 2

    def __init__(self, drawn=0.5):
        super().__init__()
        self.drawn = drawn  # of the distance to the border

    def encode(self, x):
        return DiagonalGaussian.deterministic(x.flatten(1))

    def decode(self, z):
        first, second = z.unbind(1)
        off = second - first**2 + 1
        border = off.clamp(-BORDER, BORDER)
        return torch.stack([first, border + self.drawn * (off - border) + first**2 - 1], 1)[:, None, None]


class Identity(Points):
    """G draws everything, and E sees it as it is."""

    def __init__(self, dim=2):
        super().__init__()
        self.latent_dim = dim

    def decode(self, z):
        return z[:, None, None]


def band(network=None, translator=None):
    return Interpreter(network or Points(), translator or Straighten(), Factors.unsupervised(2))


def data(n, seed, low=0.0, high=9.0):
    """Points of the band, left and right of its middle."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(20 * n, 2, generator=generator)
    z = z[(z[:, 0].abs() > low) & (z[:, 0].abs() < high)][:n]
    return Straighten().inverse(z)[0]


def far_apart(n=50):
    z = data(2 * n, 1, low=1.0)
    z[:, 0] = z[:, 0].abs()  # the band is symmetric
    return z[:n] * torch.tensor([-1, 1]), z[n:]


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=atol)


@pytest.fixture
def translator():
    flow = PaperTranslator(2, n_blocks=3, hidden=16)
    flow.initialize(torch.randn(64, 2, generator=torch.Generator().manual_seed(3)))
    return flow


def test_walks_join_the_same_latents_straight_in_their_own_space_and_even_in_time(translator):
    network = band(translator=translator)
    z_a, z_b = far_apart()
    paths = walks(network, z_a, z_b, 5)
    for path in paths.values():
        assert path.shape == (5, 50, 2)
        close(path[0], z_a)
        close(path[-1], z_b)
    z_tilde = network.translate(paths["z_tilde"].flatten(0, 1)).unflatten(0, (5, 50))
    for path in (paths["z"], z_tilde):
        for step in path.diff(dim=0):
            close(step, (path[-1] - path[0]) / 4, atol=1e-4)
    assert (paths["z"] - paths["z_tilde"]).abs().max() > 0.1


def test_the_log_likelihood_is_that_of_the_known_density():
    z = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    first, second = z.unbind(-1)
    normal = torch.distributions.Normal
    expected = (normal(0, 1).log_prob(first) + normal(first**2 - 1, NOISE).log_prob(second)) / 2
    close(measure(band(), z, 1.0).points["log_likelihood"], expected)


def test_walks_in_factors_stay_on_the_data_and_straight_ones_leave_it():
    network, held_out = band(), data(2000, 5)
    usual = {k: v[0] for k, v in measure(network, held_out[None], spread(held_out)).points.items()}
    floor = usual["log_likelihood"].quantile(0.01).item()
    found = {space: measure(network, z, spread(held_out)) for space, z in walks(network, *far_apart(), 9).items()}
    below = {space: share_below(m.points["log_likelihood"], floor).mean() for space, m in found.items()}
    assert below["z_tilde"] < 0.01
    assert below["z"] > 0.9
    for name, values in usual.items():
        high = name == "log_likelihood"
        halfway = {space: told_apart(m.points[name][4], values, high) for space, m in found.items()}
        assert halfway["z_tilde"] < 0.55, name
        assert halfway["z"] > 0.99, name


def test_shifts_are_the_way_to_the_band_and_of_images_what_is_seen_of_it():
    z = torch.tensor([[[0.0, -1.0], [0.0, 3.0], [2.0, 3.0 - 1.4]]])  # on the band, 4 above it, 1.4 below
    away = torch.tensor([[0.0, 3.6, 1.0]])  # from the border
    for drawn, moved, again in ((0.5, away / 2, away / 4), (0.0, away, 0 * away)):
        found = measure(band(Points(drawn)), z, unit=2.0).points
        close(found["shift_z"], moved / 2**0.5 / 2)
        close(found["shift_z_tilde"], moved / NOISE / 2**0.5)
        # Where G draws the band alone, there is no ghost to be seen, wherever z is.
        close(found["shift_image"], again / 2**0.5)


def test_halfway_between_samples_is_a_quarter_nat_a_dimension_more_likely():
    dim, n = 64, 2000
    network = Interpreter(Identity(dim), Permutation(list(range(dim))), Factors.unsupervised(dim))
    z = torch.randn(2, n, dim, generator=torch.Generator().manual_seed(0))
    found = measure(network, walks(network, *z, 3)["z_tilde"], 1.0).points["log_likelihood"].mean(1)
    assert found[1] - found[0] == pytest.approx(0.25, abs=0.01)


def test_a_reader_is_undecided_where_classes_meet():
    def reader(images):
        side = 10 * images[:, 0, 0, :1]
        return torch.cat([side, -side], 1)

    paths = walks(band(), torch.tensor([[-2.0, 3.0]]), torch.tensor([[2.0, 3.0]]), 5)
    found = measure(band(), paths["z_tilde"], 1.0, reader).points["confidence"]
    close(found[:, 0], torch.tensor([1.0, 1.0, 0.5, 1.0, 1.0]))


def test_evenness_of_even_walks_jumps_and_standing_still():
    steps = torch.tensor([[0.5, 0.0, 0.0], [0.5, 2.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])
    found = evenness(steps)
    close(found["largest"], torch.tensor([1.0, 4.0, 1.0]))
    close(found["variation"], torch.tensor([0.0, 3**0.5, 0.0]))


def test_steps_are_measured_in_images_and_nothing_depends_on_the_chunks(monkeypatch):
    steps = torch.tensor([[[0.0, -1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    close(measure(band(), steps, 1.0).steps, torch.tensor([[1.0], [0.0]]))
    path = walks(band(), *far_apart(), 5)["z"]
    whole = measure(band(), path, 1.0)
    monkeypatch.setattr(interpolate, "CHUNK", 11)
    parts = measure(band(), path, 1.0)
    close(parts.steps, whole.steps)
    for name, values in whole.points.items():
        close(parts.points[name], values)


def test_what_is_no_number_is_no_image():
    held_out = torch.tensor([1.0, 2.0, 3.0])
    assert told_apart(torch.tensor([float("nan"), float("-inf")]), held_out, high_is_data=True) == 1
    assert told_apart(torch.tensor([float("nan"), float("inf")]), held_out, high_is_data=False) == 1
    assert told_apart(torch.tensor([9.0]), held_out, high_is_data=True) == 0
    assert told_apart(held_out, held_out, high_is_data=True) == 0.5


def test_a_square_has_its_corners_where_they_belong_and_walks_for_sides(translator):
    network = band(translator=translator)
    z = data(4, 2)
    square = corners(network, network.translate(z), 5)
    assert square.shape == (5, 5, 2)
    close(torch.stack([square[0, 0], square[0, -1], square[-1, 0], square[-1, -1]]), z, atol=1e-4)
    sides = walks(network, z[[0, 2, 0, 1]], z[[1, 3, 2, 3]], 5)["z_tilde"]
    close(torch.stack([square[0], square[-1], square[:, 0], square[:, -1]], 1), sides, atol=1e-4)
    middle = network.untranslate(network.translate(z).mean(0, keepdim=True))
    close(square[2, 2], middle[0], atol=1e-4)


def test_what_cannot_be_walked_says_why():
    z = torch.zeros(3, 2)
    with pytest.raises(ShapeError, match=r"5 steps between \(3, 2\) and \(2, 2\)"):
        walks(band(), z, z[:2], 5)
    with pytest.raises(ShapeError, match="got 1 steps"):
        walks(band(), z, z, 1)
    with pytest.raises(ShapeError, match=r"corners \(4, N\), got 5 steps and \(3, 2\)"):
        corners(band(), z, 5)
