"""Weights of a file for a network that was written elsewhere: found under any prefix, with any number of classes.

What the last layer reads is a layer, too, so that a network can be cut there. Not every network has a module for the
pooled representation: densenets, shufflenets and vision transformers compute it within ``forward``.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from iin_lightning.bounded import read_torch
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, listed

NESTED = ("state_dict", "model", "model_state_dict")
"""Where checkpoints keep a state dict beside other things; Lightning's is the first."""

USUAL = {*NESTED, "module", "net", "network", "_orig_mod"}
"""Prefixes of the network itself, where a file has another network of the same names (an average, a teacher)."""

DEPTH = 3  # of mappings within each other


class _Head(nn.Module):
    """Mixed into a layer: what it reads passes ``latent`` before; its parameters are those of ``head``."""

    def __init__(self, head: nn.Module) -> None:
        nn.Module.__init__(self)  # the constructor of the layer itself would draw weights
        blank = nn.Module().__dict__
        self.__dict__.update({key: value for key, value in head.__dict__.items() if key not in blank})
        for name, parameter in head._parameters.items():
            self.register_parameter(name, parameter)
        self.latent = nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        """Map inputs (B, D, ...) to logits (B, classes, ...)."""
        return super().forward(self.latent(input))


class LinearHead(_Head, nn.Linear):
    """A linear layer whose input is a layer of its own: same weights, same bits."""


class ConvHead(_Head, nn.Conv2d):
    """The same for a convolution of one pixel, which is the last layer of a squeezenet."""


def head_name(network: nn.Module) -> str | None:
    """Name the last linear layer in the order of a network's parts, or else the last convolution of one pixel."""
    # Exact types, since another subclass may compute something else.
    named = [(name, module) for name, module in network.named_modules() if name]
    dense = [name for name, module in named if type(module) in (nn.Linear, LinearHead)]
    pixel = [name for name, module in named if type(module) in (nn.Conv2d, ConvHead) and module.kernel_size == (1, 1)]
    names = dense or pixel
    return names[-1] if names else None


def n_classes_of(network: nn.Module) -> int | None:
    """Count the outputs of the last layer; None without any."""
    head = _head(network)
    return None if head is None else len(head.weight)


def set_classes(network: nn.Module, n_classes: int) -> bool:
    """Give a network a fresh last layer, unless it has as many classes; tell whether it got one."""
    head = _head(network)
    if head is None:
        raise ConfigError(
            f"{type(network).__name__} has neither a linear layer nor a convolution of one pixel, so n_classes="
            f"{n_classes} cannot give it another last layer: leave n_classes null."
        )
    if n_classes < 1:
        raise ConfigError(f"n_classes={n_classes} must be at least 1.")
    if len(head.weight) == n_classes:
        return False
    fresh: nn.Linear | nn.Conv2d
    if isinstance(head, nn.Linear):
        fresh = nn.Linear(head.in_features, n_classes, head.bias is not None)
    else:
        fresh = nn.Conv2d(head.in_channels, n_classes, 1, bias=head.bias is not None)
    network.set_submodule(str(head_name(network)), fresh)
    return True


def expose_latent(network: nn.Module) -> str | None:
    """Make the input of the last layer a layer, and name it; what the network computes and its weights' names stay."""
    name, head = head_name(network), _head(network)
    if name is None or head is None:
        return None
    if not isinstance(head, _Head):
        network.set_submodule(name, LinearHead(head) if isinstance(head, nn.Linear) else ConvHead(head))
    return f"{name}.latent"


def _head(network: nn.Module) -> nn.Linear | nn.Conv2d | None:
    name = head_name(network)
    return None if name is None else network.get_submodule(name)  # type: ignore[return-value]


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict, and the arguments that built the network, if the file is Lightning's and holds them.

    The file is ``.safetensors``, or of ``torch.save`` with a state dict alone or beside other things; names of what is
    nested are joined by dots.

    Raises:
        DataNotFoundError: the file does not exist.
        CheckpointError: it is damaged, holds objects, or no state dict.
    """
    if not path.is_file():
        raise DataNotFoundError(f"There is no file {path}: weights= names a state dict (.safetensors, .pth or .ckpt).")
    if path.suffix == ".safetensors":
        try:
            return load_file(path), {}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is no safetensors file, or damaged ({error}): copy it again.") from error
    content = read_torch(path)
    arguments = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping) and _tensors(content[key]):
            content = content[key]
    state = _tensors(content) if isinstance(content, Mapping) else {}
    if not state:
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} without tensors by name, not a state dict: save state_dict() "
            "alone."
        )
    return state, dict(arguments) if isinstance(arguments, Mapping) else {}


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a network, whose last layer takes the number of classes of the weights.

    A prefix that all names have ("model." of a LightningModule, "module." of distributed training, "net." of a
    dictionary) is removed, and what lies beside it (the state of a loss) is left. ``source`` is for errors.

    Raises:
        CheckpointError: names what is missing, unknown, or of another shape; or several networks that would fit.

    Example:
        >>> load_into(nn.Linear(4, 2), {"model.weight": torch.ones(2, 4), "model.bias": torch.ones(2)}, "here")
        >>> load_into(nn.Linear(4, 2), {"weight": torch.zeros(2, 4)}, "here")
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
    faults = [f"missing are {listed(missing)}"] if missing else []
    faults += [f"unknown are {listed(unknown)}"] if unknown else []
    faults += [listed(shapes, most=3)] if shapes else []
    if faults:
        raise CheckpointError(
            f"The weights of {source} do not fit {type(network).__name__}: {'; '.join(faults)}. Build the network as "
            "it was trained, or name the weights of this one."
        )
    network.load_state_dict(dict(state), strict=False)  # nothing but counts of batches may be missing


def _tensors(content: Mapping[Any, Any], depth: int = DEPTH) -> dict[str, Tensor]:
    # Training keeps other things beside weights, such as a count of steps, and optimizers number theirs.
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(name, str) and isinstance(value, Mapping) and depth > 1:
            tensors |= {f"{name}.{key}": inner for key, inner in _tensors(value, depth - 1).items()}
    return tensors


def _without_prefix(network: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Keep what lies under the prefix with most of the network's names; of several such, under the usual prefix."""
    known = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    counts = Counter(
        ".".join(parts[:cut])
        for parts in (key.split(".") for key in state)
        for cut in range(len(parts))
        if ".".join(parts[cut:]) in known
    )
    most = max(counts.values(), default=0)
    fitting = [prefix for prefix, count in counts.items() if count == most]
    usual = [prefix for prefix in fitting if USUAL.issuperset(prefix.split("."))]
    chosen = usual if len(usual) == 1 else fitting
    if "" in fitting or not fitting or (len(chosen) > 1 and most < len(known)):
        return dict(state)
    if len(chosen) > 1:
        raise CheckpointError(
            f"{source} holds several networks with these names ({listed(chosen)}): save the state_dict() of one alone."
        )
    prefix = f"{chosen[0]}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
