"""How a network answers where images themselves change: what the answers to a factor have to agree with.

Symbols: x_0, ..., x_{V-1} are the versions of an image that differ in one concept alone, y_v (C,) the log-softmax that
the network gives x_v. No translator is involved.
"""

import torch
from torch import Tensor

from iin_lightning.analysis.bootstrap import Estimate, estimate, resample
from iin_lightning.errors import ShapeError


def version_response(outputs: Tensor, seed: int = 0) -> dict[str, Estimate]:
    """What becomes of the answers to n images when each version is exchanged for one drawn from all V of the image.

    ``explained_variance = Σ_c E_i[Var_v(y_c)] / Σ_c Var_{i,v}(y_c)``, once of log-softmax and once of probabilities;
    ``changed_predictions = P(argmax y_v ≠ argmax y_w)`` with v and w uniform. So they compare with
    `response.explained_variance` and `response.changed_share` of a factor that is drawn from other items, of which as
    many are of each version. Intervals are of the images; the versions are given.

    Args:
        outputs: log-softmax (V, n, C) of V >= 2 versions of n >= 2 images.
        seed: of the bootstrap.

    Raises:
        ShapeError: there are fewer versions or images, or another number of axes.

    Example:
        >>> answers = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 0]])  # two of four images are seen as something else
        >>> found = version_response(torch.eye(2)[answers].mul(9).log_softmax(-1))
        >>> found["changed_predictions"].value, round(found["explained_variance"].value, 2)
        (0.25, 0.5)
    """
    if outputs.ndim != 3 or min(outputs.shape[:2]) < 2:
        raise ShapeError(
            f"Expected are outputs (V, n, C) of at least 2 versions of 2 images, got {tuple(outputs.shape)}: take more."
        )
    y, images = outputs.double(), resample(outputs.shape[1], seed, "images")
    predicted = y.argmax(-1)
    changed = (predicted[:, None] != predicted[None]).double().mean((0, 1))
    return {
        "explained_variance": estimate(_share_within(y, images), highest=1.0),
        "explained_variance_of_probabilities": estimate(_share_within(y.exp(), images), highest=1.0),
        "changed_predictions": estimate(images @ changed, highest=1.0),
    }


def _share_within(y: Tensor, images: Tensor) -> Tensor:
    """The share of variance that lies within images, for each row of weights (R, n)."""
    y = y - y.mean((0, 1))
    within = images @ y.var(0, correction=0).sum(-1)
    mean = images @ y.mean(0)
    total = images @ y.square().mean(0).sum(-1) - mean.square().sum(-1)
    return torch.where(total > 0, within / total, 0.0)
