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
    """A number and its standard error.

    Attributes:
        value: the number.
        error: NaN where it is not known.
        scores: (n,), of which the value is the mean, where a difference to another number may be asked for.
        images: long (n, U), see `standard_error`.

    Example:
        >>> print(Measured(0.91512, 0.00613))
        0.915 ± 0.006
    """

    value: float
    error: float = math.nan
    scores: Tensor | None = field(default=None, repr=False, compare=False)
    images: Tensor | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """The number with the digits that its error leaves, three to six behind the point."""
        if not math.isfinite(self.error):
            return f"{self.value:.4g}"
        digits = min(max(3, -math.floor(math.log10(self.error))), 6) if self.error > 0 else 3
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"

    def __sub__(self, other: "Measured") -> "Measured":
        """The mean difference of scores of the same images: what both find hard is in neither's favour."""
        if self.scores is None or self.images is None or other.scores is None:
            return Measured(self.value - other.value)
        return means({"": self.scores - other.scores}, self.images)[""]


def standard_error(scores: Tensor, images: Tensor) -> Tensor:
    """Standard error of the mean of scores, of which those that an image takes part in depend on each other.

    ``1/n sqrt(Σ d_r d_s)``, summed over all rows r and s that have an image in common, with d the deviations from the
    mean: of n rows with an image each, the usual one; where rows are pairs of images, that of pairs. It is at least
    that of rows which have the first image in common.

    Args:
        scores: (n, C).
        images: long (n,) or (n, 2), the image or the two images that a row is of.

    Returns:
        (C,) in float64; NaN of a single image.

    References:
        Aronow, Samii and Assenova, Cluster-robust variance estimation for dyadic data, Political Analysis 2015.

    Example:
        >>> scores = torch.tensor([[0.0], [0.0], [1.0], [1.0]])  # two versions of two images
        >>> standard_error(scores, torch.tensor([0, 0, 1, 1])), standard_error(scores, torch.arange(4))
        (tensor([0.5000], dtype=torch.float64), tensor([0.2887], dtype=torch.float64))
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
    """The mean of each name's scores (n,) with its standard error.

    Example:
        >>> means({"digit": torch.tensor([0.0, 1.0])}, torch.arange(2))["digit"].error
        0.5
    """
    columns = torch.stack(list(scores.values()), dim=1)
    values, errors = columns.double().mean(0).tolist(), standard_error(columns, images).tolist()
    return {
        name: Measured(value, error, column, images)
        for name, value, error, column in zip(scores, values, errors, scores.values())
    }


def balanced(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores whose mean is the mean over classes, each counted equally, and whose deviations are those of that mean.

    ``w_i (s_i - m_c) + m`` with m_c the mean of class c, m the mean of the K means, and ``w_i = n / (K n_c)``.

    Args:
        scores: (n,).
        labels: (n,); a negative one is that of no class, whose score counts for nothing.

    Example:
        >>> balanced(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1]))
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    names, place, counts = labels.unique(return_inverse=True, return_counts=True)
    means_of = scores.new_zeros(len(names)).index_add_(0, place, scores) / counts
    known = names >= 0
    if not known.any():
        return torch.full_like(scores, math.nan)
    weights = torch.where(known, len(scores) / (known.sum() * counts), 0.0)
    return weights[place] * (scores - means_of[place]) + means_of[known].mean()


def average(numbers: Sequence[Measured]) -> Measured:
    """The mean of numbers, each of them a mean over some of the images.

    Example:
        >>> one, other = (means({"": torch.tensor([0.0, 1.0])}, images)[""] for images in torch.arange(4).view(2, 2))
        >>> print(average([one, other]), average([one, one]))
        0.500 ± 0.289 0.500 ± 0.500
    """
    value = sum(number.value for number in numbers) / len(numbers)
    parts = [(number.scores, number.images) for number in numbers]
    known = [(scores.double(), images) for scores, images in parts if scores is not None and images is not None]
    if len(known) < len(numbers):
        return Measured(value)
    count = sum(len(scores) for scores, _ in known)
    apart = torch.cat([(scores - scores.mean()) * count / (len(scores) * len(numbers)) for scores, _ in known])
    return Measured(value, standard_error(apart[:, None], torch.cat([images for _, images in known])).item())


class Scores(Metric):
    """Scores of all rows of all processes, with their images.

    Rows of an image may be on several processes, so that no sum of one process is enough: each gathers all rows.

    Args:
        names: of the C scores of a row.

    Example:
        >>> scores = Scores(["nll"])
        >>> scores.update(torch.tensor([[1.0], [2.0]]), torch.arange(2))
        >>> print(scores.means()["nll"])
        1.500 ± 0.500
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
        """The scores (n, C) and images (n, U) of all processes."""
        return dim_zero_cat(self.scores), dim_zero_cat(self.images)

    def means(self) -> dict[str, Measured]:
        """The mean of each score, on the processor."""
        scores, images = (values.cpu() for values in self.compute())
        scores = scores.reshape(-1, len(self.names))  # torchmetrics makes a scalar of a single number
        return means(dict(zip(self.names, scores.unbind(1))), images.reshape(len(scores), -1))


def flat(numbers: Mapping[str, Measured]) -> dict[str, float]:
    """Numbers for loggers: each under its name, its error, where there is one, under ``name/error``.

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
    """Numbers from what loggers were given: the other way round of `flat`.

    Example:
        >>> paired({"nll": 1.5, "nll/error": 0.5})
        {'nll': Measured(value=1.5, error=0.5)}
    """
    errors = {name for name in numbers if name.endswith("/error") and name.removesuffix("/error") in numbers}
    return {
        name: Measured(value, numbers[f"{name}/error"] if f"{name}/error" in errors else math.nan)
        for name, value in numbers.items()
        if name not in errors
    }


def _square_of_sums(deviations: Tensor, groups: Tensor) -> tuple[Tensor, int]:
    """The sum over groups of the square of what their rows sum up to (C,), and how many groups there are."""
    names, group = groups.unique(return_inverse=True)
    sums = deviations.new_zeros(len(names), deviations.shape[1]).index_add_(0, group, deviations)
    return sums.square().sum(0), len(names)
