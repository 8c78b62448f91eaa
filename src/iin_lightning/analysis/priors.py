"""Baselines of Eq. 13: densities of the latents that are not learned by a flow, to sample the same decoder from."""

from typing import Literal, Protocol, get_args

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from iin_lightning.errors import ConfigError, choices
from iin_lightning.progress import waiting

PriorKind = Literal["standard", "gaussian", "mixture"]
COMPONENTS = 10
"""Of the mixture, as in Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, arXiv 1903.12436."""


class Prior(Protocol):
    """Density of latents."""

    def sample(self, count: int, seed: int) -> Tensor:
        """Draw latents (count, N), the same for the same seed."""


class Mixture:
    """Mixture of Gaussians with full covariances, ``p(z) = sum_k w_k N(z; mu_k, S_k)``, fitted to n > N latents (n, N).

    A single component is the maximum-likelihood Gaussian; more are fitted by expectation maximisation.
    """

    def __init__(self, z: Tensor, components: int, seed: int) -> None:
        with waiting(f"Fitting {components} Gaussians"):
            self.model = GaussianMixture(components, random_state=seed).fit(z.double().cpu().numpy())

    def sample(self, count: int, seed: int) -> Tensor:
        """See ``Prior``; shuffled, since the components come one after the other."""
        self.model.random_state = seed
        z, _ = self.model.sample(count)
        return torch.from_numpy(np.random.default_rng(seed).permutation(z)).float()


class Standard:
    """N(0, I), which the KL term of an autoencoder asks its latents to be."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def sample(self, count: int, seed: int) -> Tensor:
        """See ``Prior``."""
        return torch.randn(count, self.dim, generator=torch.Generator().manual_seed(seed))


def fit_prior(kind: PriorKind, z: Tensor, seed: int = 0) -> Prior:
    """Fit a density to training latents z (n, N): "standard" (nothing to fit), "gaussian" or "mixture" (of 10).

    Raises:
        ConfigError: the kind does not exist, or the latents are too few for a covariance.

    Example:
        >>> fit_prior("gaussian", torch.randn(100, 3) + 5).sample(1000, seed=0).mean() > 4
        tensor(True)
    """
    if kind not in get_args(PriorKind):
        raise ConfigError(f"There is no prior {kind!r}; {choices(kind, get_args(PriorKind))}.")
    if kind == "standard":
        return Standard(z.shape[1])
    components = 1 if kind == "gaussian" else COMPONENTS
    if len(z) <= z.shape[1] * components:
        raise ConfigError(
            f"{len(z)} latents of {z.shape[1]} dimensions are too few for {components} full covariances: take more "
            "training images."
        )
    return Mixture(z, components, seed)
