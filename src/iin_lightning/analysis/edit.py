"""Edits as figures show them: every target with every source, one factor at a time."""

import torch
from torch import Tensor

from iin_lightning.interpreter import Interpreter


@torch.no_grad()
def swap_grid(interpreter: Interpreter, targets: Tensor, sources: Tensor, name: str) -> Tensor:
    """All combinations of targets and sources that exchange one factor (Figs. 2, 5, 6).

    Entry (i, j) is G(T^-1(z̃*)), where z̃* has the named factor of source j and all others of target i.

    Args:
        interpreter: who encodes, exchanges and decodes.
        targets: images (R,C,H,W), one a row.
        sources: images (S,C,H,W), one a column.
        name: the factor to take over from the sources.

    Returns:
        Outputs (R, S, ...): images in [-1,1], or logits.

    Raises:
        FactorError: there is no factor of that name.
    """
    interpreter.factors[name]
    z, rest = interpreter.encode(targets), interpreter.complement(targets)
    part = interpreter.factors_of(sources)[name]
    rows, columns = len(z), len(part)
    exchanged = interpreter.replace(z.repeat_interleave(columns, 0), {name: part.repeat(rows, 1)})
    kept = None if rest is None else rest.repeat_interleave(columns, 0)
    return interpreter.resume(exchanged, kept).unflatten(0, (rows, columns))
