"""Read and write a layer's latents within somebody's own forward pass."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.split import Split
from iin_lightning.encoders.taps import find, tapped
from iin_lightning.errors import ConfigError, ShapeError


@dataclass
class Attached:
    """What the last pass showed.

    Attributes:
        factors: name -> (B, N_k), as they were before an edit; empty before the first pass.
    """

    factors: dict[str, Tensor] = field(default_factory=dict)


def attach_latents(
    network: nn.Module, layer: str, encoder: Encoder, change: Callable[[Tensor], Tensor | None]
) -> AbstractContextManager[None]:
    """While it lasts, ``change`` gets z (B, N) whenever this thread calls the layer; what it returns is written back.

    What a reduction of the encoder leaves out of the activation is kept as it is. Gradients flow.

    Args:
        network: whatever the user runs.
        layer: name of a submodule whose output has the shape that the encoder was built for.
        encoder: a ``Split`` says how activation and z belong together; of any other, z is the flattened activation.
        change: from z to z*, or to None where the activation is to stay as it is.

    Raises:
        ConfigError: there is no such layer; at a pass: its output is no tensor.
        ShapeError: at a pass: its output has another shape than the encoder's.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 1))
        >>> with attach_latents(network, "0", Split(network, "0", image_size=4), torch.zeros_like):
        ...     logits = network(torch.ones(1, 3, 4, 4))
        >>> torch.equal(logits[0], network[2].bias)
        True
    """

    def react(output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise ConfigError(f"The layer {layer!r} gives a {type(output).__name__}, not a tensor: name another one.")
        if isinstance(encoder, Split):
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
        if not isinstance(encoder, Split):
            changed = change(moved.flatten(1))
            written = None if changed is None else changed.unflatten(1, output.shape[1:])
        else:
            changed = change(encoder.latents_of(moved))
            written = None if changed is None else encoder.activation_of(changed, encoder.rest_of(moved))
        # Laid out as the output was, since kernels round as the layout of their input goes.
        return None if written is None else torch.empty_like(activation).copy_(written)

    return tapped(find(network, layer), react)
