"""Distances between sets of features that arrive in batches: Frechet and kernel distance, precision and recall.

Symbols: features f (B,D), their mean μ (D,) and covariance Σ (D,D), n how many there were; n of generated images, m of
real ones. Statistics are in float64: single precision shows in the third digit of a Frechet distance. The kernel
distance, precision and recall are torch-fidelity's.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric
from torchmetrics import Metric

from iin_lightning.errors import NonFiniteError, ShapeError

SUBSETS, SUBSET_SIZE = 100, 1000
NEIGHBOURS = 3
CHUNK = 1000  # rows of a distance matrix that are held at a time


class Gaussian(NamedTuple):
    """Mean μ (D,) and covariance Σ (D,D), with n - 1 in the denominator, of n features, in float64."""

    mean: Tensor
    covariance: Tensor
    n: int


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Return the squared Frechet (2-Wasserstein) distance of two Gaussians, float64 on the processor, 0 for equal ones.

    d² = |μ_a - μ_b|² + tr Σ_a + tr Σ_b - 2 tr (Σ_a Σ_b)^½ (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500).

    The last trace is the sum of the singular values of Σ_a^½ Σ_b^½, which may be singular. The usual ways to it, the
    eigenvalues of Σ_a Σ_b or a matrix root, square small numbers before they take the root again, and meet complex ones
    where n <= D.
    """
    # torchmetrics gives what has one element without dimensions.
    mean_a, mean_b = (torch.atleast_1d(mean) for mean in (mean_a, mean_b))
    cov_a, cov_b = (torch.atleast_2d(cov) for cov in (cov_a, cov_b))
    mean_a, cov_a, mean_b, cov_b = (t.detach().cpu().double() for t in (mean_a, cov_a, mean_b, cov_b))
    overlap = torch.linalg.svdvals(_root(cov_a).T @ _root(cov_b)).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return distance.clamp(min=0)


def _root(cov: Tensor) -> Tensor:
    """Return R (D,D) with R Rᵀ = Σ; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    return vectors * values.clamp(min=0).sqrt()


class GaussianStatistics(Metric):
    """Mean and covariance of features, of which only their sum, the sum of their outer products and n are kept.

    So memory does not grow with n, and the states of several ranks add up. ``compute`` warns where n <= D, as a
    singular covariance biases every distance.
    """

    full_state_update = False
    total: Tensor
    outer: Tensor
    count: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.add_state("total", torch.zeros(dim, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outer", torch.zeros(dim, dim, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Take features (B,D)."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ShapeError(f"Features of shape (B, {self.dim}) are expected, got {tuple(features.shape)}.")
        if not features.isfinite().all():
            bad = int((~features.isfinite()).any(1).sum())
            raise NonFiniteError(f"The extractor gives NaN or infinite features for {bad} of {len(features)} images.")
        features = features.double()
        self.total += features.sum(0)
        self.outer.addmm_(features.T, features)
        self.count += len(features)

    def compute(self) -> Gaussian:
        """See the class."""
        n = int(self.count)
        if 0 < n <= self.dim:
            warnings.warn(
                f"{n} features in {self.dim} dimensions have a singular covariance, so that a Frechet distance is far "
                f"too large: take more than {self.dim} images, or the kernel distance (KID).",
                stacklevel=2,
            )
        mean = self.total / n
        covariance = (self.outer - n * torch.outer(mean, mean)) / (n - 1)
        return Gaussian(mean, covariance, n)


class FeatureBank(Metric):
    """All features, in the order in which they came: memory grows with their count."""

    full_state_update = False
    features: list[Tensor] | Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, features: Tensor) -> None:
        """Take features, float32 (B,D)."""
        self.features = [*self.features, features]

    def compute(self) -> Tensor:
        """Return all features, float32 (n,D), on the processor."""
        parts = [self.features] if isinstance(self.features, Tensor) else self.features
        return torch.cat([torch.empty(0, self.dim), *(part.cpu() for part in parts)])


def kernel_distance(fake: Tensor, real: Tensor, seed: int) -> dict[str, float | int]:
    """Return the squared maximum mean discrepancy under the kernel (fᵀg / D + 1)³ of features (n,D), (m,D): the KID.

    It is a mean over random subsets, unbiased also for few images, so that it may be a little below 0. Source:
    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, arXiv 1801.01401.
    """
    size = min(SUBSET_SIZE, len(fake), len(real))
    found = kid_features_to_metric(fake, real, kid_subsets=SUBSETS, kid_subset_size=size, rng_seed=seed, verbose=False)
    value, deviation = found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]
    return {"value": value, "deviation": deviation, "subsets": SUBSETS, "subset_size": size}


def precision_recall(fake: Tensor, real: Tensor) -> dict[str, dict[str, float | int]]:
    """Return the share of generated images among the real ones (precision), and of real among the generated (recall).

    An image is among others if it is nearer to one of them than the third neighbour of that one is. Source:
    Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019, arXiv
    1904.06991.
    """
    neighbours = min(NEIGHBOURS, len(fake) - 1, len(real) - 1)
    found = prc_features_to_metric(
        fake, real, prc_neighborhood=neighbours, prc_batch_size=CHUNK, save_cpu_ram=True, verbose=False
    )
    values = {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}
    return {name: {"value": value, "neighbours": neighbours} for name, value in values.items()}
