"""Features that are kept, and the distances that need them all: kernel distance, precision and recall.

Symbols: features of generated images (n,D) and of real ones (m,D). The distances themselves are torch-fidelity's.
"""

import torch
from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric
from torchmetrics import Metric

SUBSETS, SUBSET_SIZE = 100, 1000
NEIGHBOURS = 3
CHUNK = 1000  # rows of a distance matrix that are held at a time


class FeatureBank(Metric):
    """All features, in the order in which they came: memory grows with their count.

    Args:
        dim: D.

    Example:
        >>> bank = FeatureBank(2)
        >>> bank.update(torch.ones(3, 2))
        >>> bank.compute().shape
        torch.Size([3, 2])
    """

    full_state_update = False
    features: list[Tensor] | Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, features: Tensor) -> None:
        """Take features, float32 (B,D)."""
        self.features = [*self.features, features]

    def compute(self) -> Tensor:
        """All features, float32 (n,D), on the processor."""
        parts = [self.features] if isinstance(self.features, Tensor) else self.features
        return torch.cat([torch.empty(0, self.dim), *(part.cpu() for part in parts)])


def kernel_distance(fake: Tensor, real: Tensor, seed: int) -> dict[str, float | int]:
    """Squared maximum mean discrepancy under the kernel (fᵀg / D + 1)³, unbiased also for few images (the KID).

    Source: Binkowski et al., "Demystifying MMD GANs", ICLR 2018, arXiv 1801.01401.

    Args:
        fake: features (n,D).
        real: features (m,D).
        seed: of the subsets.

    Returns:
        ``value``, the mean over subsets of 1000 (or as many as there are), which may be a little below 0; ``deviation``
        among them; ``subsets`` and ``subset_size``.

    Example:
        >>> features = torch.randn(50, 4)
        >>> kernel_distance(features + 3, features, seed=0)["value"] > 1
        True
    """
    size = min(SUBSET_SIZE, len(fake), len(real))
    found = kid_features_to_metric(fake, real, kid_subsets=SUBSETS, kid_subset_size=size, rng_seed=seed, verbose=False)
    value, deviation = found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]
    return {"value": value, "deviation": deviation, "subsets": SUBSETS, "subset_size": size}


def precision_recall(fake: Tensor, real: Tensor) -> dict[str, dict[str, float | int]]:
    """Share of generated images among the real ones (precision), and of real ones among the generated (recall).

    An image is among others if it is nearer to one of them than that one's third neighbour. Source: Kynkäänniemi et
    al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019, arXiv 1904.06991.

    Args:
        fake: features (n,D).
        real: features (m,D).

    Returns:
        ``precision`` and ``recall``, each with its ``value`` in [0,1] and the ``neighbours``.

    Example:
        >>> features = torch.randn(50, 4)
        >>> precision_recall(features, features + 100)["recall"]["value"]
        0.0
    """
    neighbours = min(NEIGHBOURS, len(fake) - 1, len(real) - 1)
    found = prc_features_to_metric(
        fake, real, prc_neighborhood=neighbours, prc_batch_size=CHUNK, save_cpu_ram=True, verbose=False
    )
    values = {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}
    return {name: {"value": value, "neighbours": neighbours} for name, value in values.items()}
