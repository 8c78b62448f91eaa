"""Directions: where in z̃ an attribute lies, and which part of the way there leaves the others alone (Eq. 14, Fig. 8).

Symbols: z̃ (n, N) are the factors of n examples; an attribute F is 1 where an example has it, 0 where it lacks it and
-1 where nobody knows; Δ_F (N,) is the mean z̃ of those that have it minus the mean of those that lack it; d_F (N,) is
F's direction. A step alpha leads from z̃ to z̃ + alpha d_F.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor

from iin_lightning.analysis.attributes import examples
from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError, choices
from iin_lightning.factors import Factors
from iin_lightning.interpreter import Interpreter

Method = Literal["mean", "svm", "logistic"]
FEWEST = 5
"""Examples on each side: the mean of m of them is off by about sqrt(N / m), and fewer would give noise alone."""
NOTHING = 1e-4  # of a direction's length: less than this is left by rounding


NARROW = 0.5
"""Root mean square deviation of a factor, of which N(0, 1) has 1, below which means do not find the best direction."""


@dataclass(frozen=True)
class Direction:
    """Where an attribute lies.

    Attributes:
        vector: d_F (N,), the step alpha = 1 towards having it.
        having: how many examples have it.
        lacking: how many do not.
    """

    vector: Tensor
    having: int
    lacking: int


def choose_method(z_tilde: Tensor, factors: Factors) -> Method:
    """The method that fits the spread of z̃ (n, N): "mean", or "logistic" where a factor is narrower than 1/2.

    Example:
        >>> z_tilde, factors = torch.randn(1000, 3), Factors({"residual": 2, "digit": 1}, 3)
        >>> choose_method(z_tilde, factors), choose_method(z_tilde * torch.tensor([1, 1, 0.2]), factors)
        ('mean', 'logistic')
    """
    spreads = [part.var(0).mean().sqrt().item() for part in factors.split(z_tilde).values()]
    return "logistic" if min(spreads) < NARROW else "mean"


def fit_directions(z_tilde: Tensor, attributes: Mapping[str, Tensor], method: Method = "mean") -> dict[str, Direction]:
    """The direction of each attribute, towards having it.

    ``mean``: ``d_F = Δ_F``, Eq. 14, in which the paper prints x where it means z̃, and whose arrow F -> F̄ points from
    those with the attribute to those without; here alpha > 0 gives the attribute. ``svm`` and ``logistic``: the unit
    normal w of a linear classifier, towards having, with ``d_F = w |w·Δ_F|``. So alpha = 1 is, for all of them, the
    distance of the two class means along the direction. A rare attribute counts as much as a frequent one.

    Where z̃ is standard normal, as an unsupervised T makes it, Δ_F is also the normal of the best linear reader of F; so
    what is orthogonal to it changes nothing that can be read linearly. The other two methods do not rely on that: take
    one of them for a supervised T, whose factors may be much narrower than N(0, 1).

    Args:
        z_tilde: (n, N), finite.
        attributes: name -> (n,), 1 has it, 0 lacks it, -1 unknown and not looked at.
        method: which estimator.

    Raises:
        ConfigError: there is no such method; too few examples have an attribute, or lack it.
        ShapeError: not an answer for each example, or another one than 1, 0 and -1.
        NonFiniteError: NaN or infinity in z̃.

    References:
        Esser, Rombach and Ommer, CVPR 2020, arXiv 2004.13166, Eq. 14. Shen et al., Interpreting the latent space of
        GANs for semantic face editing, CVPR 2020, arXiv 1907.10786 (normals).

    Example:
        >>> z_tilde = torch.randn(4000, 3)
        >>> smiling = fit_directions(z_tilde, {"Smiling": (z_tilde[:, 1] > 0).long()})["Smiling"]
        >>> (smiling.vector.round() + 0).tolist()  # two half Gaussians, whose means are 1.6 apart
        [0.0, 2.0, 0.0]
    """
    if method not in get_args(Method):
        raise ConfigError(f"There is no method {method!r} for directions; {choices(method, get_args(Method))}.")
    _check(z_tilde, attributes)
    z_tilde = z_tilde.detach().cpu()
    found: dict[str, Direction] = {}
    for name, column in attributes.items():
        answer = column.cpu()
        having, lacking = examples(answer)
        if min(having, lacking) < FEWEST:
            raise ConfigError(
                f"{having} examples have {name!r} and {lacking} lack it; a direction needs {FEWEST} or more on either "
                "side: take more labelled images, or leave the attribute out."
            )
        difference = z_tilde[answer == 1].double().mean(0) - z_tilde[answer == 0].double().mean(0)
        normal = difference if method == "mean" else _normal(z_tilde[answer >= 0], answer[answer >= 0], method)
        unit = torch.nn.functional.normalize(normal, dim=0)
        found[name] = Direction((unit * (unit @ difference).abs()).to(z_tilde.dtype), having, lacking)
    return found


def project(directions: Mapping[str, Direction], name: str, others: Collection[str]) -> Tensor:
    """The part of a direction that keeps other attributes fixed: what is orthogonal to their directions.

    ``d_F|G = p |d_F|² / |p|²``, where p is d_F minus its projection onto the span of all d_G. So ``d_F|G · d_F =
    d_F · d_F``: whoever reads F along d_F sees a step do as much as without keeping anything, and alpha means the same.
    The more F has in common with the others the longer is the step, |d_F| / |p| times, and the further off the data it
    leads.

    Args:
        directions: by name.
        name: of the attribute F that is to change.
        others: of the attributes G that are to stay; none gives d_F.

    Returns:
        (N,), the step alpha = 1.

    Raises:
        ConfigError: no direction of that name; F itself among the others, or nothing is left of it.

    References:
        Shen et al., CVPR 2020, arXiv 1907.10786 (conditional manipulation; there all steps have one length).

    Example:
        >>> z_tilde = torch.randn(4000, 3)
        >>> beard, male = (z_tilde[:, 0] + z_tilde[:, 1] > 1).long(), (z_tilde[:, 1] > 0).long()
        >>> directions = fit_directions(z_tilde, {"Beard": beard, "Male": male})
        >>> (directions["Beard"].vector.round() + 0).tolist()  # beards also make men
        [1.0, 1.0, 0.0]
        >>> (project(directions, "Beard", ["Male"]).round() + 0).tolist()
        [2.0, 0.0, 0.0]
    """
    for asked in (name, *others):
        if asked not in directions:
            raise ConfigError(f"There is no direction {asked!r}; {choices(asked, directions)}.")
    direction = directions[name]
    if not others:
        return direction.vector
    if name in others:
        raise ConfigError(f"{name!r} cannot change and be kept at once: leave it out of those to keep.")
    vector = direction.vector.double()
    span = torch.stack([directions[other].vector.double() for other in others], dim=1)
    span = span / span.norm(dim=0)
    # Attributes may say the same as each other, so the rank is found, too.
    rest = vector - span @ torch.linalg.lstsq(span, vector[:, None], driver="gelsd").solution[:, 0]
    if rest.norm() < NOTHING * vector.norm():
        raise ConfigError(
            f"The direction of {name!r} is made of those of {', '.join(others)}, so nothing of it is left if they are "
            "kept: keep fewer."
        )
    return (rest * vector.square().sum() / rest.square().sum()).to(direction.vector.dtype)


def cosines(vectors: Tensor) -> Tensor:
    """How much directions (K, N) agree: ``cos(d_i, d_j)`` in [-1, 1], (K, K); 0 where they have nothing in common.

    Example:
        >>> cosines(torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    unit = torch.nn.functional.normalize(vectors.double())
    return (unit @ unit.T).to(vectors.dtype)


@torch.no_grad()
def along(interpreter: Interpreter, x: Tensor, vector: Tensor, alphas: Sequence[float]) -> Tensor:
    """Walk images along a direction: ``G(T^-1(T(E(x)) + alpha d))`` for each alpha (Fig. 8).

    Args:
        interpreter: who encodes, translates and decodes.
        x: images (B,C,H,W) in [-1,1].
        vector: d (N,), the step alpha = 1.
        alphas: in units of d; 0 is the reconstruction, to the last bit.

    Returns:
        Outputs (len(alphas), B, ...): images in [-1,1], or logits.
    """
    z_tilde = interpreter.translate(interpreter.encode(x))
    step = vector.to(z_tilde)
    # One alpha at a time: in batches of another size a convolution may differ in its last bits.
    return torch.stack([interpreter.decode(interpreter.untranslate(z_tilde + alpha * step)) for alpha in alphas])


def _normal(z_tilde: Tensor, answer: Tensor, method: Method) -> Tensor:
    """Normal (N,) of a linear classifier's boundary, towards having."""
    model: Any = (
        LinearSVC(class_weight="balanced", dual=False)
        if method == "svm"
        else LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    return torch.from_numpy(model.fit(z_tilde.double().numpy(), answer.numpy()).coef_[0]).double()


def _check(z_tilde: Tensor, attributes: Mapping[str, Tensor]) -> None:
    if z_tilde.dim() != 2:
        raise ShapeError(f"Directions are found among factors z̃ (n, N), got {tuple(z_tilde.shape)}.")
    for name, answer in attributes.items():
        if answer.shape != z_tilde.shape[:1] or not torch.isin(answer.cpu(), torch.tensor([-1, 0, 1])).all():
            raise ShapeError(
                f"Attribute {name!r} needs 1 (has it), 0 (lacks it) or -1 (unknown) for each of {len(z_tilde)} "
                f"examples, got {tuple(answer.shape)} with values {answer.unique().tolist()[:5]}."
            )
    if not torch.isfinite(z_tilde).all():
        bad = int((~torch.isfinite(z_tilde)).any(1).sum())
        raise NonFiniteError(
            f"The factors of {bad} of {len(z_tilde)} examples are not finite: see what T got for them."
        )
