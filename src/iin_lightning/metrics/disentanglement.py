"""Leakage and disentanglement of vector-valued factors: MIG, SAP, modularity and DCI, on factors instead of dimensions.

Symbols: F factors z̃_k, the residual among them, and C concepts c. Probes (see `metrics.probes`) fill the matrices (F,
C) from which each measure is a small formula: I_kc in [0, 1] is the share of what there is to know of concept c that
factor k holds, S_kc in [0, 1] how well it is told from factor k, R_kc the importance of factor k where c is told from
all of them. All measures lie in [0, 1]; perfect factors have 1, factors of which each holds everything have 0. A
concept that all factors together do not tell counts as 0 in all matrices: chance is not weighed against chance.

They say whether each concept has *one* factor; whether that is the factor of its name, says `leakage`. Arguments are
factors (name -> z̃_k (n, N_k)), concepts (name -> a class, whole numbers (n,), or a quantity, floating-point (n, d)),
and those of `fit_probe`.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.errors import FactorError, choices
from iin_lightning.factors import RESIDUAL
from iin_lightning.metrics.measured import Measured, average
from iin_lightning.metrics.probes import ProbeKind, fit_probe
from iin_lightning.progress import Bar, track
from iin_lightning.seeding import generator

SHUFFLES = 5  # of each factor, for its importance


def leakage(
    factors: Mapping[str, Tensor],
    concepts: Mapping[str, Tensor],
    probe: ProbeKind = "kernel",
    seed: int = 0,
    images: Tensor | None = None,
) -> dict[str, Measured]:
    """Measure what a probe reads of each concept from its own factor, and from all others, the residual included.

    Perfect factors keep a concept where it belongs: ``{concept}/own`` is high and ``{concept}/others`` is at
    ``{concept}/chance``: accuracies, R² of a quantity. ``{concept}/own_information`` and
    ``{concept}/others_information`` are shares of what there is to know, in [0, 1], which also tell where a class is so
    frequent that accuracy is high.

    Raises:
        FactorError: a concept has no factor of its name.
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


class Importance(NamedTuple):
    """Importance R (F, C) of factors for concepts, whose columns sum to 1, or to 0 if the concept is not told from any.

    ``score``: how well each concept is told from all factors together, in [0, 1].
    """

    share: Tensor
    score: tuple[Measured, ...]


def gap(matrix: Tensor) -> Tensor:
    """Return the mean over concepts of the difference between the best and the second best of F >= 2 factors.

    ``1/C Σ_c (M_(1)c - M_(2)c)`` of a matrix (F, C). Of the information I it is the mutual information gap (MIG, Chen
    et al., NeurIPS 2018, arXiv 1802.04942), of the scores S the separated attribute predictability (SAP, Kumar,
    Sattigeri and Balakrishnan, ICLR 2018, arXiv 1711.00848).
    """
    best = matrix.topk(2, dim=0).values
    return (best[0] - best[1]).mean()


def modularity(information: Tensor) -> Tensor:
    """Return whether a factor tells of one concept only, NaN if there is only one.

    ``1 - Σ_{c ≠ c_k} I_kc² / (θ_k² (C - 1))`` with ``θ_k = max_c I_kc = I_k,c_k``, averaged over factors. They count by
    θ_k, unlike in the paper (Ridgeway and Mozer, NeurIPS 2018, arXiv 1802.05312): a residual that should tell of
    nothing would otherwise count by its noise.
    """
    if information.shape[1] == 1:
        return torch.tensor(math.nan, dtype=information.dtype)
    theta = information.amax(1)
    rest = (information.square().sum(1) - theta.square()) / (theta.square() * (information.shape[1] - 1))
    return _weighted_mean(1 - rest, theta)


def disentanglement(importance: Tensor) -> Tensor:
    """Return whether a factor matters for one concept only, the D of DCI; NaN if there is only one concept.

    ``Σ_k w_k (1 - H(P_k))`` with ``P_kc = R_kc / Σ_c R_kc``, H in units of log C and ``w_k = Σ_c R_kc / Σ_kc R_kc``
    (Eastwood and Williams, A Framework for the Quantitative Evaluation of Disentangled Representations, ICLR 2018).
    """
    if importance.shape[1] == 1:
        return torch.tensor(math.nan, dtype=importance.dtype)
    return _weighted_mean(_purity(importance), importance.sum(1))


def completeness(importance: Tensor) -> Tensor:
    """Return whether a concept is told from one factor only, the C of DCI: `disentanglement` of the transpose."""
    return _weighted_mean(_purity(importance.T), importance.sum(0))


def factor_importance(
    factors: Mapping[str, Tensor],
    concepts: Mapping[str, Tensor],
    probe: ProbeKind = "kernel",
    seed: int = 0,
    images: Tensor | None = None,
) -> Importance:
    """Measure the importance of factors: what a probe of all factors loses when one is shuffled between held-out items.

    ``R_kc = Δ_kc / Σ_k Δ_kc``, where Δ_kc >= 0 is the loss of information about c when all dimensions of factor k are
    exchanged together, averaged over some shuffles (Breiman, Random Forests, Machine Learning 2001): of information and
    not of accuracy, which the second copy of a concept can make good. A concept whose score is reached by one of 200
    permutations of its labels is told from no factor, and its column is 0.
    """
    z, widths = torch.cat(list(factors.values()), dim=1).cpu(), [part.shape[1] for part in factors.values()]
    share = torch.zeros(len(factors), len(concepts), dtype=torch.float64)
    score = []
    with Bar() as bar:
        task = bar.add_task("Shuffling factors", total=len(concepts) * len(factors))
        for c, values in enumerate(concepts.values()):
            reader = fit_probe(z, values, probe, seed, images)
            items = reader.held_out
            whole = reader.read(z)
            score.append(whole.score)
            if not reader.tells(z):
                bar.advance(task, len(factors))
                continue
            for k in range(len(factors)):
                columns = slice(sum(widths[:k]), sum(widths[: k + 1]))
                for shuffle in range(SHUFFLES):
                    order = torch.randperm(len(items), generator=generator(seed, "importance", shuffle))
                    shuffled = z.clone()
                    shuffled[items, columns] = z[items[order], columns]
                    share[k, c] += max(whole.share.value - reader.read(shuffled).share.value, 0.0)
                bar.advance(task)
    return Importance(share / share.sum(0).clamp(min=1e-12), tuple(score))


def disentanglement_scores(
    factors: Mapping[str, Tensor],
    concepts: Mapping[str, Tensor],
    probe: ProbeKind = "kernel",
    seed: int = 0,
    images: Tensor | None = None,
) -> dict[str, Measured]:
    """Return all measures of disentanglement, and what each factor tells of each concept.

    ``mig``, ``sap``, ``completeness`` and ``informativeness`` (how well concepts are told from all factors together,
    mean over concepts); of two or more concepts also ``modularity`` and ``disentanglement``; and
    ``information/{concept}/{factor}``: lower bounds of I(c; z̃_k) in nats. The last and informativeness have errors.

    Raises:
        FactorError: fewer than two factors, or no concept.

    Example:
        >>> digit, color = torch.arange(400) % 4, torch.rand(400, 3)
        >>> factors = {"residual": torch.randn(400, 2), "digit": torch.eye(4)[digit], "color": color}
        >>> scores = disentanglement_scores(factors, {"digit": digit, "color": color}, "linear")
        >>> all(scores[name].value > 0.9 for name in ("mig", "sap", "modularity", "disentanglement", "completeness"))
        True
    """
    if len(factors) < 2 or not concepts:
        raise FactorError(
            f"Disentanglement compares two or more factors for one or more concepts, got the factors {list(factors)} "
            f"and the concepts {list(concepts)}: evaluate a model that was trained with model=sup on labelled data."
        )
    readouts = {
        (concept, name): fit_probe(factors[name], concepts[concept], probe, seed, images).read(factors[name])
        for concept, name in track(list(product(concepts, factors)), "Probing factors")
    }

    importance = factor_importance(factors, concepts, probe, seed, images)
    told = importance.share.sum(0) > 0

    def matrix(field: str) -> Tensor:
        values = [[getattr(readouts[concept, name], field).value for concept in concepts] for name in factors]
        return torch.tensor(values, dtype=torch.float64) * told

    scores = {
        "mig": gap(matrix("share")),
        "sap": gap(matrix("score")),
        "completeness": completeness(importance.share),
    }
    if len(concepts) > 1:
        scores |= {
            "modularity": modularity(matrix("share")),
            "disentanglement": disentanglement(importance.share),
        }
    return {
        **{name: Measured(score.item()) for name, score in scores.items()},
        "informativeness": average(importance.score),
        **{f"information/{concept}/{name}": readout.information for (concept, name), readout in readouts.items()},
    }


def _purity(rows: Tensor) -> Tensor:
    """Return 1 - entropy of each row as a distribution over columns, in units of the largest entropy."""
    p = rows / rows.sum(1, keepdim=True)
    return 1 - torch.special.entr(p).sum(1) / math.log(rows.shape[1])


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    # A row without weight has no distribution, and so no value.
    return (values.nan_to_num(0.0) * weights).sum() / weights.sum().clamp(min=1e-12)
