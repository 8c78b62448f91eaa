"""Probes: what can be read of a concept from factors, on images that the probe was not fitted on.

Symbols: z̃_k (n, N_k) are the factors of n items, the residual among them. A concept c is a class, whole numbers (n,),
or a quantity such as a colour, floating-point (n,) or (n, d). q(c | z̃) is what a probe says of it. H and I are entropy
and mutual information in nats. One half of the images fits the probe, the other half is read: the versions of an image
are in one half, since a probe that knows the image would know the labels of all its versions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from scipy.stats import entropy
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from iin_lightning.errors import ConfigError, NonFiniteError, ShapeError, choices
from iin_lightning.metrics.measured import Measured, means

ProbeKind = Literal["kernel", "linear"]
LANDMARKS = 300  # of the kernel probe: more read little more, and the cost grows with their square
PERMUTATIONS = 200
Array = np.ndarray[Any, Any]


class Readout(NamedTuple):
    """What a probe reads of a concept on items that it was not fitted on.

    Attributes:
        information: lower bound of I(c; z̃) in nats, at least 0.
        share: the same between 0 (nothing) and 1 (all): of a class I / H(c), of a quantity its mean R².
        score: between 0 (chance) and 1: of a class the mean recall of all classes, rescaled so that guessing gives 0;
            of a quantity its mean R².
        accuracy: how many items are read rightly, in [0, 1]; of a quantity its mean R², which may be negative.
        chance: the accuracy of always saying the most frequent class; 0 of a quantity.

    All but chance have standard errors over the held-out images, the probe being given.
    """

    information: Measured
    share: Measured
    score: Measured
    accuracy: Measured
    chance: float


class Probe(Protocol):
    """A probe that was fitted on one half of the items.

    Attributes:
        held_out: long, the items of the other half.
    """

    held_out: Tensor

    def read(self, z: Tensor) -> Readout:
        """What it reads from the held-out ones among the items z (n, D)."""

    def tells(self, z: Tensor) -> bool:
        """Whether its score is above that of each of 200 permutations of the held-out labels: 1 in 200 is by chance."""


def fit_probe(
    z: Tensor, concept: Tensor, probe: ProbeKind = "kernel", seed: int = 0, images: Tensor | None = None
) -> Probe:
    """Fit a probe for a concept on half of the images.

    ``linear`` is a logistic or ridge regression on standardised dimensions; ``kernel`` gives the same regression the
    similarities to some 300 of the items besides (Nyström features of a Gaussian kernel), so that it also reads what
    lies in no direction. Both are convex: a seed gives one answer.

    Args:
        z: (n, D), finite.
        concept: whole numbers (n,) for a class, floating-point (n,) or (n, d) for a quantity.
        probe: which one.
        seed: of the halves and of the landmarks.
        images: long (n,), equal for items that are versions of one image; None: each item is an image.

    Raises:
        ConfigError: there is no such probe; the concept has a single value, or a class a single image.
        ShapeError: not as many values of the concept as items, or a class of more than one column.
        NonFiniteError: NaN or infinity among the items.

    Example:
        >>> z = torch.randn(200, 3)
        >>> fit_probe(z, (z[:, 0] > 0).long(), "linear").read(z).accuracy.value > 0.9
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
    numbers = np.arange(len(z)) if images is None else np.unique(images.cpu().numpy(), return_inverse=True)[1]
    if concept.is_floating_point():
        return QuantityProbe(z, concept, probe, seed, numbers)
    return ClassProbe(z, concept, probe, seed, numbers)


class ClassProbe:
    """A probe q(c | z̃) for a class.

    ``I(c; z̃) >= H(c) - E[-log q(c | z̃)]``, the information that `read` gives: a weak probe reads too little, none
    more than by chance too much. Where classes are unequally frequent, H(c) says so; the score takes the class with
    the largest ``q(c | z̃) / p(c)``, so that a rare class counts as much as a frequent one.

    Args:
        z: (n, D).
        concept: whole numbers (n,), at least 2 images a class.
        probe: see `fit_probe`.
        seed: see `fit_probe`.
        images: (n,), the number of each item's image, from 0 on.

    References:
        Barber and Agakov, The IM Algorithm, NIPS 2003 (the bound).
    """

    def __init__(self, z: Tensor, concept: Tensor, probe: ProbeKind, seed: int, images: Array) -> None:
        classes, labels = np.unique(concept.cpu().numpy(), return_inverse=True)
        counts = np.bincount(np.unique(np.stack([labels, images], 1), axis=0)[:, 0])
        if len(classes) < 2 or counts.min() < 2:
            few = classes[counts < 2].tolist()
            raise ConfigError(
                f"A probe needs two or more classes of two or more images each, got {len(classes)} classes"
                + (f", of which {few[:5]} have a single image" if few else "")
                + ": take more images, or leave the concept or the class out."
            )
        self.labels, self.images, self.seed = labels, images, seed
        fitted, held_out = _halves(images, labels, seed)
        self.held_out = torch.from_numpy(held_out)
        self.prior = np.bincount(self.labels[fitted]) / len(fitted)
        # Similarities lie in [0, 1] and need larger weights than standardised dimensions.
        regression = LogisticRegression(C=10.0 if probe == "kernel" else 1.0, max_iter=1000)
        self.model = _pipeline(z, probe, seed, len(fitted), regression).fit(_array(z)[fitted], self.labels[fitted])

    def read(self, z: Tensor) -> Readout:
        """See ``Probe``."""
        labels, n_classes = self.labels[self.held_out.numpy()], len(self.prior)
        q = self.model.predict_proba(_array(z[self.held_out]))
        share_of = np.bincount(labels, minlength=n_classes) / len(labels)
        uncertainty = float(entropy(share_of))
        loss = -np.log(q[np.arange(len(labels)), labels].clip(np.finfo(float).tiny))
        surprise = -np.log(share_of[labels])
        hit = (q / self.prior).argmax(1) == labels
        recall = np.bincount(labels, hit, n_classes) / np.bincount(labels, minlength=n_classes)
        scale = n_classes / (n_classes - 1)  # guessing recalls 1 of all classes
        # Each number as a mean of one value an item, to first order: the spread of these is its error.
        values = {
            "information": surprise - loss,
            "share": 1 - (loss + loss.mean() * (1 - surprise / uncertainty)) / uncertainty,
            "score": scale * (recall.mean() - 1 / n_classes + (hit - recall[labels]) / share_of[labels] / n_classes),
            "accuracy": q.argmax(1) == labels,
        }
        found = _measured(values, self.images[self.held_out.numpy()])
        return Readout(
            information=_at_least_0(found["information"]),
            share=_at_least_0(found["share"]),
            score=_at_least_0(found["score"]),
            accuracy=found["accuracy"],
            chance=float(share_of.max()),
        )

    def tells(self, z: Tensor) -> bool:
        """See ``Probe``."""
        items = self.held_out.numpy()
        predicted = (self.model.predict_proba(_array(z[self.held_out])) / self.prior).argmax(1)
        permuted = _permutations(self.labels[items], self.images[items], self.seed)
        n_classes = len(self.prior)

        def recall(labels: Array) -> float:
            counts = np.bincount(labels, minlength=n_classes)
            hits = np.bincount(labels[predicted == labels], minlength=n_classes)
            return float((hits / counts.clip(min=1)).sum())

        return recall(self.labels[items]) > max(map(recall, permuted))


class QuantityProbe:
    """A probe for a quantity of d parts, say the red, green and blue of a colour.

    ``I(c; z̃) >= -1/2 Σ_j log(1 - R²_j)`` where the parts are Gaussian and independent, about so where they are not.
    A quantity has no entropy to divide by; R² = 1 - exp(-2 I) of a Gaussian takes its place.

    Args:
        z: (n, D).
        concept: floating-point (n,) or (n, d); a part that does not vary is left out.
        probe: see `fit_probe`.
        seed: see `fit_probe`.
        images: (n,), the number of each item's image, from 0 on.

    References:
        Linfoot, An informational measure of correlation, Information and Control 1957 (1 - exp(-2 I)).
    """

    def __init__(self, z: Tensor, concept: Tensor, probe: ProbeKind, seed: int, images: Array) -> None:
        values = _array(concept.reshape(len(concept), -1))
        self.values = values[:, values.std(0) > 0]
        count = int(images.max()) + 1
        if count < 4 or not self.values.shape[1]:
            raise ConfigError(
                f"A probe needs a quantity that varies over four or more images, got {count} images, over which "
                f"{self.values.shape[1]} of {values.shape[1]} parts vary: take more images, or leave the concept out."
            )
        self.images, self.seed = images, seed
        fitted, held_out = _halves(images, None, seed)
        self.held_out = torch.from_numpy(held_out)
        regression = RidgeCV(alphas=np.logspace(-3, 3, 7))
        self.model = _pipeline(z, probe, seed, len(fitted), regression).fit(_array(z)[fitted], self.values[fitted])

    def read(self, z: Tensor) -> Readout:
        """See ``Probe``."""
        values = self.values[self.held_out.numpy()]
        missed = np.square(values - self._predicted(z))
        spread = np.square(values - values.mean(0))
        ratio = missed.mean(0) / spread.mean(0)
        # Labels are no more exact than float32, so neither is what can be known of them.
        unexplained = np.clip(ratio, np.finfo(np.float32).eps, 1)
        parts = 1 - (missed + (spread.mean(0) - spread) * ratio) / spread.mean(0)  # of which R² is the mean, see above
        rows = {
            "information": 0.5
            * (np.where(ratio < 1, (parts - 1 + ratio) / unexplained, 0) - np.log(unexplained)).sum(1),
            "known": np.where(ratio < 1, parts, 0).mean(1),
            "r2": parts.mean(1),
        }
        found = _measured(rows, self.images[self.held_out.numpy()])
        return Readout(found["information"], found["known"], found["known"], found["r2"], 0.0)

    def tells(self, z: Tensor) -> bool:
        """See ``Probe``."""
        items, predicted = self.held_out.numpy(), self._predicted(z)
        permuted = _permutations(self.values[items], self.images[items], self.seed)

        def error(values: Array) -> float:
            return float((np.square(values - predicted).mean(0) / values.var(0)).mean())

        return error(self.values[items]) < min(map(error, permuted))

    def _predicted(self, z: Tensor) -> Array:
        return np.asarray(self.model.predict(_array(z[self.held_out]))).reshape(len(self.held_out), -1)


def _array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()


def _halves(images: Array, labels: Array | None, seed: int) -> tuple[Array, Array]:
    """Items to fit on and items to read, of different images; every class in both halves."""
    numbers, first = np.unique(images, return_index=True)
    shared = labels is not None and bool((labels == labels[first][images]).all())
    strata = labels[first] if labels is not None and shared else None  # otherwise an image has items of several classes
    halves = train_test_split(numbers, test_size=0.5, stratify=strata, random_state=seed)
    fitted, held_out = (np.isin(images, half).nonzero()[0] for half in halves)
    if labels is not None and any(len(np.unique(labels[half])) < labels.max() + 1 for half in (fitted, held_out)):
        raise ConfigError("A probe needs items of each class in both halves of the images: take more images.")
    return fitted, held_out


def _permutations(labels: Array, images: Array, seed: int) -> Iterator[Array]:
    """Labels as they could be by chance: exchanged between images, or within each where it has several."""
    random, numbers = np.random.default_rng(seed), np.unique(images, return_inverse=True)[1]
    first = np.unique(numbers, return_index=True)[1]
    between = len(first) == len(labels) or bool((labels == labels[first][numbers]).all())
    order = np.argsort(numbers, kind="stable")
    for _ in range(PERMUTATIONS):
        if between:
            yield labels[random.permutation(first)][numbers]
        else:
            permuted = np.empty_like(labels)
            permuted[order] = labels[np.lexsort((random.random(len(labels)), numbers))]
            yield permuted


def _measured(values: Mapping[str, Array], images: Array) -> dict[str, Measured]:
    return means({name: torch.from_numpy(rows).double() for name, rows in values.items()}, torch.from_numpy(images))


def _at_least_0(number: Measured) -> Measured:
    return replace(number, value=max(number.value, 0.0))


def _pipeline(z: Tensor, probe: ProbeKind, seed: int, n_fitted: int, regression: Any) -> Any:
    if probe == "linear":
        return make_pipeline(StandardScaler(), regression)
    # The mean squared distance of standardised points is 2D: there the similarity is exp(-1).
    kernel = Nystroem(gamma=0.5 / z.shape[1], n_components=min(LANDMARKS, n_fitted), random_state=seed)
    return make_pipeline(StandardScaler(), make_union("passthrough", kernel), regression)
