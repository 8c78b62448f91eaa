"""Activation normalisation (Glow, arXiv 1807.03039): an affine map per channel that starts from the first batch.

Symbols: x is the input and y the output, both with n channels in dimension 1; loc and log_scale are (n,).
"""

from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning.errors import NonFiniteError
from iin_lightning.layers.collective import sum_over_ranks

DEAD = 1e-6  # a channel whose standard deviation is below this carries no signal to normalise


class ActNormalization(nn.Module):
    """Scale and shift each channel, so that the first batch comes out with mean 0 and deviation 1.

    ``y = exp(log_scale) * (x + loc)``, where the first batch in training mode sets ``loc = -mean`` and
    ``log_scale = -log(std)`` (unbiased); from then on both are ordinary parameters.

    * Evaluation never initialises, and neither does a layer whose state was loaded or copied.
    * Under ``torch.distributed`` the moments are those of the batches of all ranks together.
    * A single value a channel has no deviation: the layer stays an identity and waits for a larger batch.
    * A channel that is constant in the first batch is shifted, but keeps its scale.

    Raises:
        NonFiniteError: the batch to initialise from holds NaN or infinity.

    Example:
        >>> layer = ActNormalization(3)
        >>> y = layer(5 + 2 * torch.randn(1000, 3))
        >>> y.std(0).round(decimals=3).tolist(), layer.ready
        ([1.0, 1.0, 1.0], True)
        >>> layer(torch.randn(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    initialized: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.loc = nn.Parameter(torch.zeros(num_features))
        self.log_scale = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("initialized", torch.tensor(False))
        # The buffer travels with checkpoints; to read it at each step would make the host wait for the device.
        self.ready = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, n) or (B, n, H, W)."""
        if self.training and not self.ready:
            self._initialize(x)
        channels = (-1,) + (1,) * (x.ndim - 2)
        return torch.exp(self.log_scale).view(channels) * (x + self.loc.view(channels))

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        # Two passes in float64: with one, the squares of a large mean would swallow a small deviation.
        values = x.transpose(0, 1).flatten(1).double()
        counts = values.new_tensor([values.shape[1], (~values.isfinite()).sum().item()])
        count, non_finite = (int(n) for n in sum_over_ranks(counts))
        if non_finite:
            raise NonFiniteError(
                f"ActNorm takes its scale from the first batch, in which {non_finite} of "
                f"{count * self.num_features} values are NaN or infinite: "
                "check the data and the network that this batch came from."
            )
        if count < 2:
            return
        mean = sum_over_ranks(values.sum(1)) / count
        squares = sum_over_ranks((values - mean[:, None]).square().sum(1))
        std = (squares / (count - 1)).sqrt()
        self.loc.copy_(-mean)
        self.log_scale.copy_(torch.where(std < DEAD, 0.0, -torch.log(std + DEAD)))
        self.initialized.fill_(True)
        self.ready = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.ready = bool(self.initialized)

    def extra_repr(self) -> str:
        """Show the channels."""
        return f"{self.num_features}"
