"""Walks in one factor: what a network could have seen if one concept were another one (Fig. 9, Sec. 4.2).

Symbols: z (B, N) are latents, z̃ = T(z) their factors, z̃_k (B, N_k) walks while all others stand still.
"""

import torch
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.errors import ConfigError
from iin_lightning.flows.density import Mixture
from iin_lightning.interpreter import Interpreter

DRAWS = 1000  # from a mixture, for the mean and covariance that walks tend to


def ornstein_uhlenbeck(
    start: Tensor, steps: int, r: float, generator: torch.Generator, like: Tensor | None = None
) -> Tensor:
    """Draw random walks (steps + 1, B, n) in a harmonic potential, whose law tends to N(0, 1) from any start (B, n).

    ``z' = r z + sqrt(1 - r²) ε`` with ``ε ~ N(0, 1)``: the exact step of ``dz = -γ z dt + sqrt(2γ) dW`` over a time dt,
    where ``r = exp(-γ dt)`` in [0, 1]. Two points t steps apart have correlation r^t; r = 0 draws each anew, r = 1
    stands still. The stationary law is the prior of z̃ (Eq. 1), so a walk stays where T was trained.

    With ``like`` (m, n) that law is N(μ, Σ) of those examples: ``z' = μ + r (z - μ) + sqrt(1 - r²) Σ^½ ε``. A factor
    need not have its prior: the pair loss (Eq. 9) pays for what examples do not share, so the factor of a concept that
    the network ignores becomes narrow, and N(0, 1) lies far outside of what the network ever sees. The generator is on
    the CPU, so that a seed gives the same walks on every device.

    Raises:
        ConfigError: steps or r out of range.

    References:
        Uhlenbeck and Ornstein, On the Theory of the Brownian Motion, Phys. Rev. 36, 1930.

    Example:
        >>> walks = ornstein_uhlenbeck(torch.full((5000, 1), 3.0), 2, 0.5, torch.Generator().manual_seed(0))
        >>> [round(point.mean().item(), 1) for point in walks], round(walks[1].var().item(), 1)
        ([3.0, 1.5, 0.7], 0.7)
    """
    if steps < 1 or not 0 <= r <= 1:
        raise ConfigError(
            f"A walk has at least 1 step and neighbours of a correlation r in [0, 1], got steps={steps} and r={r}: "
            "r=0 draws each point anew, r close to 1 makes small steps."
        )
    noise = torch.randn(steps, *start.shape, generator=generator).to(start)
    mean = torch.zeros_like(start[:1])
    if like is not None:
        like = like.to(start)
        mean = like.mean(0, keepdim=True)
        # Not Cholesky: a covariance of few examples is singular.
        variances, axes = torch.linalg.eigh(like.T.cov().reshape(2 * like.shape[1:]))
        noise = noise @ (axes * variances.clamp(min=0).sqrt()) @ axes.T
    points = [start - mean]
    for step in noise:
        points.append(r * points[-1] + (1 - r * r) ** 0.5 * step)
    return torch.stack(points) + mean


def law_of(interpreter: Interpreter, name: str, like: Tensor | None, generator: torch.Generator) -> Tensor | None:
    """Return values (m, N_k) whose law a factor is drawn from: those given, or draws of a mixture; None: N(0, 1)."""
    if like is None and isinstance(interpreter.density, Mixture):
        return interpreter.factors.split(interpreter.density.sample(DRAWS, generator))[name]
    return like


@torch.no_grad()
def factor_walks(
    interpreter: Interpreter,
    z: Tensor,
    name: str,
    steps: int,
    r: float,
    generator: torch.Generator,
    like: Tensor | None = None,
) -> Tensor:
    """Walk in one factor from each z (B, N): latents ``z^(t) = T^-1(z̃_0, ..., z̃_k^(t), ..., z̃_K)`` (steps + 1, B, N).

    The start comes first: z, as T^-1 gives it back. The rest are the arguments of `ornstein_uhlenbeck`.

    Raises:
        FactorError: the factor does not exist.
        ConfigError: steps or r out of range.

    Example:
        >>> from iin_lightning.encoders.classifier import Classifier
        >>> from iin_lightning.factors import Factors
        >>> from iin_lightning.flows.translator import Translator
        >>> network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4, norm="batch")
        >>> factors = Factors({"residual": 4, "digit": 4}, 8)
        >>> interpreter = Interpreter(network, Translator(8, n_blocks=2, hidden=16), factors)
        >>> walks = factor_walks(interpreter, torch.randn(5, 8), "digit", 3, 0.9, torch.Generator().manual_seed(0))
        >>> walks.shape, interpreter.decode(walks[-1]).shape
        (torch.Size([4, 5, 8]), torch.Size([5, 3]))
    """
    interpreter.factors[name]
    parts = interpreter.factors.split(in_chunks(interpreter.translate, z.to(interpreter.device)))
    path = ornstein_uhlenbeck(parts[name], steps, r, generator, law_of(interpreter, name, like, generator))
    rest = {other: part.expand(steps + 1, -1, -1) for other, part in parts.items()}
    z_tilde = interpreter.factors.merge(rest | {name: path})
    return in_chunks(interpreter.untranslate, z_tilde.flatten(0, 1)).unflatten(0, (steps + 1, len(z)))
