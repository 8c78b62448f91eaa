"""Probes: what can be read of a concept from factors, on images that the probe was not fitted on.

Symbols: z̃_k (n, N_k) are the factors of n items, the residual among them. A concept c is a class, whole numbers (n,),
or a quantity such as a colour, floating-point (n,) or (n, d). q(c | z̃) is what a probe says of it. H and I are entropy
and mutual information in nats. One half of the images fits the probe, the other half is read: the versions of an image
are in one half, since a probe that knows the image would know the labels of all its versions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

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
    """What a probe reads of a concept on items that it was not fitted on, with standard errors over their images.

    Attributes:
        information: lower bound of I(c; z̃) in nats, at least 0.
        share: the same between 0 (nothing) and 1 (all): of a class I / H(c), of a quantity its mean R².
        score: between 0 (chance) and 1: of a class the mean recall of all classes, rescaled so that guessing gives 0;
            of a quantity its mean R².
        accuracy: how many items are read rightly, in [0, 1]; of a quantity its mean R², which may be negative.
        chance: the accuracy of always saying the most frequent class; 0 of a quantity.
    """

    information: Measured
    share: Measured
    score: Measured
    accuracy: Measured
    chance: float


class Probe(ABC):
    """Probe that was fitted on one half of the items; ``held_out`` are the items of the other half."""

    def __init__(
        self,
        z: Tensor,
        values: Array,
        images: Array,
        labels: Array | None,
        seed: int,
        probe: ProbeKind,
        regression: Any,
    ) -> None:
        self.values, self.images, self.seed = values, images, seed
        self.fitted, held_out = _halves(images, labels, seed)
        self.held_out = torch.from_numpy(held_out)
        pipeline = _pipeline(z, probe, seed, len(self.fitted), regression)
        self.model = pipeline.fit(_array(z)[self.fitted], values[self.fitted])

    @abstractmethod
    def read(self, z: Tensor) -> Readout:
        """Read the held-out items among the items z (n, D)."""

    def tells(self, z: Tensor) -> bool:
        """Say whether it beats 200 permutations of the held-out labels, as 1 in 200 does by chance."""
        items, error = self.held_out.numpy(), self._error(z)
        permuted = _permutations(self.values[items], self.images[items], self.seed)
        return error(self.values[items]) < min(map(error, permuted))

    @abstractmethod
    def _error(self, z: Tensor) -> Callable[[Array], float]:
        """Return how wrong its answers to z are for given labels."""

    def _measured(self, values: Mapping[str, Array]) -> dict[str, Measured]:
        images = torch.from_numpy(self.images[self.held_out.numpy()])
        return means({name: torch.from_numpy(rows).double() for name, rows in values.items()}, images)


def fit_probe(
    z: Tensor, concept: Tensor, probe: ProbeKind = "kernel", seed: int = 0, images: Tensor | None = None
) -> Probe:
    """Fit a probe for a concept to half of the images, of items z (n, D).

    ``linear`` is a logistic or ridge regression on standardised dimensions; ``kernel`` gives the same regression the
    similarities to some 300 of the items besides (Nyström features of a Gaussian kernel), so that it also reads what
    lies in no direction. Both are convex: a seed, of the halves and landmarks, gives one answer. ``images`` (n,) are
    equal for items that are versions of an image; None: each item is an image.

    Raises:
        ConfigError: the probe does not exist; the concept has a single value, or a class a single image.
        ShapeError: not as many values of the concept as items, or a class of more than one column.
        NonFiniteError: NaN or infinity among the items.
    """
    if probe not in get_args(ProbeKind):
        raise ConfigError(f"No probe is called {probe!r}; {choices(probe, get_args(ProbeKind))}.")
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


class ClassProbe(Probe):
    """Probe q(c | z̃) for a class of whole numbers (n,), at least 2 images a class.

    ``I(c; z̃) >= H(c) - E[-log q(c | z̃)]``, the information that `read` gives (Barber and Agakov, The IM Algorithm, NIPS
    2003): a weak probe reads too little, none more than by chance too much. Where classes are unequally frequent, H(c)
    says so; the score takes the class with the largest ``q(c | z̃) / p(c)``, so that a rare class counts as much as a
    frequent one.
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
        # Similarities lie in [0, 1] and need larger weights than standardised dimensions.
        regression = LogisticRegression(C=10.0 if probe == "kernel" else 1.0, max_iter=1000)
        super().__init__(z, labels, images, labels, seed, probe, regression)
        self.prior = np.bincount(labels[self.fitted]) / len(self.fitted)

    def read(self, z: Tensor) -> Readout:
        """See ``Probe``."""
        labels, n_classes = self.values[self.held_out.numpy()], len(self.prior)
        q = self.model.predict_proba(_array(z[self.held_out]))
        share_of = np.bincount(labels, minlength=n_classes) / len(labels)
        uncertainty = float(entropy(share_of))
        loss = -np.log(q[np.arange(len(labels)), labels].clip(np.finfo(float).tiny))
        surprise = -np.log(share_of[labels])
        hit = (q / self.prior).argmax(1) == labels
        recall = np.bincount(labels, hit, n_classes) / np.bincount(labels, minlength=n_classes)
        scale = n_classes / (n_classes - 1)  # guessing recalls 1 of all classes
        # Each number as a mean of one value an item, to first order: the spread of these is its error.
        found = self._measured(
            {
                "information": surprise - loss,
                "share": 1 - (loss + loss.mean() * (1 - surprise / uncertainty)) / uncertainty,
                "score": scale
                * (recall.mean() - 1 / n_classes + (hit - recall[labels]) / share_of[labels] / n_classes),
                "accuracy": q.argmax(1) == labels,
            }
        )
        information, share, score = (
            replace(found[name], value=max(found[name].value, 0.0)) for name in ("information", "share", "score")
        )
        return Readout(information, share, score, found["accuracy"], float(share_of.max()))

    def _error(self, z: Tensor) -> Callable[[Array], float]:
        predicted = (self.model.predict_proba(_array(z[self.held_out])) / self.prior).argmax(1)

        def missed(labels: Array) -> float:
            counts = np.bincount(labels, minlength=len(self.prior))
            hits = np.bincount(labels[predicted == labels], minlength=len(self.prior))
            return -float((hits / counts.clip(min=1)).sum())

        return missed


class QuantityProbe(Probe):
    """Probe for a quantity of d parts, say the red, green and blue of a colour; a part that does not vary is left out.

    ``I(c; z̃) >= -1/2 Σ_j log(1 - R²_j)`` where the parts are Gaussian and independent, about so where they are not. A
    quantity has no entropy to divide by; R² = 1 - exp(-2 I) of a Gaussian takes its place (Linfoot, An informational
    measure of correlation, Information and Control 1957).
    """

    def __init__(self, z: Tensor, concept: Tensor, probe: ProbeKind, seed: int, images: Array) -> None:
        values = _array(concept.reshape(len(concept), -1))
        varying = values[:, values.std(0) > 0]
        count = int(images.max()) + 1
        if count < 4 or not varying.shape[1]:
            raise ConfigError(
                f"A probe needs a quantity that varies over four or more images, got {count} images, over which "
                f"{varying.shape[1]} of {values.shape[1]} parts vary: take more images, or leave the concept out."
            )
        super().__init__(z, varying, images, None, seed, probe, RidgeCV(alphas=np.logspace(-3, 3, 7)))

    def read(self, z: Tensor) -> Readout:
        """See ``Probe``."""
        values = self.values[self.held_out.numpy()]
        missed = np.square(values - self._predicted(z))
        spread = np.square(values - values.mean(0))
        ratio = missed.mean(0) / spread.mean(0)
        # Labels are no more exact than float32, so neither is what can be known of them.
        unexplained = np.clip(ratio, np.finfo(np.float32).eps, 1)
        parts = 1 - (missed + (spread.mean(0) - spread) * ratio) / spread.mean(0)  # of which R² is the mean, see above
        gained = np.where(ratio < 1, (parts - 1 + ratio) / unexplained, 0)
        found = self._measured(
            {
                "information": 0.5 * (gained - np.log(unexplained)).sum(1),
                "known": np.where(ratio < 1, parts, 0).mean(1),
                "r2": parts.mean(1),
            }
        )
        return Readout(found["information"], found["known"], found["known"], found["r2"], 0.0)

    def _error(self, z: Tensor) -> Callable[[Array], float]:
        predicted = self._predicted(z)
        return lambda values: float((np.square(values - predicted).mean(0) / values.var(0)).mean())

    def _predicted(self, z: Tensor) -> Array:
        return np.asarray(self.model.predict(_array(z[self.held_out]))).reshape(len(self.held_out), -1)


def _array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()


def _halves(images: Array, labels: Array | None, seed: int) -> tuple[Array, Array]:
    """Split items into those to fit and those to read, of different images; every class in both halves."""
    numbers, first = np.unique(images, return_index=True)
    shared = labels is not None and bool((labels == labels[first][images]).all())
    strata = labels[first] if labels is not None and shared else None  # otherwise an image has items of several classes
    halves = train_test_split(numbers, test_size=0.5, stratify=strata, random_state=seed)
    fitted, held_out = (np.isin(images, half).nonzero()[0] for half in halves)
    if labels is not None and any(len(np.unique(labels[half])) < labels.max() + 1 for half in (fitted, held_out)):
        raise ConfigError("A probe needs items of each class in both halves of the images: take more images.")
    return fitted, held_out


def _permutations(labels: Array, images: Array, seed: int) -> Iterator[Array]:
    """Yield labels as they could be by chance: exchanged between images, or within each that has several."""
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


def _pipeline(z: Tensor, probe: ProbeKind, seed: int, n_fitted: int, regression: Any) -> Any:
    if probe == "linear":
        return make_pipeline(StandardScaler(), regression)
    # The mean squared distance of standardised points is 2D: there the similarity is exp(-1).
    kernel = Nystroem(gamma=0.5 / z.shape[1], n_components=min(LANDMARKS, n_fitted), random_state=seed)
    return make_pipeline(StandardScaler(), make_union("passthrough", kernel), regression)
