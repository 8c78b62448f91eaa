"""Embeddings: worlds whose clusters are known, and walks of which it is known whether they stay in them."""

import importlib.util
import math
import sys
import types
import warnings

import pytest
import torch

from iin_lightning.analysis.embed import fit_embedding, nearest_class, shared_information, staying
from iin_lightning.errors import ConfigError, MissingExtraError, NonFiniteError, ShapeError

N, CLASSES = 8, 4


def clusters(n=60, apart=10.0, seed=0):
    """Latents (n, 8) around four far-apart corners, and which of them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    return apart * torch.eye(CLASSES, N)[labels] + torch.randn(n, N, generator=generator), labels


def test_principal_components_are_those_of_the_covariance():
    z, _ = clusters(200)
    embedding = fit_embedding(z, 2, "pca")
    values, vectors = torch.linalg.eigh(z.double().T.cov())
    expected = (z.double() - z.double().mean(0)) @ vectors[:, -2:].flip(1)
    assert torch.allclose(embedding.points.abs(), expected.abs().float(), atol=1e-4)
    assert torch.allclose(embedding.points.double().var(0), values[-2:].flip(0), rtol=1e-4)
    assert torch.allclose(embedding.transform(z[:5]), embedding.points[:5], atol=1e-5)


@pytest.mark.parametrize("module", [None, types.ModuleType("umap")], ids=["not installed", "another package"])
def test_without_the_extra_it_is_pca_and_says_so(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", module)
    z, _ = clusters()
    embedding = fit_embedding(z, 2, "auto")
    assert embedding.name == "PCA (umap-learn is not installed)"
    assert torch.equal(embedding.points, fit_embedding(z, 2, "pca").points)
    assert fit_embedding(z, 2, "pca").name == "PCA"
    with pytest.raises(MissingExtraError, match=r'method=umap needs .* pip install "iin-lightning\[embed\]"'):
        fit_embedding(z, 2, "umap")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((torch.rand(9, 3), 2, "tsne"), ConfigError, "method=tsne embeds nothing; allowed are: auto, umap, pca"),
        ((torch.rand(9, 3), 2, "pca", 1), ConfigError, "neighbours=1 must be at least 2"),
        ((torch.rand(9, 3, 1), 1, "pca"), ShapeError, r"got \(9, 3, 1\)"),
        ((torch.rand(9, 1), 2, "pca"), ShapeError, "no 2 principal components"),
        ((torch.tensor([[math.nan, 0.0]] * 2 + [[0.0, 1.0]] * 4), 1, "pca"), NonFiniteError, "2 of 6 latents"),
    ],
)
def test_what_cannot_be_embedded_says_why(arguments, error, text):
    with pytest.raises(error, match=text):
        fit_embedding(*arguments)


@pytest.mark.system
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="the extra embed, umap-learn, is not installed")
def test_umap_keeps_clusters_together_gives_the_same_points_again_and_does_not_complain():
    z, labels = clusters()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plane = fit_embedding(z, 2, neighbours=6, seed=1)
        again = fit_embedding(z, 2, neighbours=6, seed=1)
        line = fit_embedding(z, 1, neighbours=6, seed=1)
        moved = plane.transform(z[:8] + 0.01)
        assert torch.equal(moved, again.transform(z[:8] + 0.01))
    assert plane.name == "UMAP"
    assert plane.points.shape == (60, 2)
    assert line.points.shape == (60, 1)
    assert torch.equal(plane.points, again.points)
    for points in (plane.points, line.points):
        assert torch.equal(nearest_class(points, points, labels, 5), labels)
    assert torch.equal(nearest_class(moved, plane.points, labels, 5), labels[:8])
    in_order = labels[line.points.flatten().argsort()]
    assert len(in_order.unique_consecutive()) == CLASSES, "on the line, each cluster is one stretch"


def test_the_nearest_class_is_that_of_the_cluster_and_of_most_votes():
    z, labels = clusters()
    new, theirs = clusters(40, seed=1)
    assert torch.equal(nearest_class(new.view(10, 4, N), z, labels), theirs.view(10, 4))
    reference = torch.tensor([[0.0], [1.0], [2.0]])
    labels = torch.tensor([5, 9, 9])
    assert nearest_class(torch.tensor([[0.1]]), reference, labels, 1).item() == 5
    assert nearest_class(torch.tensor([[0.1]]), reference, labels, 15).item() == 9
    with pytest.raises(NonFiniteError, match="1 of 2"):
        nearest_class(torch.tensor([[math.inf], [0.0]]), reference, labels)


def test_a_walk_that_stands_still_stays_and_one_that_jumps_does_not():
    z, labels = clusters()
    still = z[:10].expand(6, -1, -1)
    answer = staying(nearest_class(still, z, labels), labels)
    assert answer.share == (1.0, 1.0, 1.0)
    assert answer.visited == (1.0, 1.0, 1.0)
    jumps = torch.stack([z[k : k + 10] for k in range(CLASSES)])  # item i + k is of the k-th next class
    answer = staying(nearest_class(jumps, z, labels), labels)
    assert answer.share.value == 0.0
    assert answer.visited.value == CLASSES
    assert answer.chance == 1 / CLASSES


def test_intervals_are_over_walks_since_steps_of_one_depend_on_each_other():
    stays = torch.rand(200, generator=torch.Generator().manual_seed(0)) < 0.3
    classes = torch.cat([torch.zeros(1, 200), (~stays).float().expand(50, -1)]).long()
    share, visited, _ = staying(classes, torch.zeros(1).long())
    p = stays.double().mean().item()
    assert share.value == pytest.approx(p)
    assert visited.value == pytest.approx(2 - p)
    assert share.high - share.low == pytest.approx(2 * 1.96 * math.sqrt(p * (1 - p) / 200), rel=0.15)
    assert staying(classes, torch.zeros(1).long()).share == share, "the same seed, the same interval"


def test_independent_embeddings_share_nothing_and_the_same_clusters_share_their_entropy():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1000, 1, generator=generator)
    a, b = 20 * torch.randint(CLASSES, (2, 1000, 1), generator=generator) + noise
    assert shared_information(a, b) < 0.05
    twin = a - noise[0] + noise[1]  # the same clusters, other places in them
    assert shared_information(a, twin) == pytest.approx(math.log(CLASSES), abs=0.1)
    assert shared_information(a, twin) == pytest.approx(shared_information(twin, a), abs=0.05)
