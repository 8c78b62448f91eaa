"""Weights from a file into a network that was written elsewhere, under whatever prefix its training gave them."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from iin_lightning.encoders.heads import head_name, n_classes_of, set_classes
from iin_lightning.errors import CheckpointError, DataNotFoundError, listed
from iin_lightning.serialization import read_torch

NESTED = ("state_dict", "model", "model_state_dict")
"""Where checkpoints keep a state dict beside other things; Lightning's is the first."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a file: ``.safetensors``, or one of ``torch.save``, alone or within a checkpoint.

    Raises:
        DataNotFoundError: there is no file.
        CheckpointError: it is damaged, holds objects, or no state dict.
    """
    if not path.is_file():
        raise DataNotFoundError(f"There is no file {path}: weights= names a state dict (.safetensors, .pth or .ckpt).")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is no safetensors file, or damaged ({error}): copy it again.") from error
    content = read_torch(path)
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict: save state_dict() alone.")
    # Training keeps other things beside weights, such as a count of steps.
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a network, whose last layer takes the number of classes of the weights.

    Where all names have a prefix ("model." of a LightningModule, "module." of distributed training), it is found, and
    what lies beside it (the state of a loss, say) is left.

    Args:
        network: without weights yet.
        state: name -> tensor.
        source: where it comes from, for errors.

    Raises:
        CheckpointError: names what is missing, unknown, or of another shape.

    Example:
        >>> network = nn.Linear(4, 2)
        >>> load_into(network, {f"model.{name}": value for name, value in nn.Linear(4, 2).state_dict().items()}, "here")
        >>> load_into(network, {"weight": torch.zeros(2, 4)}, "here")
        Traceback (most recent call last):
            ...
        iin_lightning.errors.CheckpointError: The weights of here do not fit Linear: missing are bias. ...
    """
    state = _without_prefix(network, state)
    rows = state.get(f"{head_name(network)}.weight")
    if rows is not None and len(rows) != n_classes_of(network):
        set_classes(network, len(rows))
    own = network.state_dict()
    missing = sorted(own.keys() - state.keys() - {name for name in own if name.endswith("num_batches_tracked")})
    unknown = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    said = [f"missing are {listed(missing)}"] if missing else []
    said += [f"unknown are {listed(unknown)}"] if unknown else []
    said += [listed(shapes, most=3)] if shapes else []
    if said:
        raise CheckpointError(
            f"The weights of {source} do not fit {type(network).__name__}: {'; '.join(said)}. Build the network as it "
            "was trained, or name the weights of this one."
        )
    network.load_state_dict(dict(state), strict=False)  # all is there but counts of batches


def _without_prefix(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    if names and not state.keys() & set(names):
        for prefix in sorted({key.removesuffix(names[0]) for key in state if key.endswith(names[0])}, key=len):
            if all(prefix + name in state for name in names):
                return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return dict(state)
