"""The response of a network to one factor: how its outputs follow, and how much of them the factor explains (Fig. 9).

Symbols: a *response* turns latents into logits; y = log-softmax (C,) are the outputs and Y ~ softmax the prediction. Of
a response that gives values, the outputs y are these.
Outputs y (B, C) belong to B examples as they are; y^k (D, B, C) to the same examples whose factor z̃_k was exchanged for
each of D draws, the others kept. A network is invariant under z̃_k if y^k is y.
Every draw meets every example, so for the intervals both are drawn again (see `bootstrap`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from iin_lightning.analysis.bootstrap import Estimate, blocks, estimate, resample
from iin_lightning.analysis.chunks import CHUNK, in_chunks
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.interpreter import Interpreter
from iin_lightning.progress import track

Respond = Callable[[Tensor], Tensor]
"""Latents (B, N) -> logits or values (B, C): ``interpreter.decode``, or a reader of decoded images."""


@torch.no_grad()
def outputs_of(latents: Tensor, respond: Respond, what: str | None = None, *, values: bool = False) -> Tensor:
    """What a network answers to latents (..., N): log-softmax (..., C) in nats, or its values; on the processor.

    Args:
        latents: of any number of examples.
        respond: see `Respond`.
        what: see `in_chunks`.
        values: the network gives values, not logits.

    Raises:
        ShapeError: it gives neither (B, C).

    Example:
        >>> outputs_of(torch.zeros(7, 5, 4), lambda z: z[:, :2]).exp().mean()
        tensor(0.5000)
    """

    def answer(z: Tensor) -> Tensor:
        given = respond(z).float()
        if given.ndim != 2:
            raise ShapeError(f"Expected are logits or values (B, C), got {tuple(given.shape)}: average over places.")
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
    """The outputs y^k of all examples with each of some draws of one factor.

    Draws from the prior are where all walks in that factor end. With ``like`` they are not: draws are then some of the
    examples themselves, but walks tend to the Gaussian of the examples' mean and covariance (`ornstein_uhlenbeck`).

    Args:
        interpreter: who translates.
        z: latents (B, N) of the examples.
        name: the factor z̃_k.
        draws: D.
        respond: see `Respond`.
        generator: on the CPU.
        like: (m, N_k), values of that factor to draw from; None: from its prior N(0, 1).
        values: see `outputs_of`.

    Returns:
        Log-softmax or values (D, B, C), on the processor.

    Raises:
        FactorError: there is no factor of that name.
        ConfigError: draws is below 2.

    Example:
        >>> from iin_lightning.encoders.classifier import Classifier
        >>> from iin_lightning.factors import Factors
        >>> from iin_lightning.flows.translator import Translator
        >>> network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4, norm="batch")
        >>> factors = Factors({"residual": 4, "digit": 4}, 8)
        >>> interpreter = Interpreter(network, Translator(8, n_blocks=2, hidden=16), factors)
        >>> z, generator = torch.randn(5, 8), torch.Generator().manual_seed(0)
        >>> redrawn_outputs(interpreter, z, "digit", 10, interpreter.decode, generator).shape
        torch.Size([10, 5, 3])
    """
    if draws < 2:
        raise ConfigError(f"draws={draws} of a factor have no variance: take 2 or more, better 100.")
    dim = interpreter.factors[name]
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
    """Total-effect index of a factor: the share of the outputs' variance that is left when all but it are fixed.

    ``S_k = Σ_c E[Var(y^k_c | all but z̃_k)] / Σ_c Var(y_c)``. In nats of log-softmax it sees a change of confidence that
    probabilities, near 0 or 1, no longer show, and classes that no one would predict count as much as others; of
    probabilities (``exp`` of both arguments) it says what a change is worth. The indices of all factors sum to 1 if
    outputs are sums of functions of one factor each, factors are independent, and draws have the law that the examples
    have; to more where factors act together.

    Args:
        redrawn: y^k (D, B, C), or any other outputs.
        outputs: y (B, C) of the same kind.
        seed: of the bootstrap.

    Returns:
        Estimate, at least 0; above 1 it is noise, or a factor whose draws have a wider law than the examples.

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
    y = outputs.double() - outputs.double().mean(0)
    total = (examples @ y.square() - (examples @ y).square()).sum(1) * len(y) / (len(y) - 1)
    return estimate(variance / total)


def variance_ratio(redrawn: Tensor, other: Tensor, seed: int = 0) -> Estimate:
    """How many times more variance of the outputs one factor explains than another: S_k / S_l.

    Args:
        redrawn: y^k (D, B, C).
        other: y^l (D', B, C) of the same examples.
        seed: of the bootstrap.

    Returns:
        Estimate; infinite if the network does not see the other factor at all.

    Raises:
        ShapeError: the examples are not the same, or there are fewer than two draws or examples.

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
    """Share of predictions that change when the factor is drawn anew: ``P(argmax y^k ≠ argmax y)``, in [0, 1].

    Args:
        redrawn: y^k (D, B, C).
        outputs: y (B, C).
        seed: of the bootstrap.

    Raises:
        ShapeError: see `explained_variance`.

    Example:
        >>> y = torch.eye(4)
        >>> changed_share(torch.stack([y, y.roll(1, 0)]), y).value
        0.5
    """
    _check(redrawn, outputs)
    changed = (redrawn.argmax(-1) != outputs.argmax(-1)).double()
    draws, examples = (resample(n, seed, key) for n, key in zip(changed.shape, ("draws", "examples")))
    return estimate(((draws @ changed) * examples).sum(1), highest=1.0)


def mutual_information(redrawn: Tensor, seed: int = 0) -> Estimate:
    """What the factor alone tells of the prediction: ``I(z̃_k; Y) = H(Y) - E[H(Y | z̃_k)]`` in nats.

    ``p(Y | z̃_k)`` is the mean over all examples of the softmax with that draw of z̃_k, Y a draw from it: what the other
    factors decide, and what the network itself leaves open, is not information about z̃_k. Exactly 0 if the network
    ignores the factor. D draws lower it by about (C - 1) / 2D if the factor decides the class, and few examples raise
    it where factors act together.

    Args:
        redrawn: y^k, log-softmax (D, B, C).
        seed: of the bootstrap.

    Returns:
        Estimate in [0, min(log C, log D)]; the entropy H(Y) it is a share of is `prediction_entropy`.

    Raises:
        ShapeError: there are fewer than two draws or examples.

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
    """H(Y) in nats, at most log C: of the mean softmax over all draws and examples; the bound of `mutual_information`.

    Args:
        redrawn: y^k, log-softmax (D, B, C).
    """
    return _entropy(redrawn.double().exp().flatten(0, 1).mean(0)).item()


def _redraw_variance(redrawn: Tensor, draws: Tensor, examples: Tensor) -> Tensor:
    """Mean over examples of the variance over draws, summed over classes, for each row of weights (R, D), (R, B)."""
    x = redrawn.double() - redrawn[0].double()
    square = x.square().sum(-1)
    replicates: list[Tensor] = []
    for w_draws, w_examples in blocks(draws, examples):
        mean = torch.einsum("rd,dbc->rbc", w_draws, x)
        replicates.append(((w_draws @ square - mean.square().sum(-1)) * w_examples).sum(1))
    return torch.cat(replicates) * len(x) / (len(x) - 1)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _check(redrawn: Tensor, outputs: Tensor) -> None:
    if redrawn.ndim != 3 or redrawn.shape[1:] != outputs.shape or min(redrawn.shape[:2]) < 2:
        raise ShapeError(
            "Expected are outputs (D, B, C) of at least 2 draws and 2 examples, and (B, C) of the same examples, "
            f"got {tuple(redrawn.shape)} and {tuple(outputs.shape)}: take more of both."
        )
