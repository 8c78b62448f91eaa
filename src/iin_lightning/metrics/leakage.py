"""Leakage: what a probe reads of a concept from its own factor, and from all the others; see `metrics.probes`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from iin_lightning.errors import FactorError, choices
from iin_lightning.factors import RESIDUAL
from iin_lightning.metrics.measured import Measured
from iin_lightning.metrics.probes import ProbeKind, fit_probe


def leakage(
    factors: Mapping[str, Tensor],
    concepts: Mapping[str, Tensor],
    probe: ProbeKind = "kernel",
    seed: int = 0,
    images: Tensor | None = None,
) -> dict[str, Measured]:
    """What a probe reads of each concept from its own factor, and from all others together, the residual included.

    Perfect factors keep a concept where it belongs: "own" is high and "others" is at "chance".

    Args:
        factors: name -> z̃_k (n, N_k), as ``Factors.split`` gives them.
        concepts: concept -> whole numbers (n,) or floating-point (n,), (n, d); each has a factor of its name.
        probe: which one, see `probes.fit_probe`.
        seed: see `probes.fit_probe`.
        images: see `probes.fit_probe`.

    Returns:
        ``{concept}/own``, ``{concept}/others`` and ``{concept}/chance``: accuracies, R² of a quantity;
        ``{concept}/own_information`` and ``{concept}/others_information``: the share of what there is to know, in
        [0, 1], which also tells where one class is so frequent that every accuracy is high.

    Raises:
        FactorError: a concept without a factor.
        ConfigError, ShapeError: see `probes.fit_probe`.

    Example:
        >>> digit, color = torch.arange(400) % 4, torch.rand(400, 3)
        >>> scores = leakage({"residual": torch.randn(400, 2), "digit": torch.eye(4)[digit], "color": color},
        ...                  {"digit": digit, "color": color})
        >>> scores["digit/own"].value, scores["digit/chance"].value, scores["digit/others_information"].value < 0.1
        (1.0, 0.25, True)
    """
    for concept in concepts:
        if concept not in factors or concept == RESIDUAL:
            own = [name for name in factors if name != RESIDUAL]
            raise FactorError(f"There is no factor {concept!r} whose leakage could be told; {choices(concept, own)}.")
    scores: dict[str, Measured] = {}
    for concept, values in concepts.items():
        others = torch.cat([part for name, part in factors.items() if name != concept], dim=1)
        for case, z in (("own", factors[concept]), ("others", others)):
            readout = fit_probe(z, values, probe, seed, images).read(z)
            scores[f"{concept}/{case}"] = readout.accuracy
            scores[f"{concept}/{case}_information"] = readout.share
            scores[f"{concept}/chance"] = Measured(readout.chance)
    return scores
