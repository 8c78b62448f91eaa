"""Densities of factors z̃: the paper's standard normal, and a learned mixture for latents that lie in clusters.

A bijection of one Gaussian must draw bridges between clusters, and samples come from these bridges, too.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError
from iin_lightning.layers.collective import gather_rows

SMALLEST = -3.0  # log of a deviation: below it the squares in `Mixture.log_prob` cancel too much for float32


class StandardNormal(nn.Module):
    """z̃ ~ N(0, 1) in N dimensions, Eq. 1: ``log p(z̃) = -1/2 |z̃|^2 - N/2 log 2π``.

    Example:
        >>> StandardNormal(2).log_prob(torch.zeros(1, 2))  # -log 2π
        tensor([-1.8379])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.name = dim, "N(0, 1)"

    def log_prob(self, z_tilde: Tensor) -> Tensor:
        """Return nats (B,) of factors z̃ (B, N)."""
        return -0.5 * (z_tilde.square().sum(1) + self.dim * math.log(2 * math.pi))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw z̃ (count, N) by a generator of the processor, and on it."""
        return torch.randn(count, self.dim, generator=generator)

    def extra_repr(self) -> str:
        """Show N."""
        return f"dim={self.dim}"


class Mixture(nn.Module):
    """A mixture of K Gaussians with a variance for each dimension: ``log p(z̃) = log sum_k w_k N(z̃; μ_k, diag σ_k^2)``.

    Weights, means and deviations are learned with T. The first batch in training, of all ranks, gives its own
    factors as means, since means drawn from N(0, 1) stay where no cluster is.

    Raises:
        ConfigError: fewer than 2 components.

    References:
        Izmailov, Kirichenko, Finzi and Wilson, "Semi-Supervised Learning with Normalizing Flows", ICML 2020, arXiv
        1912.13025, whose mixture has the labels for components.

    Example:
        >>> from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
        >>> density = Mixture(dim=2, components=3, generator=torch.Generator().manual_seed(0))
        >>> z_tilde = density.sample(1000)
        >>> parts = Independent(Normal(density.mean, density.log_scale.exp()), 1)
        >>> mixture = MixtureSameFamily(Categorical(logits=density.logits), parts)
        >>> torch.allclose(density.log_prob(z_tilde), mixture.log_prob(z_tilde), atol=1e-4)
        True
    """

    initialized: Tensor

    def __init__(self, dim: int, components: int, generator: torch.Generator) -> None:
        super().__init__()
        if components < 2:
            raise ConfigError(f"A mixture needs at least 2 components, got {components}; 0 stands for N(0, 1).")
        self.dim, self.name = dim, f"a mixture of {components} Gaussians"
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, dim, generator=generator))
        self.log_scale = nn.Parameter(torch.zeros(components, dim))
        self.register_buffer("initialized", torch.tensor(False))
        self.ready = False  # the buffer, which a host would wait for

    @torch.no_grad()
    def _initialize(self, z_tilde: Tensor) -> None:
        rows = gather_rows(z_tilde)
        places = torch.arange(len(self.mean), device=rows.device) % len(rows)
        self.mean.mul_(0.1).add_(rows[places])  # apart from each other, also where more than a batch has
        self.initialized.fill_(True)
        self.ready = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.ready = bool(self.initialized)

    def log_prob(self, z_tilde: Tensor) -> Tensor:
        """Return nats (B,) of factors z̃ (B, N)."""
        if self.training and not self.ready:
            self._initialize(z_tilde)
        # |(z̃ - μ_k) / σ_k|^2 as three products: B x K numbers in memory, not B x K x N.
        z_tilde = z_tilde.to(torch.promote_types(z_tilde.dtype, torch.float32))
        mean, log_scale = self.mean.to(z_tilde), self.log_scale.to(z_tilde).clamp(min=SMALLEST)
        precision = torch.exp(-2 * log_scale)
        with torch.autocast(z_tilde.device.type, enabled=False):  # large terms cancel: in bf16 they are off by nats
            square = z_tilde.square() @ precision.T - 2 * z_tilde @ (mean * precision).T
        square = square + (mean.square() * precision).sum(1)
        log_part = -0.5 * (square + self.dim * math.log(2 * math.pi)) - log_scale.sum(1)
        return torch.logsumexp(self.logits.to(z_tilde).log_softmax(0) + log_part, 1)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw z̃ (count, N) by a generator of the processor, and on it."""
        logits, mean, log_scale = self.logits.cpu(), self.mean.cpu(), self.log_scale.cpu().clamp(min=SMALLEST)
        part = torch.multinomial(logits.softmax(0), count, replacement=True, generator=generator)
        return mean[part] + log_scale[part].exp() * torch.randn(count, self.dim, generator=generator)

    def extra_repr(self) -> str:
        """Show N and K."""
        return f"dim={self.dim}, components={len(self.logits)}"
