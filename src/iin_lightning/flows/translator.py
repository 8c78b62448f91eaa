"""The translator T: from a latent z to factors z̃ of a simple density.

T is a chain of equal blocks: ActNorm normalises each dimension, a rotation or a permutation mixes the dimensions, and
two couplings transform the second half given the first, and the first given the second.
"""

from functools import partial

import torch
from torch import Tensor

from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.flows.base import Bijector, Chain
from iin_lightning.flows.conditioner import Conditioner, ResidualConditioner
from iin_lightning.flows.coupling import AffineCoupling
from iin_lightning.flows.density import Mixture, StandardNormal
from iin_lightning.flows.linear import ActNorm, Permutation, Rotation
from iin_lightning.flows.reversible import run_reversibly


class RotationBlock(Chain):
    """ActNorm, a learned rotation, and two couplings of `ResidualConditioner`s, which start as the identity."""

    def __init__(self, dim: int, hidden: int, depth: int, generator: torch.Generator) -> None:
        networks = partial(ResidualConditioner, hidden=hidden, depth=depth)
        super().__init__(
            {
                "actnorm": ActNorm(dim),
                "rotation": Rotation(dim, generator),
                "coupling_1": AffineCoupling(dim, "second", networks),
                "coupling_2": AffineCoupling(dim, "first", networks),
            }
        )


class ShuffleBlock(Chain):
    """The paper's block: ActNorm, two couplings of `Conditioner`s, and a fixed permutation."""

    def __init__(self, dim: int, hidden: int, depth: int, generator: torch.Generator) -> None:
        networks = partial(Conditioner, hidden=hidden, depth=depth)
        super().__init__(
            {
                "actnorm": ActNorm(dim),
                "coupling_1": AffineCoupling(dim, "second", networks),
                "coupling_2": AffineCoupling(dim, "first", networks),
                "permutation": Permutation.random(dim, generator),
            }
        )


class Translator(Bijector):
    """The invertible network T with z̃ = T(z): ``n_blocks`` `RotationBlock`s, then ActNorm and a rotation.

    Args:
        dim: N >= 2, the dimension of the latents.
        n_blocks: number of blocks.
        hidden: width of the coupling networks.
        depth: number of their residual blocks.
        seed: of the first rotations, which are drawn apart from torch's global generator.
        reversible: train with memory that does not grow with ``n_blocks``, for about a third more time: activations
            are computed again from the outputs, and gradients are as good as the round trip.
        components: Gaussians in the learned `Mixture` that is the density of z̃; 0: N(0, 1), as in the paper.

    Raises:
        ShapeError: ``dim`` is below 2, or an input is not (B, N).
        ConfigError: ``n_blocks``, ``hidden`` or ``depth`` is too small.

    References:
        Esser, Rombach and Ommer, "A Disentangling Invertible Interpretation Network for Explaining Latent
        Representations", CVPR 2020, arXiv 2004.13166, Sec. 3.1, whose own network is `PaperTranslator`.

    Example:
        >>> T = Translator(5, n_blocks=2, hidden=16)
        >>> z = torch.randn(8, 5)
        >>> T.initialize(z)
        >>> z_tilde, logdet = T(z)
        >>> torch.allclose(T.inverse(z_tilde)[0], z, atol=1e-5)
        True
        >>> T.log_prob(z).shape
        torch.Size([8])
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 8,
        hidden: int = 128,
        depth: int = 1,
        *,
        seed: int = 0,
        reversible: bool = False,
        components: int = 0,
    ) -> None:
        super().__init__()
        if dim < 2:
            raise ShapeError(f"A translator needs latents of at least 2 dimensions, got dim={dim}.")
        if n_blocks < 1:
            raise ConfigError(f"A translator needs at least 1 block, got n_blocks={n_blocks}.")
        self.dim, self.n_blocks, self.hidden, self.depth = dim, n_blocks, hidden, depth
        self.seed, self.reversible = seed, reversible
        self.components = components
        generator = torch.Generator().manual_seed(seed)
        self.blocks = Chain(self._blocks(generator))
        self.density = Mixture(dim, components, generator) if components else StandardNormal(dim)

    def _blocks(self, generator: torch.Generator) -> list[Bijector]:
        blocks = [RotationBlock(self.dim, self.hidden, self.depth, generator) for _ in range(self.n_blocks)]
        return [*blocks, Chain({"actnorm": ActNorm(self.dim), "rotation": Rotation(self.dim, generator)})]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Translate latents z (B, N) to factors z̃ (B, N), with log|det ∂z̃/∂z| (B,)."""
        self._check(z)
        # A compiler decides itself what is kept and what is computed again.
        if self.reversible and self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return run_reversibly(self.blocks, z)
        z_tilde, logdet = self.blocks(z)
        return z_tilde, logdet

    def inverse(self, z_tilde: Tensor) -> tuple[Tensor, Tensor]:
        """Translate factors z̃ (B, N) back to latents z (B, N), with log|det ∂z/∂z̃| (B,)."""
        self._check(z_tilde)
        return self.blocks.inverse(z_tilde)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density (B,) of latents z (B, N) in nats: ``log p(z) = log p(z̃) + log|det T'(z)|``."""
        z_tilde, logdet = self(z)
        return self.density.log_prob(z_tilde) + logdet

    @property
    def ready(self) -> bool:
        """Whether every ActNorm has its statistics, from a batch or a checkpoint."""
        return all(module.layer.ready for module in self.modules() if isinstance(module, ActNorm))

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Set every ActNorm and mixture that is not set yet, from a thousand latents z (B, N) or more.

        Without it the first training batch does the same, from fewer examples.

        Raises:
            ShapeError: z is not (B, N), or has too few examples for a deviation.
            NonFiniteError: NaN or infinity in z or in the output of a layer.
        """
        was_training = self.training
        self.train()
        try:
            self.density.log_prob(self(z)[0])
        finally:
            self.train(was_training)
        if not self.ready:
            raise ShapeError(f"ActNorm needs at least 2 latents to start from, got {len(z)}.")

    def _check(self, z: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise ShapeError(
                f"This translator takes latents of shape (B, {self.dim}), got {tuple(z.shape)}: "
                "flatten spatial latents, and build the translator with the encoder's latent_dim."
            )


class PaperTranslator(Translator):
    """The translator of the paper's code, a chain of `ShuffleBlock`s; 26,815,488 parameters for N = 64.

    Arguments are those of `Translator`; ``depth`` counts hidden-to-hidden layers, ``seed`` draws the permutations.
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 12,
        hidden: int = 512,
        depth: int = 2,
        *,
        seed: int = 0,
        reversible: bool = False,
    ) -> None:
        super().__init__(dim, n_blocks, hidden, depth, seed=seed, reversible=reversible)

    def _blocks(self, generator: torch.Generator) -> list[Bijector]:
        return [ShuffleBlock(self.dim, self.hidden, self.depth, generator) for _ in range(self.n_blocks)]
