"""Self-consistency of an edit: whether the network, shown the result, sees what was asked for.

Symbols: z̃* is the edited latent, x* = G(T^-1(z̃*)) its image, and z̃' = T(E(x*)) what the network sees in it. Where z̃*
lies on the data, z̃' is z̃* but for what G loses; where an edit asks for what G cannot show, z̃' is something else.
"""

import torch
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.interpreter import Interpreter


@torch.no_grad()
def swap_errors(interpreter: Interpreter, target: Tensor, source: Tensor, name: str | None) -> dict[str, float]:
    """How far the factors of swapped images, seen anew, are from those that were asked for.

    ``e_k = sqrt(Σ |z̃'_k - z̃*_k|² / Σ |z̃^t_k - z̃^s_k|²)``, sums over pairs of targets t and sources s, where z̃* is z̃^t
    with the named factor of z̃^s: 0 if factor k comes back as it was asked for, 1 if it is as far off as the factor of
    another image.

    Args:
        interpreter: of a network that decodes to images.
        target: z̃ (n, N) of images that keep all other factors.
        source: z̃ (n, N) of as many others, which give the named one.
        name: the factor to take over; None for no edit, the bound of what E and G can do.

    Returns:
        Factor -> error, at least 0; NaN where no two images differ.

    Raises:
        FactorError: there is no factor of that name.

    Example:
        >>> from iin_lightning.encoders.autoencoder import Autoencoder
        >>> from iin_lightning.factors import Factors
        >>> from iin_lightning.flows.translator import Translator
        >>> network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
        >>> factors = Factors({"residual": 6, "digit": 2}, 8)
        >>> interpreter = Interpreter(network, Translator(8, n_blocks=2, hidden=16), factors)
        >>> list(swap_errors(interpreter, *torch.randn(2, 10, 8), "digit"))
        ['residual', 'digit']
    """
    factors = interpreter.factors
    parts = factors.split(target)
    if name is not None:
        factors[name]
        parts[name] = factors.split(source)[name]
    asked = factors.merge(parts)

    def look_again(z_tilde: Tensor) -> Tensor:
        images = interpreter.decode(interpreter.untranslate(z_tilde))
        return interpreter.translate(interpreter.encoder.encode(images).mean)

    seen = in_chunks(look_again, asked)
    errors, distances = factors.split(seen - asked), factors.split(target - source)
    return {key: (errors[key].norm() / distances[key].norm()).item() for key in factors}
