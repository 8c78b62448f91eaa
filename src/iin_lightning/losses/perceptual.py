"""The learned perceptual distance of images, from the package ``lpips``."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError, DataNotFoundError, MissingExtraError, ShapeError

_VGG = "vgg16-397923af.pth"


class LPIPS(nn.Module):
    """Distance of VGG-16 features, weighted to match human judgement (Zhang et al. 2018, arXiv 1801.03924).

    The network is frozen and not registered: it has no parameters for an optimizer, nothing in a checkpoint, and no
    training mode; it still follows to another device or precision.

    Raises:
        MissingExtraError: ``lpips`` is not installed.
        DataNotFoundError: torchvision's VGG-16 weights are neither cached nor can be downloaded.

    Example::

        AutoencodingLoss("l1", "learned", perceptual=LPIPS())
    """

    def __init__(self) -> None:
        super().__init__()
        # Inside a list, so that nn.Module does not register it.
        self._network = [_load().eval().requires_grad_(False)]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return distances (B,) >= 0 of images (B, C, H, W) in [-1, 1], C = 1 (repeated to RGB) or 3.

        Raises:
            ShapeError: another number of channels, or shapes that differ.
            ConfigError: values outside of [-1, 1]. Images in [0, 1] cannot be told from dark images.
        """
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ShapeError(
                f"LPIPS compares images (B, C, H, W) of one shape with C = 1 or 3, got {tuple(x.shape)} and "
                f"{tuple(y.shape)}."
            )
        # The host waits for the device here, which is little beside two passes through VGG.
        low, high = torch.stack([x.detach(), y.detach()]).aminmax()
        if not (low >= -1 - 1e-3 and high <= 1 + 1e-3):
            raise ConfigError(
                f"LPIPS expects images in [-1, 1], got values from {low.item():.4g} to {high.item():.4g}: "
                f"map bytes v to v / 127.5 - 1."
            )
        (network,) = self._network
        return network(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).reshape(len(x))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._network[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _load() -> nn.Module:
    try:
        import lpips  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("lpips", "perceptual", "The perceptual loss") from error
    try:
        network: Any = lpips.LPIPS(net="vgg", verbose=False)
    except (OSError, RuntimeError) as error:  # no internet; a truncated file
        raise DataNotFoundError(
            f"The perceptual loss needs torchvision's VGG-16 weights, and they cannot be loaded ({error}): "
            f"download https://download.pytorch.org/models/{_VGG} elsewhere and put it at "
            f"{torch.hub.get_dir()}/checkpoints/{_VGG}."
        ) from error
    return network
