"""Our extractors in torch-fidelity's hands: its numbers and ours compare on the same folders of images."""

from typing import Any

from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from iin_lightning.metrics.extractors import Extractor


def register(extractor: Extractor) -> str:
    """Make an extractor known to torch-fidelity.

    Args:
        extractor: it is used itself, not a copy.

    Returns:
        The name for ``torch_fidelity.calculate_metrics(feature_extractor=...)``, which tells the weights, too.

    Example::

        torch_fidelity.calculate_metrics(
            input1="samples", input2="real", fid=True, feature_extractor=register(EfficientNetLite0())
        )
    """
    name = f"iin-{extractor.name}-{extractor.fingerprint()}"

    class Registered(FeatureExtractorBase):
        """What torch-fidelity asks of an extractor."""

        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.extractor = extractor

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, pixels: Tensor) -> tuple[Tensor]:
            # torch-fidelity averages in the precision of what it is given.
            return (self.extractor(pixels).double(),)

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(name, Registered)
    return name
