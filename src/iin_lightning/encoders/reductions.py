"""Fewer numbers for a large activation: what a translator works on when N = C*H*W is too many.

a (B, *shape) is an activation, z (B, N) what is kept of it: z = reduce(a). restore(z) is the activation that says
z and nothing else; a - restore(reduce(a)), the complement, is what was left out.
"""

import re
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from iin_lightning import seeding
from iin_lightning.errors import ConfigError, ShapeError

OVERSAMPLING = 10
"""Directions that the randomised PCA follows beyond those it keeps, since the last ones are not exact."""


class Reduction(nn.Module, ABC):
    """A linear map of activations a (B, *shape) to z (B, N), and a way back.

    A ``Cut`` gives it the shape of an activation (without the batch; () before), so a description need not hold it.
    """

    shape: tuple[int, ...] = ()

    @abstractmethod
    def prepare(self, shape: tuple[int, ...]) -> int:
        """Get ready for activations (B, *shape), and return N; a shape that cannot be reduced is a ConfigError."""

    @abstractmethod
    def reduce(self, activation: Tensor) -> Tensor:
        """Map activations (B, *shape) to z (B, N)."""

    @abstractmethod
    def restore(self, z: Tensor) -> Tensor:
        """Map latents z (B, N) to the activations (B, *shape) that say z and nothing else."""


class Pool(Reduction):
    """The mean over positions: (C, H, W) to C, (T, D) to D; a vector (D,) stays as it is.

    The way back gives every position the mean. Channels have to come first: of (H, W, C), as a Swin transformer gives,
    it would take the wrong means.

    Example:
        >>> pool = Pool()
        >>> pool.prepare((8, 4, 4)), pool.reduce(torch.ones(2, 8, 4, 4)).shape
        (8, torch.Size([2, 8]))
    """

    def prepare(self, shape: tuple[int, ...]) -> int:
        """Get ready for activations (B, *shape), and return C or D."""
        if len(shape) not in (1, 2, 3):
            raise ConfigError(
                f"Pool takes (D,), (T, D) or (C, H, W), not activations of shape {shape}: name another layer."
            )
        self.shape = shape
        return shape[0] if len(shape) == 3 else shape[-1]

    def reduce(self, activation: Tensor) -> Tensor:
        """Map activations (B, *shape) to their means (B, N)."""
        if len(self.shape) == 1:
            return activation
        return activation.mean((2, 3) if len(self.shape) == 3 else 1)

    def restore(self, z: Tensor) -> Tensor:
        """Map means (B, N) to activations (B, *shape) that are the same at each position."""
        z = z[:, :, None, None] if len(self.shape) == 3 else z[:, None] if len(self.shape) == 2 else z
        return z.expand(-1, *self.shape)


class PCA(Reduction):
    """The first N = ``n_components`` principal components: z = V^T (a - mean), a = V z + mean + complement.

    mean (M,) and V (M, N) with V^T V = 1 are buffers; they are fitted to activations of training images
    (``Cut.fit_reduction``) and travel with the weights. ``explained`` (N,) is the share of the variance of the fitted
    activations that each component holds.

    Raises:
        ConfigError: it is used before it was fitted, or asked for more components than there are.

    Example:
        >>> pca = PCA(2)
        >>> pca.prepare((5,))
        2
        >>> plane = torch.randn(50, 2) @ torch.randn(2, 5) + 3
        >>> pca.fit(plane)
        >>> torch.allclose(pca.restore(pca.reduce(plane)), plane, atol=1e-5), round(pca.explained.sum().item(), 4)
        (True, 1.0)
    """

    mean: Tensor
    components: Tensor
    explained: Tensor
    fitted: Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__()
        if n_components < 1:
            raise ConfigError(f"PCA keeps at least 1 component, not {n_components}.")
        self.n_components = n_components

    def prepare(self, shape: tuple[int, ...]) -> int:
        """Get ready for activations (B, *shape), and return ``n_components``."""
        size = torch.Size(shape).numel()
        if self.n_components > size:
            raise ConfigError(
                f"PCA cannot keep {self.n_components} components of activations {shape} of {size} numbers: "
                f"ask for {size} or fewer."
            )
        if self.shape and self.shape != shape:
            raise ConfigError(f"This PCA belongs to activations {self.shape}, not {shape}: give each Cut its own.")
        if not self.shape:
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("components", torch.zeros(size, self.n_components))
            self.register_buffer("explained", torch.zeros(self.n_components))
            self.register_buffer("fitted", torch.tensor(False))
            self.shape = shape
        return self.n_components

    @torch.no_grad()
    def fit(self, activations: Tensor) -> None:
        """Find mean and components of activations (n, M) by a randomised PCA with a seed of its own.

        Source: Halko, Martinsson, Tropp 2011, as ``torch.pca_lowrank`` has it.
        """
        n, size = activations.shape
        if size != len(self.mean):
            raise ShapeError(
                f"This PCA is fitted to activations (n, {len(self.mean)}), got {tuple(activations.shape)}."
            )
        if self.n_components > min(n, size):
            raise ConfigError(
                f"PCA cannot find {self.n_components} components in {n} activations of {size} numbers: fit it to at "
                f"least {self.n_components} images, or ask for {min(n, size)} components or fewer."
            )
        activations = activations.cpu().to(torch.promote_types(activations.dtype, torch.float32))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seeding.FIXED)
            q = min(self.n_components + OVERSAMPLING, n, size)
            _, scales, directions = torch.pca_lowrank(activations, q=q, niter=4)
        variance = activations.var(0, correction=0).sum() * n
        self.mean.copy_(activations.mean(0))
        self.components.copy_(directions[:, : self.n_components])
        self.explained.copy_(
            scales[: self.n_components].square() / variance.clamp_min(torch.finfo(variance.dtype).tiny)
        )
        self.fitted.fill_(True)

    def reduce(self, activation: Tensor) -> Tensor:
        """Map activations (B, *shape) to z (B, N)."""
        self._check_fitted()
        return (activation.flatten(1).to(self.mean.dtype) - self.mean) @ self.components

    def restore(self, z: Tensor) -> Tensor:
        """Map latents z (B, N) to the activations (B, *shape) in the plane of the components."""
        self._check_fitted()
        return (z @ self.components.T + self.mean).unflatten(1, self.shape)

    def _check_fitted(self) -> None:
        if not self.shape or not self.fitted:
            raise ConfigError(
                "This PCA was not fitted: call fit_reduction(batches of training images) of its Cut, or load weights "
                "that hold it."
            )


def reduction_from(text: str | None) -> Reduction | None:
    """Build the reduction that a configuration names: None, "pool" or "pca:512"."""
    if text is None:
        return None
    if text == "pool":
        return Pool()
    if match := re.fullmatch(r"pca:(\d+)", text):
        return PCA(int(match[1]))
    raise ConfigError(
        f"There is no reduction {text!r}; allowed are: null, pool, pca:N with a whole number N (pca:512)."
    )
