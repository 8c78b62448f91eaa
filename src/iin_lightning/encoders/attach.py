"""Read and write a layer's latents within somebody's own forward pass."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.taps import find, tapped
from iin_lightning.errors import ConfigError, ShapeError


@dataclass
class Attached:
    """The factors of the last pass, name -> (B, N_k), as they were before an edit; empty before the first pass."""

    factors: dict[str, Tensor] = field(default_factory=dict)


def attach_latents(
    network: nn.Module, layer: str, encoder: Encoder, change: Callable[[Tensor], Tensor | None]
) -> AbstractContextManager[None]:
    """Give z (B, N) to ``change`` whenever this thread calls the layer, and write back what it returns, if not None.

    What a reduction of the encoder leaves out of the activation is kept as it is. Gradients flow. A ``Cut`` says how
    activation and z belong together; of any other encoder, z is the flattened activation.
    """

    def react(output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise ConfigError(f"The layer {layer!r} gives a {type(output).__name__}, not a tensor: name another one.")
        if isinstance(encoder, Cut):
            fits, expected = tuple(output.shape[1:]) == encoder.activation_shape, encoder.activation_shape
        else:
            fits, expected = output.shape[1:].numel() == encoder.latent_dim, (encoder.latent_dim,)
        if output.ndim < 2 or not fits:
            raise ShapeError(
                f"The layer {layer!r} gives {tuple(output.shape)}, but the interpreter explains (B, "
                f"{', '.join(map(str, expected))}): name the layer that it was trained on, and give it images of "
                "that size."
            )
        # A clone: what follows may work in place on what gradients still need.
        activation = output.clone()
        place = next((t.device for t in encoder.parameters()), activation.device)
        moved = activation.to(place, torch.promote_types(activation.dtype, torch.float32))
        if not isinstance(encoder, Cut):
            changed = change(moved.flatten(1))
            written = None if changed is None else changed.unflatten(1, output.shape[1:])
        else:
            changed = change(encoder.latents_of(moved))
            written = None if changed is None else encoder.activation_of(changed, encoder.rest_of(moved))
        # Laid out as the output was, since kernels round as the layout of their input goes.
        return None if written is None else torch.empty_like(activation).copy_(written)

    return tapped(find(network, layer), react)
