"""Straight walks between two images: in z̃, where data are one Gaussian, beside z (Fig. 4); squares in z̃ (Fig. 7).

Symbols: z_a, z_b (B, N) are the latents of B pairs of images, t_1 = 0, ..., t_S = 1 the steps of a walk, and

    in z̃:  z(t) = T^-1((1-t) T(z_a) + t T(z_b))        in z:  z(t) = (1-t) z_a + t z_b.

What a walk is held against is held-out images: each measure is taken of their latents, too. Of S = 1 steps a walk is
just a set of latents, and so the same functions measure both.
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
    """Straight walks in z̃ and in z between the same latents.

    Args:
        interpreter: whose T bends the first of the two.
        z_a: latents (B, N) of the first images.
        z_b: latents (B, N) of the last ones.
        steps: S, at least 2, both ends counted in.

    Returns:
        The space where the walk is straight -> latents z (S, B, N). Both have the same ends, up to T's round trip.

    References:
        Esser, Rombach and Ommer, CVPR 2020, arXiv 2004.13166, Sec. 4.1, Fig. 4.

    Example:
        >>> from iin_lightning.encoders.autoencoder import Autoencoder
        >>> from iin_lightning.factors import Factors
        >>> from iin_lightning.flows.translator import Translator
        >>> network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
        >>> interpreter = Interpreter(network, Translator(8, n_blocks=2, hidden=16), Factors.unsupervised(8))
        >>> {space: tuple(z.shape) for space, z in walks(interpreter, *torch.randn(2, 3, 8), steps=5).items()}
        {'z_tilde': (5, 3, 8), 'z': (5, 3, 8)}
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
    """A square of latents between four corners, bilinear in z̃: a two-dimensional piece of the data (Fig. 7).

    ``z̃(s, t) = (1-s) ((1-t) z̃_1 + t z̃_2) + s ((1-t) z̃_3 + t z̃_4)``.

    Args:
        interpreter: whose T^-1 maps the square to z.
        z_tilde: z̃ (4, N) of the upper left, upper right, lower left and lower right corner.
        steps: S, at least 2: along each side, corners counted in.

    Returns:
        Latents z (S, S, N), rows from top to bottom.

    Raises:
        ShapeError: there are not four corners.

    References:
        Esser, Rombach and Ommer, CVPR 2020, arXiv 2004.13166, Fig. 7.
    """
    if z_tilde.dim() != 2 or len(z_tilde) != CORNERS or steps < 2:
        raise ShapeError(
            f"A square of 2 or more steps a side has corners (4, N), got {steps} steps and {tuple(z_tilde.shape)}."
        )
    t = torch.linspace(0, 1, steps, device=z_tilde.device)[:, None, None]
    left, right = torch.lerp(z_tilde[:2], z_tilde[2:], t).unbind(1)
    return _untranslate(interpreter, torch.lerp(left[:, None], right[:, None], t[:, 0]))


def spread(z: Tensor) -> float:
    """The root mean square standard deviation of latents (n, N): what a distance in z is measured by.

    Example:
        >>> spread(torch.tensor([[0.0, 3.0], [4.0, 3.0]]))
        1.4142135623730951
    """
    return z.double().var(0, correction=0).mean().sqrt().item()


@torch.no_grad()
def measure(interpreter: Interpreter, path: Tensor, unit: float, classify: Classify | None = None) -> Measures:
    """How far walks leave the data, and how evenly they move.

    No measure sees everything, and the first is partial to walks in z̃:

    - ``log_likelihood`` asks T, which laid the walk. Halfway between two independent samples of N(0, 1) the norm of z̃
      is smaller by sqrt 2, so a straight walk in z̃ is *more* likely there (by up to 1/4 nat a dimension) than the
      images that it joins, whatever it shows. It can convict a walk in z, and cannot acquit one in z̃ of a poor T.
    - ``shift_z`` and ``shift_image`` know nothing of T: E and G agree on what they were trained on, and of a ghost E
      sees something else than what G was given. They are blind where E and G agree everywhere: a linear autoencoder
      gives back every ghost as it is. ``shift_z`` is the more sensitive one, to what G hardly shows and to a z off
      the data that G makes a good image of, too: it tells walks in z̃ from images as well, though less than those in z.
      ``shift_image`` weighs a move by what is seen of it, and tells data from ghosts best: walks in z̃ have hardly more
      of it than images, and walks in z much more (numbers of all these are in experiments/fig4_linear_walks).
    - ``shift_z_tilde`` is the same distance as T sees it, where directions in which data are thin count more: it finds
      small deviations in z, but is as partial as T, and tells both kinds of walks from images.
    - ``confidence`` is of an independent classifier: a ghost of two classes is ambiguous, but so are images between
      them that a walk without jumps must cross; a ghost within one class it does not see.

    Ends and held-out latents have to be of one kind: means of E with means, as here, or samples with samples. Halfway
    between two samples is half of their noise's variance, which hides that the walk has left the data.

    Args:
        interpreter: E, T and G.
        path: latents z (S, B, N); S = 1 for latents that are no walk.
        unit: the `spread` of held-out latents.
        classify: an independent classifier of images; None: there is no ``confidence``.

    Returns:
        See `Measures`; on the processor.
    """
    chunks = path.split(max(CHUNK // len(path), 1), dim=1)
    found = [_measure(interpreter, chunk, unit, classify) for chunk in track(chunks, "Measuring latents")]
    points = {name: torch.cat([chunk.points[name] for chunk in found], 1).cpu() for name in found[0].points}
    return Measures(points, torch.cat([chunk.steps for chunk in found], 1).cpu())


def share_below(log_likelihood: Tensor, floor: float) -> Tensor:
    """Share of a walk's points, but for its ends, that are less likely than almost all held-out images.

    Args:
        log_likelihood: (S, B), S >= 3.
        floor: the 1 % quantile of held-out images; of their own, 1 in 100 is below.

    Returns:
        (B,) in [0, 1].

    Example:
        >>> share_below(torch.tensor([[-1.0], [-9.0], [-1.0], [-1.0]]), floor=-2.0)
        tensor([0.5000])
    """
    return (log_likelihood[1:-1] < floor).float().mean(0)


def evenness(steps: Tensor) -> dict[str, Tensor]:
    """How evenly walks move: ``largest`` step over the mean one, and the steps' coefficient of ``variation``.

    A walk of equal steps has 1 and 0, one that stands still and then jumps S-1 and sqrt(S-2). An even walk can be one
    of ghosts (a cross-fade is perfectly even), so this says nothing of the data.

    Args:
        steps: lengths (S-1, B).

    Returns:
        Measure -> (B,); 1 and 0 for a walk that goes nowhere.

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
    """How well a measure tells points from held-out images: the area under the ROC curve.

    Args:
        values: the measure at points, of any shape.
        held_out: the measure of held-out images, of any shape.
        high_is_data: whether high values speak for the data, as likelihood and confidence do.

    Returns:
        In [0, 1]: the chance that a point looks less like the data than an image does. 0.5 if they are alike, 1 if all
        points have left the data, below 0.5 if they look *more* like data than images do.

    Example:
        >>> told_apart(torch.tensor([5.0, 6.0]), torch.tensor([1.0, 2.0]), high_is_data=False)
        1.0
    """
    scores = torch.cat([values.flatten(), held_out.flatten()]).double().cpu()
    scores = (-scores if high_is_data else scores).nan_to_num(nan=math.inf)  # what is no number is no image's
    ours = torch.arange(len(scores)) < values.numel()
    # The largest number in place of infinity.
    return float(roc_auc_score(ours.numpy(), scores.nan_to_num().numpy()))


def _measure(interpreter: Interpreter, path: Tensor, unit: float, classify: Classify | None) -> Measures:
    z, shape = path.flatten(0, 1), path.shape[:2]
    z_tilde, logdet = interpreter.translator(z)
    constant = 0.5 * math.log(2 * math.pi)
    points = {"log_likelihood": logdet / z.shape[1] - 0.5 * z_tilde.square().mean(1) - constant}
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
