"""Where in a translator NaN or infinity begins, for error messages."""

import torch
from torch import Tensor

from iin_lightning.flows.translator import Translator


@torch.no_grad()
def first_non_finite(translator: Translator, z: Tensor) -> str | None:
    """Name the first layer whose parameters or output are not finite.

    Runs layer by layer in evaluation mode and waits for the device at each: meant for after a failure. The
    translator is left as it was.

    Args:
        translator: T.
        z: latents (B, N).

    Returns:
        The dotted name of the layer, say ``blocks.3.coupling_2``; ``"input"`` if z itself is not finite;
        None if everything is finite.

    Raises:
        ShapeError: z is not (B, N).

    Example:
        >>> T = Translator(4, n_blocks=2, hidden=8)
        >>> first_non_finite(T, torch.randn(3, 4)) is None
        True
        >>> _ = T.get_submodule("blocks.1.coupling_2").conditioner.biases[0].data.fill_(torch.nan)
        >>> first_non_finite(T, torch.randn(3, 4))
        'blocks.1.coupling_2'
    """
    translator.check(z)
    if not z.isfinite().all():
        return "input"
    was_training = translator.training
    translator.eval()  # so that no ActNorm initialises from the batch under suspicion
    try:
        for block_name, block in translator.blocks.named_children():
            for layer_name, layer in block.named_children():
                z, logdet = layer(z)
                if not all(t.isfinite().all() for t in (*layer.parameters(), z, logdet)):
                    return f"blocks.{block_name}.{layer_name}"
    finally:
        translator.train(was_training)
    return None
