"""Straight walks between two images: in z̃, where data are one Gaussian, beside z (Fig. 4); squares in z̃ (Fig. 7).

Symbols: z_a, z_b (B, N) are the latents of B pairs of images, t_1 = 0, ..., t_S = 1 the steps of a walk, and

    in z̃:  z(t) = T^-1((1-t) T(z_a) + t T(z_b))        in z:  z(t) = (1-t) z_a + t z_b.

Each measure of a walk is compared with that of held-out images, which are a walk of S = 1 steps.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from iin_lightning.analysis.chunks import CHUNK, in_chunks
from iin_lightning.errors import ShapeError
from iin_lightning.interpreter import Interpreter
from iin_lightning.progress import track

Space = Literal["z_tilde", "z"]
Classify = Callable[[Tensor], Tensor]
"""Images (n, C, H, W) in [-1, 1] -> logits (n, classes)."""
CORNERS = 4


class Measures(NamedTuple):
    """What is measured along walks: how far each point is from the data, and how far it is to the next.

    Attributes:
        points: measure -> (S, B). ``log_likelihood``: log p(z) / N under T, in nats per dimension. Where G gives images
            also how far decoding and encoding moves a point, as root mean squares over dimensions: ``shift_z``:
            E(G(z)) - z in units of the latents' spread; ``shift_z_tilde``: T(E(G(z))) - T(z), where the spread is 1;
            ``shift_image``: G(E(G(z))) - G(z), where black and white are 2 apart. With a classifier also
            ``confidence``: its largest softmax output.
        steps: (S-1, B) root mean square differences of the outputs of neighbours.
    """

    points: dict[str, Tensor]
    steps: Tensor


@torch.no_grad()
def walks(interpreter: Interpreter, z_a: Tensor, z_b: Tensor, steps: int) -> dict[Space, Tensor]:
    """Lay straight walks of S = ``steps`` >= 2 points, both ends counted, between latents (B, N): space -> z (S, B, N).

    The walk in z̃ and the walk in z have the same ends, up to T's round trip.
    """
    if z_a.dim() != 2 or z_a.shape != z_b.shape or steps < 2:
        raise ShapeError(
            f"Walks of 2 or more steps join latents (B, N) with as many others, got {steps} steps between "
            f"{tuple(z_a.shape)} and {tuple(z_b.shape)}."
        )
    t = torch.linspace(0, 1, steps, device=z_a.device)[:, None, None]
    z_tilde = torch.lerp(interpreter.translate(z_a), interpreter.translate(z_b), t)
    return {"z_tilde": _untranslate(interpreter, z_tilde), "z": torch.lerp(z_a, z_b, t)}


@torch.no_grad()
def corners(interpreter: Interpreter, z_tilde: Tensor, steps: int) -> Tensor:
    """Lay a square of latents z (S, S, N) between four corners z̃ (4, N), bilinear in z̃: a piece of the data (Fig. 7).

    ``z̃(s, t) = (1-s) ((1-t) z̃_1 + t z̃_2) + s ((1-t) z̃_3 + t z̃_4)``: corners are the upper left, upper right, lower left
    and lower right, S = ``steps`` >= 2 points along each side.
    """
    if z_tilde.dim() != 2 or len(z_tilde) != CORNERS or steps < 2:
        raise ShapeError(
            f"A square of 2 or more steps a side has corners (4, N), got {steps} steps and {tuple(z_tilde.shape)}."
        )
    t = torch.linspace(0, 1, steps, device=z_tilde.device)[:, None, None]
    left, right = torch.lerp(z_tilde[:2], z_tilde[2:], t).unbind(1)
    return _untranslate(interpreter, torch.lerp(left[:, None], right[:, None], t[:, 0]))


def spread(z: Tensor) -> float:
    """Return the root mean square standard deviation of latents (n, N): the unit of distances in z."""
    return z.double().var(0, correction=0).mean().sqrt().item()


@torch.no_grad()
def measure(interpreter: Interpreter, path: Tensor, unit: float, classify: Classify | None = None) -> Measures:
    """Measure how far walks z (S, B, N) leave the data, and how evenly they move.

    ``unit`` is the `spread` of held-out latents; ``classify`` an independent classifier of images, for ``confidence``.
    No measure sees everything, and the first is partial to walks in z̃:

    - ``log_likelihood`` asks T, which laid the walk. Halfway between two independent samples of N(0, 1) the norm of z̃
      is smaller by sqrt 2, so a straight walk in z̃ is *more* likely there (by up to 1/4 nat a dimension) than the
      images that it joins, whatever it shows. It can convict a walk in z, and cannot acquit a walk in z̃ of a poor T.
    - ``shift_z`` and ``shift_image`` know nothing of T: E and G agree on what they were trained on, and of a ghost E
      sees something else than G was given; where they agree everywhere, as in a linear autoencoder, both are blind.
      ``shift_z`` also sees what G hardly shows; ``shift_image`` weighs a move by what is seen of it, and tells data
      from ghosts best (numbers of all these are in experiments/fig4_linear_walks).
    - ``shift_z_tilde`` is as partial as T: directions in which data are thin count more.
    - ``confidence`` is of an independent classifier: a ghost of two classes is ambiguous, but so are images between
      them that a walk without jumps must cross; a ghost within one class it does not see.

    Ends and held-out latents have to be of one kind: means of E with means, as here, or samples with samples. Halfway
    between two samples is half of their noise's variance, which hides that the walk has left the data.
    """
    chunks = path.split(max(CHUNK // len(path), 1), dim=1)
    found = [_measure(interpreter, chunk, unit, classify) for chunk in track(chunks, "Measuring latents")]
    points = {name: torch.cat([chunk.points[name] for chunk in found], 1).cpu() for name in found[0].points}
    return Measures(points, torch.cat([chunk.steps for chunk in found], 1).cpu())


def share_below(log_likelihood: Tensor, floor: float) -> Tensor:
    """Return the share (B,) of a walk's inner points whose log-likelihood (S, B) is below a floor, say 1 % of data."""
    return (log_likelihood[1:-1] < floor).float().mean(0)


def evenness(steps: Tensor) -> dict[str, Tensor]:
    """Return how evenly walks move: ``largest`` over mean step, and the steps' coefficient of ``variation`` (B,).

    A walk of equal steps (S-1, B) has 1 and 0, so has a walk that goes nowhere; one that stands still and then jumps
    has S-1 and sqrt(S-2). A cross-fade is perfectly even, so this says nothing of the data.

    Example:
        >>> evenness(torch.tensor([[1.0, 0.0], [1.0, 3.0], [1.0, 0.0]]))["largest"]
        tensor([1., 3.])
    """
    mean = steps.mean(0)
    moves = mean > 0
    mean = mean.where(moves, 1.0)
    largest, variation = steps.amax(0) / mean, steps.std(0, correction=0) / mean
    return {"largest": largest.where(moves, 1.0), "variation": variation.where(moves, 0.0)}


def told_apart(values: Tensor, held_out: Tensor, high_is_data: bool) -> float:
    """Return how well a measure tells points from held-out images, of any shapes: the area under the ROC curve.

    It is the chance that a point looks less like the data than an image does: 0.5 if they are alike, 1 if all points
    have left the data, below 0.5 if they look *more* like data than images do. ``high_is_data``: high values speak for
    data.

    Example:
        >>> told_apart(torch.tensor([5.0, 6.0]), torch.tensor([1.0, 2.0]), high_is_data=False)
        1.0
    """
    scores = torch.cat([values.flatten(), held_out.flatten()]).double().cpu()
    scores = (-scores if high_is_data else scores).nan_to_num(nan=math.inf)  # no image has NaN
    ours = torch.arange(len(scores)) < values.numel()
    # The largest number in place of infinity.
    return float(roc_auc_score(ours.numpy(), scores.nan_to_num().numpy()))


def _measure(interpreter: Interpreter, path: Tensor, unit: float, classify: Classify | None) -> Measures:
    z, shape = path.flatten(0, 1), path.shape[:2]
    z_tilde, logdet = interpreter.translator(z)
    points = {"log_likelihood": (interpreter.density.log_prob(z_tilde) + logdet) / z.shape[1]}
    outputs = interpreter.decode(z)
    if interpreter.encoder.output == "image":
        back = interpreter.encoder.encode(outputs).mean
        points["shift_z"] = _rms(back - z) / unit
        points["shift_z_tilde"] = _rms(interpreter.translate(back) - z_tilde)
        points["shift_image"] = _rms((interpreter.decode(back) - outputs).flatten(1))
        if classify is not None:
            points["confidence"] = classify(outputs).softmax(1).amax(1)
    seen = outputs.flatten(1).unflatten(0, shape)
    return Measures({name: values.unflatten(0, shape) for name, values in points.items()}, _rms(seen.diff(dim=0)))


def _rms(values: Tensor) -> Tensor:
    return values.square().mean(-1).sqrt()


def _untranslate(interpreter: Interpreter, z_tilde: Tensor) -> Tensor:
    """T^-1 of (S, B, N)."""
    return in_chunks(interpreter.untranslate, z_tilde.flatten(0, 1)).unflatten(0, z_tilde.shape[:2])
