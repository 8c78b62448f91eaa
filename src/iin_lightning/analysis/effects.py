"""Effects: what a step along one attribute's direction does to every attribute, and how entangled directions are.

Symbols: d_k (N,) is the direction of attribute k, z̃ (n, N) are held-out factors, p_j(z̃) in [0, 1] is the probability of
attribute j that a judge gives, who sees what becomes of z̃.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.analysis.directions import compatible
from iin_lightning.progress import track

Judge = Callable[[Tensor], Tensor]
"""Factors z̃ (B, N), or latents -> probabilities (B, J) of J attributes, on the processor."""


class Effects(NamedTuple):
    """What steps along K directions do to J attributes: (K, J) in [-1, 1], with standard errors over examples."""

    mean: Tensor
    error: Tensor


@torch.no_grad()
def effects(z_tilde: Tensor, vectors: Iterable[Tensor], judge: Judge, alpha: float = 1.0) -> Effects:
    """Measure entanglement: how much the probability of attribute j changes on a way along direction k (N,).

    ``E_kj = mean over z̃ of p_j(z̃ + alpha/2 d_k) - p_j(z̃ - alpha/2 d_k)``. The way leads to both sides of an example,
    since an example that has an attribute cannot get it. A probability, because it is the same unit for all judges:
    log-odds are as large as a network is overconfident, and a few examples far from the boundary make up their mean.

    Example:
        >>> judge = lambda z_tilde: torch.sigmoid(4 * z_tilde)  # attribute j lies in dimension j
        >>> vectors = torch.tensor([[2.0, 0.0], [1.0, 1.0]])  # the second is entangled
        >>> (effects(torch.randn(500, 2), vectors, judge).mean > 0.2).tolist()
        [[True, False], [True, True]]
    """

    def change(part: Tensor, half: Tensor) -> Tensor:
        return judge(part + half).cpu() - judge(part - half).cpu()

    means, errors = [], []
    for vector in vectors:
        changes = in_chunks(partial(change, half=(0.5 * alpha * vector).to(z_tilde)), z_tilde)
        means.append(changes.double().mean(0).float())
        errors.append((changes.double().std(0, correction=0) / (len(changes) - 1) ** 0.5).float())
    return Effects(torch.stack(means), torch.stack(errors))


def side_effects(mean: Tensor, moved: Sequence[str], read: Sequence[str]) -> dict[str, float]:
    """Return how much the other attributes change, relative to the attribute that is moved: 0 is disentangled.

    ``mean_j |E_kj| / |E_kk|`` of E (K, J) over all attributes j but k and those that exclude k; NaN where k has no
    effect of its own, and no entry where it is the only attribute. ``moved`` and ``read`` name rows and columns.

    Example:
        >>> names = ["Smiling", "Male"]
        >>> side_effects(torch.tensor([[0.5, 0.125], [-0.25, 0.5]]), names, names)
        {'Smiling': 0.25, 'Male': 0.5}
    """
    found: dict[str, float] = {}
    for row, name in enumerate(moved):
        if others := compatible(name, read):
            own = mean[row, read.index(name)].abs()
            other = mean[row, [read.index(other) for other in others]].abs().mean()
            found[name] = (other / own).item() if own > 0 else float("nan")
    return found


def recognised(probabilities: Tensor, attributes: Mapping[str, Tensor]) -> dict[str, float]:
    """Return how well probabilities (n, J) tell examples that have an attribute (n,): the area under the ROC curve.

    0.5 is chance, 1 always right, NaN where all examples give the same answer. Effects on an attribute that its judge
    does not recognise mean nothing.

    Example:
        >>> recognised(torch.tensor([[0.1], [0.4], [0.9]]), {"Smiling": torch.tensor([0, 0, 1])})
        {'Smiling': 1.0}
    """
    areas: dict[str, float] = {}
    for column, name in enumerate(attributes):
        answer = attributes[name].cpu()
        known = answer >= 0
        mixed = len(answer[known].unique()) == 2
        areas[name] = float(roc_auc_score(answer[known], probabilities[known, column])) if mixed else float("nan")
    return areas


def linear_judge(z: Tensor, attributes: Mapping[str, Tensor]) -> Judge:
    """Fit logistic regressions that tell attributes (n,) from latents (n, N): where no classifier of images is at hand.

    Example:
        >>> z = torch.randn(500, 2)
        >>> judge = linear_judge(z, {"Smiling": (z[:, 0] > 0).long()})
        >>> judge(torch.tensor([[3.0, 0.0], [-3.0, 0.0]])).round().tolist()
        [[1.0], [0.0]]
    """
    probes = []
    for answer in track(attributes.values(), "Fitting judges"):
        known = answer >= 0
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probes.append(probe.fit(z[known].double().cpu().numpy(), answer[known].cpu().numpy()))

    def judge(z: Tensor) -> Tensor:
        values = z.detach().double().cpu().numpy()
        return torch.stack([torch.from_numpy(probe.predict_proba(values)[:, 1]) for probe in probes], dim=1).float()

    return judge
