"""Weights from a file into a network that was written elsewhere, under whatever prefix its training gave them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from iin_lightning.bounded import read_torch
from iin_lightning.encoders.heads import head_name, n_classes_of, set_classes
from iin_lightning.errors import CheckpointError, DataNotFoundError, listed

NESTED = ("state_dict", "model", "model_state_dict")
"""Where checkpoints keep a state dict beside other things; Lightning's is the first."""

USUAL = {*NESTED, "module", "net", "network", "_orig_mod"}
"""Prefixes of the network itself, where a file has another one of the same names (an average, a teacher) beside it."""

DEPTH = 3  # of mappings within each other


class Checkpoint(NamedTuple):
    """What a file says of a network.

    Attributes:
        state: name -> tensor; names of what is nested are joined by dots.
        arguments: with which it was built, if the file is Lightning's and says so.
    """

    state: dict[str, Tensor]
    arguments: dict[str, Any]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a file; see ``read_checkpoint``."""
    return read_checkpoint(path).state


def read_checkpoint(path: Path) -> Checkpoint:
    """What a file holds: ``.safetensors``, or one of ``torch.save`` with a state dict, alone or beside other things.

    Raises:
        DataNotFoundError: there is no file.
        CheckpointError: it is damaged, holds objects, or no state dict.
    """
    if not path.is_file():
        raise DataNotFoundError(f"There is no file {path}: weights= names a state dict (.safetensors, .pth or .ckpt).")
    if path.suffix == ".safetensors":
        try:
            return Checkpoint(load_file(path), {})
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is no safetensors file, or damaged ({error}): copy it again.") from error
    content = read_torch(path)
    said = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping) and _tensors(content[key]):
            content = content[key]
    state = _tensors(content) if isinstance(content, Mapping) else {}
    if not state:
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} without tensors by name, not a state dict: save state_dict() "
            "alone."
        )
    return Checkpoint(state, dict(said) if isinstance(said, Mapping) else {})


def _tensors(content: Mapping[Any, Any], depth: int = DEPTH) -> dict[str, Tensor]:
    # Training keeps other things beside weights, such as a count of steps, and optimizers number theirs.
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            found[name] = value
        elif isinstance(name, str) and isinstance(value, Mapping) and depth > 1:
            found |= {f"{name}.{key}": inner for key, inner in _tensors(value, depth - 1).items()}
    return found


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a network, whose last layer takes the number of classes of the weights.

    Where all names have a prefix ("model." of a LightningModule, "module." of distributed training, "net." of a
    dictionary), it is found, and what lies beside it (the state of a loss, say) is left.

    Args:
        network: without weights yet.
        state: name -> tensor.
        source: where it comes from, for errors.

    Raises:
        CheckpointError: names what is missing, unknown, or of another shape; or several networks that would fit.

    Example:
        >>> network = nn.Linear(4, 2)
        >>> load_into(network, {f"model.{name}": value for name, value in nn.Linear(4, 2).state_dict().items()}, "here")
        >>> load_into(network, {"weight": torch.zeros(2, 4)}, "here")
        Traceback (most recent call last):
            ...
        iin_lightning.errors.CheckpointError: The weights of here do not fit Linear: missing are bias. ...
    """
    state = _without_prefix(network, state, source)
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


def _without_prefix(network: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    known = set(names)
    tails = Counter(
        ".".join(parts[:cut])
        for parts in (key.split(".") for key in state)
        for cut in range(len(parts))
        if ".".join(parts[cut:]) in known
    )
    most = max(tails.values(), default=0)
    fitting = [prefix for prefix, count in tails.items() if count == most]
    usual = [prefix for prefix in fitting if USUAL.issuperset(prefix.split("."))]
    chosen = usual if len(usual) == 1 else fitting
    if "" in fitting or not fitting or (len(chosen) > 1 and most < len(names)):
        return dict(state)
    if len(chosen) > 1:
        raise CheckpointError(
            f"{source} holds several networks with these names ({listed(chosen)}): save the state_dict() of one alone."
        )
    prefix = f"{chosen[0]}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
