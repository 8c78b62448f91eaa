"""The last layer of a classifier: what it reads is a layer, too, and another number of classes gets another one."""

from torch import Tensor, nn
from torch.nn.functional import linear

from iin_lightning.errors import ConfigError

LATENT = "latent"


class LinearHead(nn.Linear):
    """A linear layer whose input is a layer of its own, so that a network can be cut there: same weights, same bits.

    Not every network has a module for the pooled representation: densenets, shufflenets and vision transformers
    compute it within ``forward``.

    Args:
        head: whose weights it takes over; they are the same parameters.

    Example:
        >>> head = nn.Linear(8, 2)
        >>> x = torch.randn(3, 8)
        >>> torch.equal(LinearHead(head)(x), head(x)), list(LinearHead(head).state_dict())
        (True, ['weight', 'bias'])
    """

    latent: nn.Identity

    def __init__(self, head: nn.Linear) -> None:
        _adopt(self, head)

    def forward(self, input: Tensor) -> Tensor:
        """Inputs (..., D) to logits (..., classes)."""
        return linear(self.latent(input), self.weight, self.bias)


class ConvHead(nn.Conv2d):
    """The same for a convolution of one pixel, which is the last layer of a squeezenet.

    Args:
        head: whose weights it takes over.
    """

    latent: nn.Identity

    def __init__(self, head: nn.Conv2d) -> None:
        _adopt(self, head)

    def forward(self, input: Tensor) -> Tensor:
        """Inputs (B, D, H, W) to logits (B, classes, H, W)."""
        return self._conv_forward(self.latent(input), self.weight, self.bias)


Head = nn.Linear | nn.Conv2d


def head_name(network: nn.Module) -> str | None:
    """The name of the last linear layer, in the order in which a network lists its parts.

    Without any it is that of the last convolution of one pixel; None if there is neither.

    Example:
        >>> head_name(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
        '2'
    """
    # Exact types, since another subclass may compute something else.
    named = [(name, module) for name, module in network.named_modules() if name]
    dense = [name for name, module in named if type(module) in (nn.Linear, LinearHead)]
    pixel = [name for name, module in named if type(module) in (nn.Conv2d, ConvHead) and module.kernel_size == (1, 1)]
    found = dense or pixel
    return found[-1] if found else None


def set_classes(network: nn.Module, n_classes: int) -> bool:
    """Give a network a fresh last layer, unless it has as many classes; say whether it got one.

    Raises:
        ConfigError: there is no last layer to replace, or n_classes is below 1.
    """
    head = _head(network)
    if head is None:
        raise ConfigError(
            f"{type(network).__name__} has neither a linear layer nor a convolution of one pixel, so n_classes="
            f"{n_classes} cannot give it another last layer: leave n_classes null."
        )
    if n_classes < 1:
        raise ConfigError(f"n_classes={n_classes} must be at least 1.")
    if head.weight.shape[0] == n_classes:
        return False
    with_bias = head.bias is not None
    if isinstance(head, nn.Linear):
        _put(network, nn.Linear(head.in_features, n_classes, with_bias))
    else:
        _put(network, nn.Conv2d(head.in_channels, n_classes, 1, bias=with_bias))
    return True


def n_classes_of(network: nn.Module) -> int | None:
    """The outputs of the last layer; None if there is none."""
    head = _head(network)
    return None if head is None else head.weight.shape[0]


def expose_latent(network: nn.Module) -> str | None:
    """Make the input of the last layer a layer; what the network computes, and the names of its weights, stay.

    Returns:
        Its name; None if there is no last layer.
    """
    head = _head(network)
    if head is None:
        return None
    if not isinstance(head, LinearHead | ConvHead):
        _put(network, LinearHead(head) if isinstance(head, nn.Linear) else ConvHead(head))
    return f"{head_name(network)}.{LATENT}"


def _adopt(new: nn.Module, head: nn.Module) -> None:
    nn.Module.__init__(new)  # the constructor of the layer itself would draw weights
    blank = nn.Module().__dict__
    new.__dict__.update({key: value for key, value in head.__dict__.items() if key not in blank})
    for name, parameter in head._parameters.items():
        new.register_parameter(name, parameter)
    new.latent = nn.Identity()


def _head(network: nn.Module) -> Head | None:
    name = head_name(network)
    return None if name is None else network.get_submodule(name)  # type: ignore[return-value]


def _put(network: nn.Module, head: nn.Module) -> None:
    name = head_name(network)
    assert name is not None
    network.set_submodule(name, head)
