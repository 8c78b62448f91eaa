"""Factors: the one place where an index means a concept.

Symbols (Sec. 3.1 of the paper): z̃ = (z̃_0, z̃_1, ..., z̃_K) are the factors, N_k their dimensions with
sum_k N_k = N. z̃_0 is the residual: what none of the K concepts explains. It always comes first.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.errors import FactorError, ShapeError, choices

RESIDUAL = "residual"


class PairBatch(NamedTuple):
    """Pairs of examples and the factors that both share.

    Attributes:
        a: first examples, images (B, C, H, W) or latents (B, N).
        b: second examples, of the shape of ``a``.
        shared: bool (B, K+1); ``shared[i, k]`` says that pair i agrees in factor k. "Same digit" is true
            in that column alone; "differs only in digit" is true in all others.
    """

    a: Tensor
    b: Tensor
    shared: Tensor


class GroupBatch(NamedTuple):
    """Examples and, factor by factor, the groups that share it.

    Attributes:
        x: images (B, C, H, W) or latents (B, N).
        groups: long (B, K+1), the residual first; two examples share factor k where their numbers k are equal. A
            negative number is that of no group: it is not known that the example shares this factor with another.
    """

    x: Tensor
    groups: Tensor


class Factors(Mapping[str, int]):
    """Names and dimensions of the factors z̃_0, ..., z̃_K of a latent in R^N, the residual first.

    Args:
        dims: name -> dimension; must hold ``residual``, which is moved to the front.
        latent_dim: N, which the dimensions must sum to.

    Raises:
        FactorError: no residual, a dimension below 1, a sum other than N, or a name that names no file.

    Example:
        >>> factors = Factors({"digit": 2, "residual": 3, "color": 1}, latent_dim=6)
        >>> factors
        Factors(residual=3, digit=2, color=1)
        >>> {name: tuple(part.shape) for name, part in factors.split(torch.zeros(4, 6)).items()}
        {'residual': (4, 3), 'digit': (4, 2), 'color': (4, 1)}
        >>> factors.mask(["digit"]).tolist()
        [False, True, False]
    """

    def __init__(self, dims: Mapping[str, int], latent_dim: int) -> None:
        if RESIDUAL not in dims:
            raise FactorError(
                f"The factors {dict(dims)} have no {RESIDUAL!r}; it holds what the concepts leave over: "
                f"add {RESIDUAL}=<dimension> so that all sum to {latent_dim}."
            )
        wrong = {name: dim for name, dim in dims.items() if not isinstance(dim, int) or dim < 1}
        if wrong:
            raise FactorError(f"Every factor needs a whole dimension of at least 1, but got {wrong}.")
        if unfit := [name for name in dims if not name.isprintable() or re.search(r"[/\\]", name)]:
            raise FactorError(f"Factors name files and columns, so they have letters and no slash, but got {unfit}.")
        total = sum(dims.values())
        if total != latent_dim:
            listed = " + ".join(f"{name} {dim}" for name, dim in dims.items())
            raise FactorError(
                f"The factors {listed} sum to {total}, but the latent has {latent_dim} dimensions: "
                f"change a factor by {latent_dim - total:+d} (say model.factors.{RESIDUAL}="
                f"{max(dims[RESIDUAL] + latent_dim - total, 1)}), or encoder.latent_dim to {total}."
            )
        self._dims = {RESIDUAL: dims[RESIDUAL]} | {k: v for k, v in dims.items() if k != RESIDUAL}
        self.latent_dim = latent_dim

    @classmethod
    def unsupervised(cls, latent_dim: int) -> "Factors":
        """The single factor of an unsupervised translator: all N dimensions are residual."""
        return cls({RESIDUAL: latent_dim}, latent_dim)

    def __getitem__(self, name: str) -> int:
        if name not in self._dims:
            raise FactorError(f"There is no factor {name!r}; {choices(str(name), self._dims)}.")
        return self._dims[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dims)

    def __len__(self) -> int:
        return len(self._dims)

    def __contains__(self, name: object) -> bool:
        return name in self._dims

    def __repr__(self) -> str:
        return f"Factors({', '.join(f'{name}={dim}' for name, dim in self.items())})"

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the residual first."""
        return tuple(self._dims)

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of the K concepts, without the residual."""
        return self.names[1:]

    def index(self, name: str) -> int:
        """The column k of a factor in a mask."""
        self[name]
        return self.names.index(name)

    def split(self, z_tilde: Tensor) -> dict[str, Tensor]:
        """Cut z̃ (B, N) into its parts (B, N_k), by name."""
        self._check(z_tilde)
        return dict(zip(self.names, torch.split(z_tilde, list(self.values()), dim=-1)))

    def merge(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Put parts (B, N_k), named as in ``split`` and in any order, together to z̃ (B, N)."""
        for name in (*self.names, *parts):
            if name not in parts or name not in self._dims:
                raise FactorError(f"merge needs exactly the parts {self.names}, got {tuple(parts)}.")
        for name, part in parts.items():
            if part.shape[-1] != self[name]:
                raise ShapeError(f"Factor {name!r} has {self[name]} dimensions, its part {part.shape[-1]}.")
        return torch.cat([parts[name] for name in self.names], dim=-1)

    def mask(self, names: str | Iterable[str]) -> Tensor:
        """A bool mask (K+1,) that is true for the named factors, or for one."""
        chosen = {self.index(name) for name in ([names] if isinstance(names, str) else names)}
        return torch.tensor([k in chosen for k in range(len(self))])

    def expand(self, mask: Tensor) -> Tensor:
        """Repeat a mask over factors (..., K+1) to one over dimensions (..., N).

        Example:
            >>> Factors({"residual": 2, "digit": 1}, 3).expand(torch.tensor([True, False])).tolist()
            [True, True, False]
        """
        if mask.shape[-1] != len(self):
            raise ShapeError(f"A mask over {self.names} has {len(self)} columns, got {mask.shape[-1]}.")
        # No tensor of the dimensions: to bring it to a GPU would make the host wait at each step.
        columns = mask.split(1, dim=-1)
        return torch.cat([column.expand(*mask.shape[:-1], dim) for column, dim in zip(columns, self.values())], dim=-1)

    def _check(self, z_tilde: Tensor) -> None:
        if z_tilde.shape[-1] != self.latent_dim:
            raise ShapeError(f"{self} splits {self.latent_dim} dimensions, got {tuple(z_tilde.shape)}.")
