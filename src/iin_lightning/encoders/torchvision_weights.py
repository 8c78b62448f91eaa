"""torchvision's weights by name: found in torch's cache or downloaded, and the oddities of a few of its networks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from iin_lightning.bounded import reason
from iin_lightning.errors import CheckpointError, DataNotFoundError

DEFAULT = "default"

# With its weights, torchvision builds these two so; random ones are built alike here, that a network which is described
# without its weights is the same one. The auxiliary classifiers are for training from scratch.
_INCEPTION = {"transform_input": True, "aux_logits": False, "init_weights": False}
OPTIONS: Mapping[str, dict[str, Any]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")


def named_weights(name: str, weights: str) -> Any:
    """Torchvision's weights of that name for a network ("default" or "IMAGENET1K_V1"); None if there are none.

    Example:
        >>> named_weights("resnet18", "default").name, named_weights("resnet18", "my.pth")
        ('IMAGENET1K_V1', None)
    """
    known = torchvision.models.get_model_weights(name)
    return known.DEFAULT if weights == DEFAULT else known.__members__.get(weights)


def read_named(weights: Any) -> dict[str, Tensor]:
    """The state dict of weights that torchvision knows, from torch's cache or downloaded into it.

    Raises:
        DataNotFoundError: they are not there and cannot be downloaded.
        CheckpointError: the file is damaged.
    """
    file = weights.url.rpartition("/")[2]
    place = Path(torch.hub.get_dir()) / "checkpoints" / file
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:  # no network
        raise DataNotFoundError(
            f"torchvision's weights {file} are not there and cannot be downloaded ({error}): download {weights.url} "
            f"elsewhere, and put it at {place} or name it with encoder.network.weights=<file>. Random weights "
            "(encoder.network.weights=null) are enough to try a command."
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise CheckpointError(
            f"{place} does not hold the weights that torchvision wrote ({reason(error)}): delete it, and take "
            f"{file} from {weights.url}."
        ) from error
    return state


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's files under the names of its networks: densenets had other ones once, auxiliary parts are left out.

    Example:
        >>> list(renamed({"denseblock1.denselayer1.norm.1.bias": torch.zeros(1), "aux1.fc1.bias": torch.zeros(1)}))
        ['denseblock1.denselayer1.norm1.bias']
    """
    return {_DENSE.sub(r"\1\2", name): value for name, value in state.items() if not name.startswith(_AUXILIARY)}
