"""The Frechet distance of two Gaussians, and the mean and covariance of features that arrive in batches.

Symbols: features f (B,D), their mean μ (D,) and covariance Σ (D,D), n how many there were. All in float64: single
precision shows in the third digit of a distance.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from iin_lightning.errors import NonFiniteError, ShapeError


class Gaussian(NamedTuple):
    """What is known of a set of features.

    Attributes:
        mean: μ, float64 (D,).
        covariance: Σ, float64 (D,D), with n - 1 in the denominator.
        n: how many there were.
    """

    mean: Tensor
    covariance: Tensor
    n: int


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, at least 0, and 0 for equal ones.

    d² = |μ_a - μ_b|² + tr Σ_a + tr Σ_b - 2 tr (Σ_a Σ_b)^½ (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500).

    The last trace is the sum of the singular values of Σ_a^½ Σ_b^½. The usual ways to it, the eigenvalues of Σ_a Σ_b or
    a matrix root, square small numbers before they take the root again, and meet complex ones where n <= D.

    Args:
        mean_a: μ_a (D,).
        cov_a: Σ_a (D,D), symmetric and positive semidefinite; singular is allowed.
        mean_b: μ_b (D,).
        cov_b: Σ_b (D,D).

    Returns:
        A float64 scalar on the processor, in the features' units squared.

    Raises:
        ShapeError: the shapes do not fit together.
        NonFiniteError: NaN or infinity in a mean or covariance.

    Example:
        >>> mean, cov = torch.zeros(2), torch.eye(2)
        >>> round(frechet_distance(mean, cov, mean + 1, 4 * cov).item(), 12)
        4.0
    """
    # torchmetrics gives what has one element without dimensions.
    mean_a, mean_b = (torch.atleast_1d(mean) for mean in (mean_a, mean_b))
    cov_a, cov_b = (torch.atleast_2d(cov) for cov in (cov_a, cov_b))
    dim = len(mean_a)
    for name, tensor, shape in (
        ("mean_a", mean_a, (dim,)),
        ("cov_a", cov_a, (dim, dim)),
        ("mean_b", mean_b, (dim,)),
        ("cov_b", cov_b, (dim, dim)),
    ):
        if tensor.shape != shape:
            raise ShapeError(f"{name} has shape {tuple(tensor.shape)}, but mean_a says that it is {shape}.")
        if not tensor.isfinite().all():
            raise NonFiniteError(f"{name} has NaN or infinite entries: look at the features that it was made of.")
    mean_a, cov_a, mean_b, cov_b = (t.detach().cpu().double() for t in (mean_a, cov_a, mean_b, cov_b))
    overlap = torch.linalg.svdvals(_root(cov_a).T @ _root(cov_b)).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return distance.clamp(min=0)


def _root(cov: Tensor) -> Tensor:
    """R (D,D) with R Rᵀ = Σ; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    return vectors * values.clamp(min=0).sqrt()


class GaussianStatistics(Metric):
    """Mean and covariance of features, of which only their sum, the sum of their outer products and n are kept.

    So memory does not grow with n, and the states of several ranks add up to those of one.

    Args:
        dim: D.

    Returns (``compute``):
        ``Gaussian(mean, covariance, n)``, NaN what n is too small for; warns where n <= D, as a singular covariance
        biases every distance.

    Raises:
        ShapeError: ``update`` is given features of another shape.
        NonFiniteError: ``update`` is given NaN or infinity.

    Example:
        >>> statistics = GaussianStatistics(2)
        >>> statistics.update(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        >>> statistics.update(torch.tensor([[3.0, 3.0]]))
        >>> mean, covariance, n = statistics.compute()
        >>> mean.tolist(), covariance.tolist(), n
        ([2.0, 1.0], [[1.0, 1.5], [1.5, 3.0]], 3)
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
