"""From the images of this project to those that a network from outside was trained on."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from iin_lightning.encoders.base import Size, plain, sides
from iin_lightning.errors import ConfigError, ShapeError, choices

Interpolation = Literal["bilinear", "bicubic"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL turns RGB into grey


class Preprocess(nn.Module):
    """x in [-1,1] -> [0,1] -> resized, if its size is another -> (x - mean) / std, a channel at a time.

    The whole image is resized: nothing is cropped away, since a translator should see all that a user sees. One channel
    is repeated where the network reads three; of three the luma is taken where it reads one.

    Args:
        size: that the network reads, a side or height and width; None: as the images come.
        mean: of each channel that the network reads, in [0,1].
        std: of each channel, in the same unit.
        interpolation: bilinear or bicubic, both antialiased.

    Raises:
        ConfigError: mean and std have not as many channels, a std is not positive, or the interpolation is unknown.
        ShapeError: when called: images of another number of channels.

    Example:
        >>> preprocess = Preprocess(size=8, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
        >>> preprocess(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 3, 8, 8])
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        size: Size | None,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ConfigError(
                f"mean={list(mean)} and std={list(std)} must have one number for each channel that the network reads, "
                "those of std above 0."
            )
        if interpolation not in get_args(Interpolation):
            allowed = choices(interpolation, get_args(Interpolation))
            raise ConfigError(f"There is no interpolation {interpolation!r}; {allowed}.")
        self.mean, self.std, self.interpolation = list(mean), list(std), interpolation
        self.size = None if size is None else plain(size)
        # Not persistent: the description holds them.
        self.register_buffer("_mean", torch.tensor(self.mean)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(self.std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1,1] to what the network reads, (B, len(mean), *size)."""
        if x.shape[1] == 3 and len(self.mean) == 1:
            x = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        if x.shape[1] not in (1, len(self.mean)):
            raise ShapeError(
                f"The network reads {len(self.mean)} channels, and the images have {x.shape[1]}: mean and std have a "
                "number for each channel that it reads (encoder.mean, encoder.std)."
            )
        x = (x + 1) / 2
        if self.size is not None and tuple(x.shape[2:]) != (shape := sides(self.size)):
            x = interpolate(x, shape, mode=self.interpolation, align_corners=False, antialias=True)
            if self.interpolation == "bicubic":  # which overshoots
                x = x.clamp(0, 1)
        return (x - self._mean) / self._std
