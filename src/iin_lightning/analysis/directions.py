"""Attributes and their directions: where in z̃ an attribute lies, and which way leaves others alone (Eq. 14, Fig. 8).

An *attribute* is a question that the labels (n, K) of a data set answer: 1 where an example has it, 0 where it lacks
it, -1 where nobody knows. z̃ (n, N) are the factors of n examples, Δ_F (N,) is the mean z̃ of the examples that have F
minus that of those that lack it, and d_F (N,) its direction: a step alpha leads from z̃ to z̃ + alpha d_F.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor

from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError, choices
from iin_lightning.factors import Factors
from iin_lightning.interpreter import Interpreter

Method = Literal["mean", "svm", "logistic"]
FEWEST = 5
"""Examples on each side: the mean of m of them is off by about sqrt(N / m), and fewer would give noise alone."""
NARROW = 0.5
"""Root mean square deviation of a factor, of which N(0, 1) has 1, below which means do not find the best direction."""
NOTHING = 1e-4  # of a direction's length: less than this is left by rounding


class Attribute(NamedTuple):
    """Question with the answers yes and no: ``label`` of ``concept`` means yes, all other labels no."""

    concept: str
    label: int


def attributes_in(classes: Mapping[str, Sequence[str]]) -> dict[str, Attribute]:
    """Return the attributes that concepts with classes (concept -> names of labels 0, 1, ...) are made of, by name.

    A concept of two classes is one attribute, named after the concept where its classes are "not X" and "X", otherwise
    after its second class; a concept of more is one attribute a class, against all the rest: ``digit=3``.

    Example:
        >>> list(attributes_in({"Young": ("not Young", "Young"), "size": ("small", "tall"), "digit": "012"}))
        ['Young', 'size=tall', 'digit=0', 'digit=1', 'digit=2']
    """
    attributes: dict[str, Attribute] = {}
    for concept, names in classes.items():
        if len(names) == 2:
            answers = names[0] == f"not {names[1]}"
            attributes[concept if answers else f"{concept}={names[1]}"] = Attribute(concept, 1)
        elif len(names) > 2:
            attributes |= {f"{concept}={name}": Attribute(concept, label) for label, name in enumerate(names)}
    return attributes


def answers(labels: Tensor, concepts: Sequence[str], attributes: Mapping[str, Attribute]) -> dict[str, Tensor]:
    """Return what labels (n, K), a column a concept, say of attributes (n,): 1 has it, 0 lacks it, -1 unknown.

    Example:
        >>> answers(torch.tensor([[3], [5], [-1]]), ["digit"], {"digit=3": Attribute("digit", 3)})
        {'digit=3': tensor([ 1,  0, -1])}
    """
    columns = {name: labels[:, concepts.index(attribute.concept)] for name, attribute in attributes.items()}
    return {
        name: torch.where(column < 0, -1, (column == attributes[name].label).long()) for name, column in columns.items()
    }


def compatible(name: str, names: Iterable[str]) -> list[str]:
    """Return the attributes that can be kept while another changes: not itself, and no class that excludes it.

    A digit that becomes a 3 ceases to be a 7; and the ten means of the digits span nine dimensions only, so that
    nothing of a digit's direction is orthogonal to the other nine.

    Example:
        >>> compatible("digit=3", ["digit=3", "digit=7", "Smiling"])
        ['Smiling']
    """
    concept = name.partition("=")[0]
    return [other for other in names if other.partition("=")[0] != concept]


def examples(answer: Tensor) -> tuple[int, int]:
    """Count the examples (n,) that have an attribute, and those that lack it."""
    return int((answer == 1).sum()), int((answer == 0).sum())


@dataclass(frozen=True)
class Direction:
    """Step d_F (N,) that leads to having an attribute (alpha = 1), and how many examples have or lack it."""

    vector: Tensor
    having: int
    lacking: int


def choose_method(z_tilde: Tensor, factors: Factors) -> Method:
    """Choose the method that fits the spread of z̃ (n, N): "mean", or "logistic" where a factor is narrower than 1/2.

    Example:
        >>> z_tilde, factors = torch.randn(1000, 3), Factors({"residual": 2, "digit": 1}, 3)
        >>> choose_method(z_tilde, factors), choose_method(z_tilde * torch.tensor([1, 1, 0.2]), factors)
        ('mean', 'logistic')
    """
    spreads = [part.var(0).mean().sqrt().item() for part in factors.split(z_tilde).values()]
    return "logistic" if min(spreads) < NARROW else "mean"


def fit_directions(z_tilde: Tensor, attributes: Mapping[str, Tensor], method: Method = "mean") -> dict[str, Direction]:
    """Fit the direction of each attribute (n,), towards having it, to factors z̃ (n, N).

    ``mean``: ``d_F = Δ_F``, Eq. 14, in which the paper prints x where it means z̃, and whose arrow F -> F̄ points from
    those with the attribute to those without; here alpha > 0 gives the attribute. ``svm`` and ``logistic``: the unit
    normal w of a linear classifier, towards having, with ``d_F = w |w·Δ_F|``. So alpha = 1 is, for all of them, the
    distance of the two class means along the direction. A rare attribute counts as much as a frequent one.

    Where z̃ is standard normal, as an unsupervised T makes it, Δ_F is also the normal of the best linear classifier of
    F; so what is orthogonal to it changes nothing that can be read linearly. The other two methods do not rely on that:
    take them for a supervised T, whose factors may be much narrower than N(0, 1).

    Raises:
        ConfigError: the method does not exist; too few examples have an attribute, or lack it.
        ShapeError: an attribute does not answer 1, 0 or -1 for each example.
        NonFiniteError: NaN or infinity in z̃.

    References:
        Shen et al., Interpreting the latent space of GANs for semantic face editing, CVPR 2020, arXiv 1907.10786.

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
    """Return the part (N,) of F's direction that keeps other attributes G: what is orthogonal to their directions.

    ``d_F|G = p |d_F|² / |p|²``, where p is d_F minus its projection onto the span of all d_G. So ``d_F|G · d_F = d_F ·
    d_F``: along d_F a step does as much as without keeping anything, and alpha means the same. The more F has in common
    with the others the longer is the step, |d_F| / |p| times, and the further off the data it leads.

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
    """Return how much directions (K, N) agree: ``cos(d_i, d_j)`` in [-1, 1], (K, K)."""
    unit = torch.nn.functional.normalize(vectors.double())
    return (unit @ unit.T).to(vectors.dtype)


@torch.no_grad()
def along(interpreter: Interpreter, x: Tensor, vector: Tensor, alphas: Sequence[float]) -> Tensor:
    """Walk images (B,C,H,W) along a direction d (N,): ``G(T^-1(T(E(x)) + alpha d))`` (A, B, ...) at A alphas (Fig. 8).

    Alpha 0 is the reconstruction, to the last bit.
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
