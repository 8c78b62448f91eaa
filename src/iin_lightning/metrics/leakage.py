"""Leakage: what a probe reads of a concept from its own factor, and from all the others.

Symbols: z̃_k (n, N_k) are the factors of n items, the residual among them. A concept c is a class, whole numbers (n,),
or a quantity such as a colour, floating-point (n,) or (n, d). q(c | z̃) is what a probe says of it. H and I are entropy
and mutual information in nats. One half of the items fits the probe, the other half is read.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from scipy.stats import entropy
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from iin_lightning.errors import ConfigError, FactorError, NonFiniteError, ShapeError, choices
from iin_lightning.factors import RESIDUAL

ProbeKind = Literal["kernel", "linear"]
LANDMARKS = 300  # of the kernel probe: more read little more, and the cost grows with their square


class Readout(NamedTuple):
    """What a probe reads of a concept on items that it was not fitted on.

    Attributes:
        information: lower bound of I(c; z̃) in nats, at least 0.
        share: the same between 0 (nothing) and 1 (all): of a class I / H(c), of a quantity its mean R².
        score: between 0 (chance) and 1: of a class the mean recall of all classes, rescaled so that guessing gives 0;
            of a quantity its mean R².
        accuracy: how many items are read rightly, in [0, 1]; of a quantity its mean R², which may be negative.
        chance: the accuracy of always saying the most frequent class; 0 of a quantity.
    """

    information: float
    share: float
    score: float
    accuracy: float
    chance: float


class Probe(Protocol):
    """A probe that was fitted on one half of the items.

    Attributes:
        held_out: long, the items of the other half.
    """

    held_out: Tensor

    def read(self, z: Tensor) -> Readout:
        """What it reads from the held-out ones among the items z (n, D)."""


def fit_probe(z: Tensor, concept: Tensor, probe: ProbeKind = "kernel", seed: int = 0) -> Probe:
    """Fit a probe for a concept on half of the items.

    ``linear`` is a logistic or ridge regression on standardised dimensions; ``kernel`` gives the same regression the
    similarities to some 300 of the items besides (Nyström features of a Gaussian kernel), so that it also reads what
    lies in no direction. Both are convex: a seed gives one answer.

    Args:
        z: (n, D), finite.
        concept: whole numbers (n,) for a class, floating-point (n,) or (n, d) for a quantity.
        probe: which one.
        seed: of the halves and of the landmarks.

    Raises:
        ConfigError: there is no such probe; the concept has a single value, or a class a single item.
        ShapeError: not as many values of the concept as items, or a class of more than one column.
        NonFiniteError: NaN or infinity among the items.

    Example:
        >>> z = torch.randn(200, 3)
        >>> fit_probe(z, (z[:, 0] > 0).long(), "linear").read(z).accuracy > 0.9
        True
    """
    if probe not in get_args(ProbeKind):
        raise ConfigError(f"There is no probe {probe!r}; {choices(probe, get_args(ProbeKind))}.")
    if z.dim() != 2 or len(concept) != len(z) or not (concept.dim() == 1 or concept.is_floating_point()):
        raise ShapeError(
            f"A probe needs items (n, D) and a class (n,) or a quantity (n, d) of each, got {tuple(z.shape)} and "
            f"{concept.dtype} {tuple(concept.shape)}: give one column of the labels at a time."
        )
    if not torch.isfinite(z).all():
        bad = int((~torch.isfinite(z)).any(1).sum())
        raise NonFiniteError(
            f"A probe cannot read {bad} of {len(z)} items, which are not finite: see what T got for them."
        )
    if concept.is_floating_point():
        return QuantityProbe(z, concept, probe, seed)
    return ClassProbe(z, concept, probe, seed)


class ClassProbe:
    """A probe q(c | z̃) for a class.

    ``I(c; z̃) >= H(c) - E[-log q(c | z̃)]``, the information that `read` gives: a weak probe reads too little, none
    more than by chance too much. Where classes are unequally frequent, H(c) says so; the score takes the class with
    the largest ``q(c | z̃) / p(c)``, so that a rare class counts as much as a frequent one.

    Args:
        z: (n, D).
        concept: whole numbers (n,), at least 2 items a class.
        probe: see `fit_probe`.
        seed: see `fit_probe`.

    References:
        Barber and Agakov, The IM Algorithm, NIPS 2003 (the bound).
    """

    def __init__(self, z: Tensor, concept: Tensor, probe: ProbeKind, seed: int) -> None:
        classes, labels, counts = concept.unique(return_inverse=True, return_counts=True)
        if len(classes) < 2 or counts.min() < 2:
            few = classes[counts < 2].tolist()
            raise ConfigError(
                f"A probe needs two or more classes of two or more items each, got {len(classes)} classes"
                + (f", of which {few[:5]} have a single item" if few else "")
                + ": take more items, or leave the concept or the class out."
            )
        self.labels = labels.cpu().numpy()
        fitted, held_out = _halves(len(z), self.labels, seed)
        self.held_out = torch.from_numpy(held_out)
        self.prior = np.bincount(self.labels[fitted]) / len(fitted)
        # Similarities lie in [0, 1] and need larger weights than standardised dimensions.
        regression = LogisticRegression(C=10.0 if probe == "kernel" else 1.0, max_iter=1000)
        self.model = _pipeline(z, probe, seed, len(fitted), regression).fit(_array(z)[fitted], self.labels[fitted])

    def read(self, z: Tensor) -> Readout:
        """See ``Probe``."""
        labels = self.labels[self.held_out.numpy()]
        q = self.model.predict_proba(_array(z[self.held_out]))
        counts = np.bincount(labels)
        uncertainty = float(entropy(counts))
        information = max(uncertainty - log_loss(labels, q, labels=range(q.shape[1])), 0.0)
        balanced = balanced_accuracy_score(labels, (q / self.prior).argmax(1), adjusted=True)
        return Readout(
            information=information,
            share=information / uncertainty,
            score=max(float(balanced), 0.0),
            accuracy=float(accuracy_score(labels, q.argmax(1))),
            chance=float(counts.max() / len(labels)),
        )


class QuantityProbe:
    """A probe for a quantity of d parts, say the red, green and blue of a colour.

    ``I(c; z̃) >= -1/2 Σ_j log(1 - R²_j)`` where the parts are Gaussian and independent, about so where they are not.
    A quantity has no entropy to divide by; R² = 1 - exp(-2 I) of a Gaussian takes its place.

    Args:
        z: (n, D).
        concept: floating-point (n,) or (n, d); a part that does not vary is left out.
        probe: see `fit_probe`.
        seed: see `fit_probe`.

    References:
        Linfoot, An informational measure of correlation, Information and Control 1957 (1 - exp(-2 I)).
    """

    def __init__(self, z: Tensor, concept: Tensor, probe: ProbeKind, seed: int) -> None:
        values = _array(concept.reshape(len(concept), -1))
        self.values = values[:, values.std(0) > 0]
        if len(values) < 4 or not self.values.shape[1]:
            raise ConfigError(
                f"A probe needs a quantity that varies over four or more items, got {len(values)} items, over which "
                f"{self.values.shape[1]} of {values.shape[1]} parts vary: take more items, or leave the concept out."
            )
        fitted, held_out = _halves(len(z), None, seed)
        self.held_out = torch.from_numpy(held_out)
        regression = RidgeCV(alphas=np.logspace(-3, 3, 7))
        self.model = _pipeline(z, probe, seed, len(fitted), regression).fit(_array(z)[fitted], self.values[fitted])

    def read(self, z: Tensor) -> Readout:
        """See ``Probe``."""
        predicted = self.model.predict(_array(z[self.held_out])).reshape(len(self.held_out), -1)
        r2 = r2_score(self.values[self.held_out.numpy()], predicted, multioutput="raw_values")
        # Labels are no more exact than float32, so neither is what can be known of them.
        unexplained = np.clip(1 - r2, np.finfo(np.float32).eps, 1)
        known = float(1 - unexplained.mean())
        return Readout(float(0.5 * np.log(1 / unexplained).sum()), known, known, float(r2.mean()), 0.0)


def leakage(
    factors: Mapping[str, Tensor], concepts: Mapping[str, Tensor], probe: ProbeKind = "kernel", seed: int = 0
) -> dict[str, float]:
    """What a probe reads of each concept from its own factor, and from all others together, the residual included.

    Perfect factors keep a concept where it belongs: "own" is high and "others" is at "chance".

    Args:
        factors: name -> z̃_k (n, N_k), as ``Factors.split`` gives them.
        concepts: concept -> whole numbers (n,) or floating-point (n,), (n, d); each has a factor of its name.
        probe: which one, see `fit_probe`.
        seed: see `fit_probe`.

    Returns:
        ``{concept}/own``, ``{concept}/others`` and ``{concept}/chance``: accuracies, R² of a quantity;
        ``{concept}/own_information`` and ``{concept}/others_information``: the share of what there is to know, in
        [0, 1], which also tells where one class is so frequent that every accuracy is high.

    Raises:
        FactorError: a concept without a factor.
        ConfigError, ShapeError: see `fit_probe`.

    Example:
        >>> digit, color = torch.arange(400) % 4, torch.rand(400, 3)
        >>> scores = leakage({"residual": torch.randn(400, 2), "digit": torch.eye(4)[digit], "color": color},
        ...                  {"digit": digit, "color": color})
        >>> scores["digit/own"], scores["digit/chance"], scores["digit/others_information"] < 0.1
        (1.0, 0.25, True)
    """
    for concept in concepts:
        if concept not in factors or concept == RESIDUAL:
            own = [name for name in factors if name != RESIDUAL]
            raise FactorError(f"There is no factor {concept!r} whose leakage could be told; {choices(concept, own)}.")
    scores: dict[str, float] = {}
    for concept, values in concepts.items():
        others = torch.cat([part for name, part in factors.items() if name != concept], dim=1)
        for case, z in (("own", factors[concept]), ("others", others)):
            readout = fit_probe(z, values, probe, seed).read(z)
            scores[f"{concept}/{case}"] = readout.accuracy
            scores[f"{concept}/{case}_information"] = readout.share
            scores[f"{concept}/chance"] = readout.chance
    return scores


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    return values.detach().cpu().double().numpy()


def _halves(n: int, labels: np.ndarray[Any, Any] | None, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Items to fit on and items to read, every class in both halves."""
    fitted, held_out = train_test_split(np.arange(n), test_size=0.5, stratify=labels, random_state=seed)
    return fitted, held_out


def _pipeline(z: Tensor, probe: ProbeKind, seed: int, n_fitted: int, regression: Any) -> Any:
    if probe == "linear":
        return make_pipeline(StandardScaler(), regression)
    # The mean squared distance of standardised points is 2D: there the similarity is exp(-1).
    kernel = Nystroem(gamma=0.5 / z.shape[1], n_components=min(LANDMARKS, n_fitted), random_state=seed)
    return make_pipeline(StandardScaler(), make_union("passthrough", kernel), regression)
