"""Disentanglement of vector-valued factors: MIG, SAP, modularity and DCI, on whole factors instead of dimensions.

Symbols: F factors z̃_k, the residual among them, and C concepts c. Probes (see `metrics.probes`) fill the matrices
(F, C) from which each measure is a small formula: I_kc in [0, 1] is the share of what there is to know of concept c
that factor k holds, S_kc in [0, 1] how well it is told from factor k, R_kc the importance of factor k where c is told
from all of them. All measures lie in [0, 1]; perfect factors have 1, factors of which each holds everything have 0.
A concept that all factors together do not tell counts as 0 in all matrices: chance is not weighed against chance.

What they say is whether each concept has *one* factor, not whether that is the factor of its name: see `leakage`.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.errors import FactorError
from iin_lightning.metrics.measured import Measured, average
from iin_lightning.metrics.probes import ProbeKind, fit_probe
from iin_lightning.progress import Bar, track
from iin_lightning.seeding import generator

SHUFFLES = 5  # of each factor, for its importance


class Importance(NamedTuple):
    """Which factors a concept is told from.

    Attributes:
        share: R (F, C); each column sums to 1, or to 0 if the concept is not told from any.
        score: of C in [0, 1], how well each concept is told from all factors together, with standard errors.
    """

    share: Tensor
    score: tuple[Measured, ...]


def gap(matrix: Tensor) -> Tensor:
    """Mean over concepts of the difference between the best and the second best factor.

    ``1/C Σ_c (M_(1)c - M_(2)c)``. Of the information I it is the mutual information gap (MIG), of the scores S the
    separated attribute predictability (SAP).

    Args:
        matrix: (F, C) with F >= 2.

    References:
        Chen et al., Isolating Sources of Disentanglement in VAEs, NeurIPS 2018, arXiv 1802.04942 (MIG).
        Kumar, Sattigeri and Balakrishnan, ICLR 2018, arXiv 1711.00848 (SAP).

    Example:
        >>> gap(torch.tensor([[0.9, 0.5], [0.1, 0.5], [0.0, 0.0]]))
        tensor(0.4000)
    """
    best = matrix.topk(2, dim=0).values
    return (best[0] - best[1]).mean()


def modularity(information: Tensor) -> Tensor:
    """Whether a factor tells of one concept only.

    ``1 - Σ_{c ≠ c_k} I_kc² / (θ_k² (C - 1))`` with ``θ_k = max_c I_kc = I_k,c_k``, averaged over factors. They count
    by θ_k, unlike in the paper: a residual that should tell of nothing would otherwise count by its noise.

    Args:
        information: I (F, C).

    Returns:
        Scalar; 0 if no factor tells of anything, NaN if there is only one concept.

    References:
        Ridgeway and Mozer, NeurIPS 2018, arXiv 1802.05312.

    Example:
        >>> modularity(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))
        tensor(0.5000)
    """
    if information.shape[1] == 1:
        return torch.tensor(math.nan, dtype=information.dtype)
    theta = information.amax(1)
    rest = (information.square().sum(1) - theta.square()) / (theta.square() * (information.shape[1] - 1))
    return _weighted_mean(1 - rest, theta)


def disentanglement(importance: Tensor) -> Tensor:
    """Whether a factor matters for one concept only: the disentanglement of DCI.

    ``Σ_k w_k (1 - H(P_k))`` with ``P_kc = R_kc / Σ_c R_kc``, H in units of log C and ``w_k = Σ_c R_kc / Σ_kc R_kc``.

    Args:
        importance: R (F, C).

    Returns:
        Scalar; 0 if nothing matters, NaN if there is only one concept.

    References:
        Eastwood and Williams, A Framework for the Quantitative Evaluation of Disentangled Representations, ICLR 2018.

    Example:
        >>> disentanglement(torch.tensor([[0.0, 0.5], [1.0, 0.0], [0.0, 0.5]]))
        tensor(1.)
    """
    if importance.shape[1] == 1:
        return torch.tensor(math.nan, dtype=importance.dtype)
    return _weighted_mean(_purity(importance), importance.sum(1))


def completeness(importance: Tensor) -> Tensor:
    """Whether a concept is told from one factor only: the completeness of DCI, `disentanglement` of the transpose.

    Args:
        importance: R (F, C) with F >= 2.

    Returns:
        Scalar; 0 if nothing matters.

    Example:
        >>> completeness(torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
        tensor(0.5000)
    """
    return _weighted_mean(_purity(importance.T), importance.sum(0))


def factor_importance(
    factors: Mapping[str, Tensor],
    concepts: Mapping[str, Tensor],
    probe: ProbeKind = "kernel",
    seed: int = 0,
    images: Tensor | None = None,
) -> Importance:
    """Importance of whole factors: what a probe of all factors loses when one of them is shuffled between items.

    ``R_kc = Δ_kc / Σ_k Δ_kc``, where Δ_kc >= 0 is the loss of information about c on held-out items when all dimensions
    of factor k are exchanged together, averaged over some shuffles: of information and not of accuracy, which the
    second copy of a concept can make good. A concept whose score is reached by one of 200 permutations of its labels is
    told from no factor, and its column is 0.

    Args:
        factors: name -> z̃_k (n, N_k).
        concepts: concept -> whole numbers (n,) or floating-point (n,), (n, d).
        probe: which one, see `fit_probe`.
        seed: of probes and shuffles.
        images: see `fit_probe`.

    References:
        Breiman, Random Forests, Machine Learning 2001 (permutation importance).

    Example:
        >>> a, b = torch.randint(2, (2, 400))
        >>> factors = {"residual": torch.randn(400, 2), "a": a[:, None].float(), "b": b[:, None].float()}
        >>> factor_importance(factors, {"a": a, "b": b}, "linear").share.round(decimals=2).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
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
    """All measures of disentanglement, and what each factor tells of each concept.

    Args:
        factors: name -> z̃_k (n, N_k), two or more, as ``Factors.split`` gives them.
        concepts: concept -> whole numbers (n,) for a class, floating-point (n,) or (n, d) for a quantity.
        probe: which ones, see `fit_probe`.
        seed: of the halves of the images, probes and shuffles.
        images: see `fit_probe`.

    Returns:
        ``mig``, ``sap``, ``completeness`` and ``informativeness`` (how well concepts are told from all factors
        together, mean over concepts), each in [0, 1]; with two or more concepts also ``modularity`` and
        ``disentanglement``; and ``information/{concept}/{factor}``: lower bounds of I(c; z̃_k) in nats. Informativeness
        and information have standard errors over held-out images.

    Raises:
        FactorError: fewer than two factors, or no concept.
        ConfigError, ShapeError: see `fit_probe`.

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
    """1 - entropy of each row as a distribution over columns, in units of the largest entropy."""
    p = rows / rows.sum(1, keepdim=True)
    return 1 - torch.special.entr(p).sum(1) / math.log(rows.shape[1])


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    # A row without weight has no distribution, and so no value.
    return (values.nan_to_num(0.0) * weights).sum() / weights.sum().clamp(min=1e-12)
