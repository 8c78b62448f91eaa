"""How a network answers where images themselves change: what the answers to a factor have to agree with.

Symbols: x_0, ..., x_{V-1} are the versions of an image that differ in one concept alone, y_v (C,) the log-softmax that
the network gives x_v, p_v the share of all items that are of version v in this concept. No translator is involved.
"""

import torch
from torch import Tensor

from iin_lightning.analysis.bootstrap import Estimate, estimate, resample
from iin_lightning.errors import ShapeError


def version_response(versions: Tensor, shares: Tensor, outputs: Tensor, seed: int = 0) -> dict[str, Estimate]:
    """What becomes of the answers to n images when each version is exchanged for one drawn from all V of the image.

    ``explained_variance = Σ_c E_i[Var_v(y_c)] / Σ_c Var(y_c)`` with v ~ p and the variance of any items below, once of
    log-softmax and once of probabilities; ``changed_predictions = P(argmax y_v ≠ argmax y_w)`` with v, w ~ p. So they
    compare with `response.explained_variance` and `response.changed_share` of a factor that is drawn from other items
    of the same data, and less with those of draws from N(0, 1). Intervals are of the images and items; the versions are
    given.

    Args:
        versions: log-softmax (V, n, C) of V >= 2 versions of n >= 2 images.
        shares: p (V,), at least 0, whose sum is 1.
        outputs: log-softmax (B, C) of B >= 2 items of all kinds: the same that a factor is measured on.
        seed: of the bootstrap.

    Raises:
        ShapeError: there are fewer versions, images or items, or the shapes do not fit.

    Example:
        >>> answers = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 0]])  # two of four images are seen as something else
        >>> y = torch.eye(2)[answers].mul(9).log_softmax(-1)
        >>> found = version_response(y, torch.tensor([0.5, 0.5]), y.flatten(0, 1))
        >>> found["changed_predictions"].value, round(found["explained_variance"].value, 2)
        (0.25, 0.44)
    """
    if (
        versions.ndim != 3
        or min(*versions.shape[:2], len(outputs)) < 2
        or shares.shape != versions.shape[:1]
        or outputs.shape[1:] != versions.shape[2:]
    ):
        raise ShapeError(
            "Expected are outputs (V, n, C) of at least 2 versions of 2 images, shares (V,) and outputs (B, C) of 2 "
            f"items, got {tuple(versions.shape)}, {tuple(shares.shape)} and {tuple(outputs.shape)}: take more."
        )
    y, p, all_y = versions.double(), shares.double(), outputs.double()
    images, items = resample(y.shape[1], seed, "images"), resample(len(all_y), seed, "examples")
    predicted = y.argmax(-1)
    changed = torch.einsum("v,w,vwi->i", p, p, (predicted[:, None] != predicted[None]).double())
    return {
        "explained_variance": estimate(_share_within(y, p, images, all_y, items)),
        "explained_variance_of_probabilities": estimate(_share_within(y.exp(), p, images, all_y.exp(), items)),
        "changed_predictions": estimate(images @ changed, highest=1.0),
    }


def _share_within(y: Tensor, p: Tensor, images: Tensor, outputs: Tensor, items: Tensor) -> Tensor:
    """The variance within images as a share of that of the items, for each row of weights (R, n) and (R, B)."""
    apart = y - torch.einsum("v,vic->ic", p, y)
    within = images @ torch.einsum("v,vic->i", p, apart.square())
    outputs = outputs - outputs.mean(0)
    total = (items @ outputs.square() - (items @ outputs).square()).sum(1) * len(outputs) / (len(outputs) - 1)
    return torch.where(total > 0, within / total, 0.0)
