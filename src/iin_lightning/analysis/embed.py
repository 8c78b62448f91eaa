"""Embeddings: latents drawn in one or two dimensions, and whether a walk leaves the cluster it started in (Fig. 10).

An embedding is a picture: UMAP keeps neighbours together and tears distances, PCA keeps directions and lays clusters on
top of each other. What is *counted* is therefore counted in z itself, with or without the package that draws.
"""

import warnings
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_regression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from iin_lightning.analysis.bootstrap import Estimate, estimate, resample
from iin_lightning.errors import ConfigError, MissingExtraError, NonFiniteError, ShapeError, choices
from iin_lightning.progress import waiting

EmbeddingMethod = Literal["auto", "umap", "pca"]


class Embedding:
    """Map of latents (n, N) to points (n, d), fitted on some of them; `fit_embedding` makes it.

    ``name`` is the method's, for captions: "UMAP", "PCA" or "PCA (umap-learn is not installed)"; ``model`` has
    ``fit_transform`` and ``transform``, as in scikit-learn; ``points`` (n, d) are those of the latents of the fit.
    """

    def __init__(self, name: str, model: Any, latents: Tensor) -> None:
        self.name = name
        self._model = model
        with waiting(f"Fitting {name}"):
            self.points = self._quietly(model.fit_transform, latents)

    def transform(self, latents: Tensor) -> Tensor:
        """Return points (m, d) of other latents (m, N), in the picture of those that were fitted."""
        return self._quietly(self._model.transform, latents)

    @staticmethod
    def _quietly(function: Any, latents: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # UMAP warns that its graph is not connected: these are the clusters to be seen.
            warnings.simplefilter("ignore")
            return torch.from_numpy(np.asarray(function(_array(latents)), dtype=np.float32))


def fit_embedding(
    latents: Tensor, dim: int, method: EmbeddingMethod = "auto", neighbours: int = 15, seed: int = 0
) -> Embedding:
    """Embed latents (n, N), or a factor's z̃_k, in ``dim`` = 1 or 2 dimensions by UMAP or their principal components.

    ``method="auto"`` takes UMAP if umap-learn is installed. The same seed gives the same points: UMAP runs on one
    thread for that. Up to 4096 latents it starts at once; for more it compiles an approximate search of neighbours
    first, a minute on one core. ``neighbours``, in [2, n), are kept together; more show more of the whole and less of
    its parts.

    Raises:
        ConfigError: the method does not exist, or neighbours is below 2.
        MissingExtraError: ``umap`` is asked for and not installed.
        ShapeError: not latents (n, N) with n >= d + 3, or of fewer than d dimensions for PCA.
        NonFiniteError: NaN or infinity among the latents.

    References:
        McInnes, Healy and Melville, UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction, 2018,
        arXiv 1802.03426.

    Example:
        >>> latents = torch.randn(100, 8)
        >>> embedding = fit_embedding(latents, 2, "pca")
        >>> embedding.name, embedding.points.shape, torch.allclose(embedding.transform(latents), embedding.points)
        ('PCA', torch.Size([100, 2]), True)
    """
    check_method(method)
    if neighbours < 2:
        raise ConfigError(f"neighbours={neighbours} must be at least 2: take 15.")
    if latents.dim() != 2 or len(latents) < dim + 3:
        raise ShapeError(
            f"An embedding in {dim} dimensions needs {dim + 3} or more latents (n, N), got {tuple(latents.shape)}."
        )
    umap = None if method == "pca" else _umap()
    if umap is None:
        if latents.shape[1] < dim:
            raise ShapeError(f"Latents (n, {latents.shape[1]}) have no {dim} principal components.")
        # The exact decomposition: the randomised one would need a seed to give the same picture.
        model = PCA(n_components=dim, svd_solver="full")
        return Embedding("PCA" if method == "pca" else "PCA (umap-learn is not installed)", model, latents)
    neighbours = min(neighbours, len(latents) - 1)
    # One thread is what a seed means to UMAP; it warns if it is not told so.
    model = umap(n_components=dim, n_neighbors=neighbours, random_state=seed, n_jobs=1, transform_seed=seed)
    return Embedding("UMAP", model, latents)


def check_method(method: str, key: str = "method") -> None:
    """Check that the method exists and its package is installed; ``key`` asks for it, and is named in errors.

    Raises:
        ConfigError: the method does not exist.
        MissingExtraError: it is umap, which is not installed.
    """
    if method not in get_args(EmbeddingMethod):
        raise ConfigError(f"{key}={method} embeds nothing; {choices(method, get_args(EmbeddingMethod))}.")
    if method == "umap" and _umap() is None:
        raise MissingExtraError("umap-learn", "embed", f"{key}=umap")


class Staying(NamedTuple):
    """Whether walks stay in the cluster that they started in.

    Attributes:
        share: of steps, the start not counted, whose cluster is that of their walk's start; in [0, 1].
        visited: distinct clusters a walk sees, that of the start included; at least 1.
        chance: the share if each step fell at random into clusters as frequent as they are; in [0, 1].
    """

    share: Estimate
    visited: Estimate
    chance: float


def nearest_class(latents: Tensor, reference: Tensor, labels: Tensor, neighbours: int = 15) -> Tensor:
    """Return the class (...) that most of the nearest reference latents have: the cluster of latents (..., N).

    Neighbours of the reference (n, N) with labels (n,) are those of z (Euclidean distance), not of an embedding, which
    tears distances and lays a point that it was not fitted on among its neighbours, however far they are.

    Raises:
        NonFiniteError: NaN or infinity among the latents.

    Example:
        >>> reference = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> nearest_class(torch.tensor([[[0.2], [4.0]]]), reference, torch.tensor([7, 7, 3, 3]), 2).tolist()
        [[7, 3]]
    """
    votes = KNeighborsClassifier(min(neighbours, len(reference)), algorithm="brute")
    votes.fit(_array(reference), labels.cpu().numpy())
    found = votes.predict(_array(latents.flatten(0, -2)))
    return torch.from_numpy(found).view(latents.shape[:-1])


def staying(classes: Tensor, frequent: Tensor, seed: int = 0) -> Staying:
    """Measure how much walks stay in the cluster they started in: ``share = 1/(S B) Σ_t>0 Σ_b [c_t,b = c_0,b]``.

    ``classes`` (S+1, B) are those around each point of B walks, the start first, as `nearest_class` tells them: a walk
    that stands still stays, even if it began at an example that lies among those of another class. ``frequent`` (n,)
    are the classes of the reference. Intervals hold 95 % of a bootstrap over walks: steps of a walk depend on each
    other.

    Example:
        >>> walks = torch.tensor([[0, 1], [0, 2], [0, 0]])
        >>> answer = staying(walks, torch.tensor([0, 1, 2]))
        >>> answer.share.value, answer.visited.value, round(answer.chance, 2)
        (0.5, 2.0, 0.33)
    """
    stays = (classes[1:] == classes[0]).double().mean(0)
    visited = torch.tensor([len(walk.unique()) for walk in classes.T], dtype=torch.float64)
    chance = (classes[0][:, None] == frequent.to(classes.device)).double().mean().item()
    weights = resample(len(stays), seed, "walks")
    return Staying(estimate(weights @ stays, highest=1.0), estimate(weights @ visited), chance)


def shared_information(a: Tensor, b: Tensor, seed: int = 0) -> float:
    """Estimate the mutual information of two one-dimensional embeddings (n, 1) in nats: whether their plane is filled.

    The estimate of Kraskov et al. from nearest neighbours is near 0, and never below, for independent embeddings, and
    as large as the entropy of the classes where both consist of the same far-apart clusters. ``seed`` is that of the
    noise of 1e-10 that tells equal values apart.

    References:
        Kraskov, Stögbauer and Grassberger, Estimating mutual information, Physical Review E 69, 2004.

    Example:
        >>> a, b = torch.randn(2, 500)
        >>> shared_information(a, b) < 0.1 < 1 < shared_information(a, a + 0.1 * b)
        True
    """
    return float(mutual_info_regression(_array(a.reshape(-1, 1)), _array(b.flatten()), random_state=seed)[0])


def _umap() -> Any:
    """Return the class UMAP, or None; another package has the name umap, too, but no such class."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Tensorflow is not installed either
            from umap import UMAP  # noqa: PLC0415
    except ImportError:
        return None
    return UMAP


def _array(latents: Tensor) -> NDArray[np.float64]:
    array = latents.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).reshape(len(array), -1).any(1).sum())
        raise NonFiniteError(f"{bad} of {len(array)} latents are not finite: see what T or its inverse made of them.")
    return array
