"""The response of a network to one factor: how its outputs follow, and how much of them the factor explains (Fig. 9).

A *response* turns latents into logits, or into values. Symbols: y (B, C) are the outputs, log-softmax or values, of B
examples as they are, Y ~ softmax is the prediction; y^k (D, B, C) are the outputs of the same examples whose factor z̃_k
was exchanged for each of D draws, the others kept. A network is invariant under z̃_k if y^k is y. Every draw meets every
example, so for the intervals both are drawn again (see `bootstrap`), with a ``seed``.

What answers to a factor have to agree with are answers where images themselves change: `version_response`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from iin_lightning.analysis.bootstrap import Estimate, blocks, estimate, resample
from iin_lightning.analysis.chunks import CHUNK, in_chunks
from iin_lightning.analysis.walk import law_of
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.interpreter import Interpreter
from iin_lightning.progress import track

Respond = Callable[[Tensor], Tensor]
"""Latents (B, N) -> logits or values (B, C): ``interpreter.decode``, or a reader of decoded images."""


@torch.no_grad()
def outputs_of(latents: Tensor, respond: Respond, what: str | None = None, *, values: bool = False) -> Tensor:
    """Return a network's answers to latents (..., N): log-softmax (..., C) in nats, or its values; on the processor.

    ``what`` names a progress bar.

    Raises:
        ShapeError: it gives neither logits nor values (B, C).

    Example:
        >>> outputs_of(torch.zeros(7, 5, 4), lambda z: z[:, :2]).exp().mean()
        tensor(0.5000)
    """

    def answer(z: Tensor) -> Tensor:
        given = respond(z).float()
        if given.ndim != 2:
            raise ShapeError(
                f"A response gives logits or values (B, C), got {tuple(given.shape)}: average over places."
            )
        return (given if values else given.log_softmax(-1)).cpu()

    outputs = in_chunks(answer, latents.flatten(0, -2), what)
    return outputs.unflatten(0, latents.shape[:-1])


@torch.no_grad()
def redrawn_outputs(
    interpreter: Interpreter,
    z: Tensor,
    name: str,
    draws: int,
    respond: Respond,
    generator: torch.Generator,
    like: Tensor | None = None,
    *,
    values: bool = False,
) -> Tensor:
    """Return the outputs y^k (D, B, C) of all examples z (B, N) with each of D draws of a factor, on the processor.

    Draws are from the density of z̃, where all walks in that factor end, or from ``like`` (m, N_k), values of the
    factor. Walks tend to the Gaussian of their mean and covariance (`ornstein_uhlenbeck`); the draws are some of them.

    Raises:
        FactorError: the factor does not exist.
        ConfigError: draws is below 2.
    """
    if draws < 2:
        raise ConfigError(f"draws={draws} of a factor have no variance: take 2 or more, better 100.")
    dim, like = interpreter.factors[name], law_of(interpreter, name, like, generator)
    if like is None:
        fresh = torch.randn(draws, dim, generator=generator)
    else:
        fresh = like[torch.randint(len(like), (draws,), generator=generator).to(like.device)]
    parts = interpreter.factors.split(in_chunks(interpreter.translate, z.to(interpreter.device)))
    outputs: list[Tensor] = []
    for some in track(fresh.to(parts[name]).split(max(1, CHUNK // len(z))), f"Drawing {name} anew"):
        rest = {other: part.expand(len(some), -1, -1) for other, part in parts.items()}
        z_tilde = interpreter.factors.merge(rest | {name: some[:, None].expand(-1, len(z), -1)})
        latents = in_chunks(interpreter.untranslate, z_tilde.flatten(0, 1)).unflatten(0, z_tilde.shape[:2])
        outputs.append(outputs_of(latents, respond, values=values))
    return torch.cat(outputs)


def explained_variance(redrawn: Tensor, outputs: Tensor, seed: int = 0) -> Estimate:
    """Estimate a factor's total-effect index: the share of the outputs' variance that is left when all else is fixed.

    ``S_k = Σ_c E[Var(y^k_c | all but z̃_k)] / Σ_c Var(y_c)``, at least 0; above 1 it is noise, or draws have a wider law
    than the examples. In nats of log-softmax it sees a change of confidence that probabilities, near 0 or 1, no longer
    show, and classes that are never predicted count as much as others; of probabilities (``exp`` of both arguments) it
    says what a change is worth. The indices of all factors sum to 1 if outputs are sums of functions of one factor
    each, factors are independent, and draws have the law of the examples; to more where factors act together.

    Raises:
        ShapeError: the arguments do not fit, or there are fewer than two draws or examples.

    References:
        Homma and Saltelli, Importance measures in global sensitivity analysis of nonlinear models, Reliability
        Engineering and System Safety 52, 1996.

    Example:
        >>> rest, factor = torch.randn(1000, 1), torch.randn(500, 1, 1)
        >>> estimate = explained_variance(3 * factor + rest, 3 * torch.randn(1000, 1) + rest)
        >>> estimate.low < 9 / 10 < estimate.high
        True
    """
    _check(redrawn, outputs)
    examples = resample(redrawn.shape[1], seed, "examples")
    variance = _redraw_variance(redrawn, resample(len(redrawn), seed, "draws"), examples)
    return estimate(variance / _variance(outputs, examples))


def variance_ratio(redrawn: Tensor, other: Tensor, seed: int = 0) -> Estimate:
    """Estimate how many times more variance of the outputs one factor explains than another, S_k / S_l.

    It is infinite if the network does not see the other factor, y^l (D', B, C) of the same examples, at all.

    Example:
        >>> rest = torch.randn(1000, 1)
        >>> ratio = variance_ratio(rest + 2 * torch.randn(500, 1, 1), rest + torch.randn(500, 1, 1))
        >>> ratio.low < 4 < ratio.high
        True
    """
    _check(redrawn, other[0])
    _check(other, redrawn[0])
    examples = resample(redrawn.shape[1], seed, "examples")
    ours = _redraw_variance(redrawn, resample(len(redrawn), seed, "draws"), examples)
    # Another key: the draws of the two factors have nothing to do with each other.
    theirs = _redraw_variance(other, resample(len(other), seed, "other draws"), examples)
    return estimate(ours / theirs)


def changed_share(redrawn: Tensor, outputs: Tensor, seed: int = 0) -> Estimate:
    """Estimate the share of predictions that change when the factor is drawn anew: ``P(argmax y^k ≠ argmax y)``."""
    _check(redrawn, outputs)
    changed = (redrawn.argmax(-1) != outputs.argmax(-1)).double()
    draws, examples = (resample(n, seed, key) for n, key in zip(changed.shape, ("draws", "examples")))
    return estimate(((draws @ changed) * examples).sum(1), highest=1.0)


def mutual_information(redrawn: Tensor, seed: int = 0) -> Estimate:
    """Estimate what the factor alone tells of the prediction: ``I(z̃_k; Y) = H(Y) - E[H(Y | z̃_k)]`` in nats.

    It lies in [0, min(log C, log D)] and is a share of `prediction_entropy`. ``p(Y | z̃_k)`` is the mean over all
    examples of the softmax with that draw of z̃_k: what the other factors decide, and what the network itself leaves
    open, is not information about z̃_k. Exactly 0 if the network ignores the factor. D draws lower it by about (C - 1) /
    2D if the factor decides the class, and few examples raise it where factors act together.

    Example:
        >>> decided = torch.eye(4)[torch.arange(400) % 4].log()[:, None].expand(-1, 20, -1)
        >>> round(mutual_information(decided).value, 3), round(prediction_entropy(decided), 3)
        (1.386, 1.386)
    """
    _check(redrawn, redrawn[0])
    p = redrawn.double().exp()
    # Differences from the first draw: they vanish, to the last bit, where the factor is ignored.
    first, beyond = p[0], p - p[0]
    replicates: list[Tensor] = []
    for draws, examples in blocks(resample(len(p), seed, "draws"), resample(p.shape[1], seed, "examples")):
        base, offset = examples @ first, torch.einsum("rb,dbc->rdc", examples, beyond)
        given, marginal = base[:, None] + offset, base + torch.einsum("rd,rdc->rc", draws, offset)
        replicates.append(((_entropy(marginal)[:, None] - _entropy(given)) * draws).sum(1))
    return estimate(torch.cat(replicates))


def prediction_entropy(redrawn: Tensor) -> float:
    """Return H(Y) in nats, at most log C: that of the mean softmax over all draws and examples."""
    return _entropy(redrawn.double().exp().flatten(0, 1).mean(0)).item()


def version_response(versions: Tensor, shares: Tensor, outputs: Tensor, seed: int = 0) -> dict[str, Estimate]:
    """Estimate what becomes of answers to n images if each version is exchanged for a draw from all V of the image.

    Versions differ in one concept alone; ``versions`` (V, n, C) are their log-softmax y_v, ``shares`` p (V,) those of
    all items that are of version v, ``outputs`` (B, C) the log-softmax of the items that a factor is measured on. No
    translator is involved. ``explained_variance = Σ_c E_i[Var_v(y_c)] / Σ_c Var(y_c)`` with v ~ p, of log-softmax and
    of probabilities; ``changed_predictions = P(argmax y_v ≠ argmax y_w)`` with v, w ~ p. So they compare with
    `explained_variance` and `changed_share` of a factor that is drawn from other items of the same data, and less with
    those of draws from N(0, 1). Intervals are of the images and items; the versions are given.

    Raises:
        ShapeError: there are fewer than two versions, images or items, or the shapes do not fit.

    Example:
        >>> answers = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 0]])  # two of four images are seen as something else
        >>> y = torch.eye(2)[answers].mul(9).log_softmax(-1)
        >>> found = version_response(y, torch.tensor([0.5, 0.5]), y.flatten(0, 1))
        >>> found["changed_predictions"].value, round(found["explained_variance"].value, 2)
        (0.25, 0.44)
    """
    fits = versions.ndim == 3 and shares.shape == versions.shape[:1] and outputs.shape[1:] == versions.shape[2:]
    if not fits or min(*versions.shape[:2], len(outputs)) < 2:
        raise ShapeError(
            "A response to versions needs outputs (V, n, C) of at least 2 versions of 2 images, shares (V,) and (B, C) "
            f"of 2 items, got {tuple(versions.shape)}, {tuple(shares.shape)}, {tuple(outputs.shape)}: take more."
        )
    y, p, all_y = versions.double(), shares.double(), outputs.double()
    images, items = resample(y.shape[1], seed, "images"), resample(len(all_y), seed, "examples")
    predicted = y.argmax(-1)
    changed = torch.einsum("v,w,vwi->i", p, p, (predicted[:, None] != predicted[None]).double())
    return {
        "explained_variance": estimate(_share_within(y, p, images, all_y, items)),
        "explained_variance_of_probabilities": estimate(_share_within(y.exp(), p, images, all_y.exp(), items)),
        "changed_predictions": estimate(images @ changed, highest=1.0),
    }


def _redraw_variance(redrawn: Tensor, draws: Tensor, examples: Tensor) -> Tensor:
    """Mean over examples of the variance over draws, summed over classes, for each row of weights (R, D), (R, B)."""
    x = redrawn.double() - redrawn[0].double()
    square = x.square().sum(-1)
    replicates: list[Tensor] = []
    for w_draws, w_examples in blocks(draws, examples):
        mean = torch.einsum("rd,dbc->rbc", w_draws, x)
        replicates.append(((w_draws @ square - mean.square().sum(-1)) * w_examples).sum(1))
    return torch.cat(replicates) * len(x) / (len(x) - 1)


def _variance(outputs: Tensor, examples: Tensor) -> Tensor:
    """Variance over examples (B, C), summed over classes, for each row of weights (R, B)."""
    y = outputs.double() - outputs.double().mean(0)
    return (examples @ y.square() - (examples @ y).square()).sum(1) * len(y) / (len(y) - 1)


def _share_within(y: Tensor, p: Tensor, images: Tensor, outputs: Tensor, items: Tensor) -> Tensor:
    """Variance within images (V, n, C) as a share of that of items (B, C), for each row of weights (R, n), (R, B)."""
    apart = y - torch.einsum("v,vic->ic", p, y)
    within, total = images @ torch.einsum("v,vic->i", p, apart.square()), _variance(outputs, items)
    return torch.where(total > 0, within / total, 0.0)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _check(redrawn: Tensor, outputs: Tensor) -> None:
    if redrawn.ndim != 3 or redrawn.shape[1:] != outputs.shape or min(redrawn.shape[:2]) < 2:
        raise ShapeError(
            "A response needs outputs (D, B, C) of at least 2 draws and 2 examples, and (B, C) of the same examples, "
            f"got {tuple(redrawn.shape)} and {tuple(outputs.shape)}: take more of both."
        )
