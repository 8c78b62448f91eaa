"""Swaps of a factor between images, and whether the network, shown the result, sees what was asked for.

Symbols: z̃* is the edited latent, x* = G(T^-1(z̃*)) its image, and z̃' = T(E(x*)) what the network sees in it. Where z̃*
lies on the data, z̃' is z̃* but for what G loses; where an edit asks for what G cannot show, z̃' is something else.
"""

import torch
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.interpreter import Interpreter


@torch.no_grad()
def swap_grid(interpreter: Interpreter, targets: Tensor, sources: Tensor, name: str) -> Tensor:
    """Exchange a factor between all targets (R,C,H,W) and all sources (S,C,H,W) (Figs. 2, 5, 6).

    Entry (i, j) of the outputs (R, S, ...) is G(T^-1(z̃*)): z̃* has the named factor of source j, the rest of target i.

    Raises:
        FactorError: the factor does not exist.
    """
    interpreter.factors[name]
    z, rest = interpreter.encode(targets), interpreter.complement(targets)
    part = interpreter.factors_of(sources)[name]
    rows, columns = len(z), len(part)
    exchanged = interpreter.replace(z.repeat_interleave(columns, 0), {name: part.repeat(rows, 1)})
    kept = None if rest is None else rest.repeat_interleave(columns, 0)
    return interpreter.resume(exchanged, kept).unflatten(0, (rows, columns))


@torch.no_grad()
def swap_errors(interpreter: Interpreter, target: Tensor, source: Tensor, name: str | None) -> dict[str, float]:
    """Measure how far the factors of swapped images, seen anew, are from those that were asked for.

    ``e_k = sqrt(Σ |z̃'_k - z̃*_k|² / Σ |z̃^t_k - z̃^s_k|²)``, sums over pairs of targets t and sources s, z̃ (n, N) each,
    where z̃* is z̃^t with the named factor of z̃^s: 0 if factor k comes back as it was asked for, 1 if it is as far off as
    the factor of another image, NaN where no two images differ. ``name=None`` edits nothing: what E and G can do.

    Raises:
        FactorError: the factor does not exist.
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
