"""Means of scores with their standard errors, over images and not over versions of an image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


@dataclass(frozen=True)
class Measured:
    """A number and its standard error, NaN where it is not known.

    It is the mean of ``scores`` (n,) of ``images`` (n, U), where a difference to another number may be asked for.

    Example:
        >>> print(Measured(0.91512, 0.00613))
        0.915 ± 0.006
    """

    value: float
    error: float = math.nan
    scores: Tensor | None = field(default=None, repr=False, compare=False)
    images: Tensor | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """Return the number with the digits that its error leaves, three to six behind the point."""
        if not math.isfinite(self.error):
            return f"{self.value:.4g}"
        digits = min(max(3, -math.floor(math.log10(self.error))), 6) if self.error > 0 else 3
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"

    def __sub__(self, other: "Measured") -> "Measured":
        """Return the mean difference of scores of the same images: what both find hard favours neither."""
        if self.scores is None or self.images is None or other.scores is None:
            return Measured(self.value - other.value)
        return means({"": self.scores - other.scores}, self.images)[""]


def standard_error(scores: Tensor, images: Tensor) -> Tensor:
    """Return the standard error (C,) in float64 of means of scores (n, C), where rows that share an image depend on it.

    ``1/n sqrt(Σ d_r d_s)``, summed over all rows r and s that have an image in common, with d the deviations from the
    mean. ``images`` (n,) or (n, 2) are the image or the two images of a row: of an image a row it is the usual error,
    of pairs that of pairs, at least that of rows which have the first image in common. NaN of a single image. Source:
    Aronow, Samii and Assenova, Cluster-robust variance estimation for dyadic data, Political Analysis 2015.
    """
    n, deviations = len(scores), scores.double() - scores.double().mean(0)
    images = images.reshape(n, -1).to(scores.device)
    first, second = images[:, 0], images[:, -1]
    square, count = _square_of_sums(deviations, first)
    paired = first != second
    if paired.any():
        rows = torch.cat([torch.arange(n, device=scores.device), paired.nonzero()[:, 0]])
        every, _ = _square_of_sums(deviations[rows], torch.cat([first, second[paired]]))
        pairs = images[paired].sort(1).values.unique(dim=0, return_inverse=True)[1]
        twice, _ = _square_of_sums(deviations[paired], pairs)
        square = torch.maximum(square, every - twice)
    if count < 2:
        return square.new_full(square.shape, math.nan)
    return (square * count / (count - 1)).sqrt() / n


def means(scores: Mapping[str, Tensor], images: Tensor) -> dict[str, Measured]:
    """Return the mean of each name's scores (n,) with its standard error."""
    columns = torch.stack(list(scores.values()), dim=1)
    values, errors = columns.double().mean(0).tolist(), standard_error(columns, images).tolist()
    return {
        name: Measured(value, error, column, images)
        for name, value, error, column in zip(scores, values, errors, scores.values())
    }


def balanced(scores: Tensor, labels: Tensor) -> Tensor:
    """Reweigh scores (n,) so that their mean counts classes equally, and their deviations are those of that mean.

    ``w_i (s_i - m_c) + m`` with m_c the mean of class c, m the mean of the K means, and ``w_i = n / (K n_c)``; a
    negative label is unknown and counts for nothing.
    """
    names, place, counts = labels.unique(return_inverse=True, return_counts=True)
    means_of = scores.new_zeros(len(names)).index_add_(0, place, scores) / counts
    known = names >= 0
    if not known.any():
        return torch.full_like(scores, math.nan)
    weights = torch.where(known, len(scores) / (known.sum() * counts), 0.0)
    return weights[place] * (scores - means_of[place]) + means_of[known].mean()


def average(numbers: Sequence[Measured]) -> Measured:
    """Return the mean of numbers, each of them a mean over some of the images."""
    value = sum(number.value for number in numbers) / len(numbers)
    parts = [(number.scores, number.images) for number in numbers]
    known = [(scores.double(), images) for scores, images in parts if scores is not None and images is not None]
    if len(known) < len(numbers):
        return Measured(value)
    count = sum(len(scores) for scores, _ in known)
    apart = torch.cat([(scores - scores.mean()) * count / (len(scores) * len(numbers)) for scores, _ in known])
    return Measured(value, standard_error(apart[:, None], torch.cat([images for _, images in known])).item())


class Scores(Metric):
    """Scores of all rows of all processes, with their images, by name.

    Rows of an image may be on several processes, so that no sum of one process is enough: each gathers all rows.
    """

    full_state_update = False
    scores: list[Tensor]
    images: list[Tensor]

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("images", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, images: Tensor) -> None:
        """Take the scores (B, C) of rows, and their images (B,) or (B, U)."""
        self.scores.append(scores.detach())
        self.images.append(images.reshape(len(scores), -1).to(scores.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the scores (n, C) and images (n, U) of all processes."""
        return dim_zero_cat(self.scores), dim_zero_cat(self.images)

    def means(self) -> dict[str, Measured]:
        """Return the mean of each score, on the processor."""
        scores, images = (values.cpu() for values in self.compute())
        scores = scores.reshape(-1, len(self.names))  # torchmetrics makes a scalar of a single number
        return means(dict(zip(self.names, scores.unbind(1))), images.reshape(len(scores), -1))


def flat(numbers: Mapping[str, Measured]) -> dict[str, float]:
    """Flatten numbers for loggers: each under its name, its error, where it is known, under ``name/error``.

    Example:
        >>> flat({"nll": Measured(1.5, 0.5), "chance": Measured(0.1)})
        {'nll': 1.5, 'nll/error': 0.5, 'chance': 0.1}
    """
    found = {}
    for name, number in numbers.items():
        found[name] = number.value
        if math.isfinite(number.error):
            found[f"{name}/error"] = number.error
    return found


def paired(numbers: Mapping[str, float]) -> dict[str, Measured]:
    """Return the numbers of which `flat` made these."""
    errors = {name for name in numbers if name.endswith("/error") and name.removesuffix("/error") in numbers}
    return {
        name: Measured(value, numbers[f"{name}/error"] if f"{name}/error" in errors else math.nan)
        for name, value in numbers.items()
        if name not in errors
    }


def _square_of_sums(deviations: Tensor, groups: Tensor) -> tuple[Tensor, int]:
    """Return the sum over groups of the square of the sum of their rows (C,), and the number of groups."""
    names, group = groups.unique(return_inverse=True)
    sums = deviations.new_zeros(len(names), deviations.shape[1]).index_add_(0, group, deviations)
    return sums.square().sum(0), len(names)
