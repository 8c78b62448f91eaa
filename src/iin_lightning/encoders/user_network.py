"""A network of your own: its class, the arguments that build it, and a checkpoint."""

import inspect
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from iin_lightning.encoders.weights import load_into, read_weights
from iin_lightning.encoders.zoo import Outside
from iin_lightning.errors import ConfigError, IINError, choices


class UserNetwork(Outside):
    """Any class of networks that can be imported, with the weights of a file.

    Args:
        target: "package.module:Class", or "package.module.Class".
        arguments: of its constructor; those that are not given are taken from the checkpoint, if it is Lightning's and
            holds hyperparameters of these names.
        weights: the path of a state dict or of a Lightning checkpoint; None: as the constructor leaves them.
        n_classes: see ``Outside``.

    Raises:
        ConfigError: the class cannot be imported, is no torch.nn.Module, or refuses its arguments.

    Example:
        >>> network = UserNetwork("torchvision.ops:MLP", {"in_channels": 8, "hidden_channels": [4, 2]})
        >>> network.default_layer, network.n_classes
        ('3.latent', 2)
    """

    size = None
    names_code: ClassVar = ("target",)
    """Arguments that say what to import, which a description from elsewhere may do for trusted packages only."""

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any] | None = None,
        weights: str | None = None,
        n_classes: int | None = None,
    ) -> None:
        cls = _import(target)
        state, told = ({}, {}) if weights is None else read_weights(Path(weights))
        accepted = inspect.signature(cls.__init__).parameters
        taken = {key: value for key, value in told.items() if key in accepted and _is_plain(value)}
        arguments = taken | dict(arguments or {})
        model = _build(target, cls, arguments)
        if weights is not None:
            load_into(model, state, weights)
        super().__init__(model, n_classes)
        self.target, self.arguments = target, arguments


def _is_plain(value: Any) -> bool:
    """Tell whether a model folder can hold an argument."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _build(target: str, cls: type[nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return cls(**arguments)
    except IINError:
        raise
    except Exception as error:  # whatever a stranger's constructor says of its arguments
        raise ConfigError(
            f"{target} cannot be built with encoder.network.arguments={dict(arguments)}: "
            f"{type(error).__name__}: {error}."
        ) from error


def _import(target: str) -> type[nn.Module]:
    module_name, _, name = target.partition(":") if ":" in target else target.rpartition(".")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"encoder.network.target={target} cannot be imported ({error}): write package.module:Class, and start the "
            "command in the folder where the package lies, or name that in PYTHONPATH."
        ) from error
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(f"{module_name} has no class {name!r}; {choices(name, classes)}.")
    cls = getattr(module, name)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ConfigError(f"encoder.network.target={target} is no class of torch.nn.Module: name one.")
    return cls
