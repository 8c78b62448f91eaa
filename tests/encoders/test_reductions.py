"""Fewer numbers, and what they leave out: together the activation."""

import pytest
import torch
from tests.encoders.awkward import Branches

from iin_lightning.encoders import PCA, Cut, Pool, reduction_from
from iin_lightning.errors import ConfigError, ShapeError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(n=3):
    return torch.rand(n, 3, 16, 16) * 2 - 1


@pytest.mark.parametrize("reduction", [Pool(), PCA(5)], ids=["pool", "pca"])
def test_what_is_kept_and_what_is_left_out_are_the_network(reduction):
    network = Branches().eval()
    cut = Cut(network, "stem", image_size=16, reduction=reduction)
    cut.fit_reduction(images(8) for _ in range(4))
    x = images()
    z, rest = cut.encode(x).mean, cut.complement(x)
    assert z.shape == (3, cut.latent_dim)
    assert rest.shape == (3, 4, 8, 8)
    torch.testing.assert_close(cut.resume(z, rest), network(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cut(x), network(x), rtol=1e-5, atol=1e-6)
    # Without it, G sees what z says and nothing else: the same latents come back, not the same logits.
    torch.testing.assert_close(cut.latents_of(cut.activation_of(z)), z, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(cut.decode(z), network(x), atol=1e-4)


@pytest.mark.parametrize(("shape", "dims"), [((4, 3, 2), (2, 3)), ((5, 4), 1), ((4,), ())])
def test_pool_is_the_mean_over_positions(shape, dims):
    pool, activation = Pool(), torch.randn(2, *shape)
    assert pool.prepare(shape) == 4
    assert pool.reduce(activation).equal(activation.mean(dims) if dims else activation)
    assert pool.restore(pool.reduce(activation)).shape == activation.shape


def planted(n=200, size=30, rank=3):
    """Points near a plane of known directions, off the origin."""
    directions = torch.linalg.qr(torch.randn(size, rank)).Q
    scales = torch.tensor([9.0, 6.0, 3.0])
    return torch.randn(n, rank) * scales @ directions.T + 0.01 * torch.randn(n, size) + 5, directions


def test_pca_finds_a_planted_plane():
    points, directions = planted()
    pca = PCA(3)
    pca.prepare((30,))
    pca.fit(points)
    torch.testing.assert_close(pca.components.T @ pca.components, torch.eye(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(pca.mean, points.mean(0))
    overlap = torch.linalg.svdvals(directions.T @ pca.components)
    torch.testing.assert_close(overlap, torch.ones(3), rtol=0, atol=1e-4)
    exact = torch.linalg.svdvals((points - points.mean(0)).double()).square()
    torch.testing.assert_close(pca.explained.double(), exact[:3] / exact.sum(), rtol=1e-4, atol=0)


def test_a_fit_depends_on_the_activations_alone():
    points, _ = planted()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        pca = PCA(3)
        pca.prepare((30,))
        pca.fit(points)
        assert torch.get_rng_state().equal(state)
        found.append(pca.components)
    assert found[0].equal(found[1])


def test_a_fit_takes_as_many_images_as_it_needs():
    cut = Cut(Branches().eval(), "merge", image_size=16, reduction=PCA(3))
    taken = []

    def stream():
        while True:
            taken.append(None)
            yield images(5)

    cut.fit_reduction(stream())
    assert len(taken) == 3  # 4 * 3 images
    by_hand = Cut(cut.network, "merge", image_size=16, reduction=PCA(3))
    batch = images(7)
    by_hand.fit_reduction([batch], n_images=6)
    activations = cut._activation(batch[:6]).flatten(1)
    torch.testing.assert_close(by_hand.reduction.mean, activations.mean(0))


def test_what_cannot_be_reduced_is_refused():
    cut = Cut(Branches().eval(), "merge", image_size=16, reduction=PCA(8))
    with pytest.raises(ConfigError, match="not fitted: call fit_reduction"):
        cut.encode(images())
    with pytest.raises(ConfigError, match="at least 8 images, or ask for 3"):
        cut.fit_reduction([images(3)])
    with pytest.raises(ShapeError, match=r"fitted to activations \(n, 384\)"):
        cut.reduction.fit(torch.zeros(9, 5))
    with pytest.raises(ConfigError, match="belongs to activations"):
        Cut(cut.network, "stem", image_size=16, reduction=cut.reduction)
    with pytest.raises(ConfigError, match="ask for 3 or fewer"):
        Cut(cut.network, "head", image_size=16, reduction=PCA(4))
    with pytest.raises(ConfigError, match="at least 1"):
        PCA(0)
    with pytest.raises(ConfigError, match="Pool takes"):
        Pool().prepare((2, 2, 2, 2))


def test_reductions_have_names():
    assert reduction_from(None) is None
    assert isinstance(reduction_from("pool"), Pool)
    assert reduction_from("pca:512").n_components == 512
    for text in ("pca", "pca:", "pca:-3", "mean"):
        with pytest.raises(ConfigError, match="pca:N"):
            reduction_from(text)
