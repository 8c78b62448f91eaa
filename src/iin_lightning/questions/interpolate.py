"""What lies between images: straight walks in z̃ beside those in z (Fig. 4), and a square between four (Fig. 7)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.analysis.interpolate import (
    CORNERS,
    Measures,
    corners,
    evenness,
    measure,
    share_below,
    spread,
    told_apart,
    walks,
)
from iin_lightning.errors import ConfigError
from iin_lightning.plots.grids import plain
from iin_lightning.plots.interpolate import Curve, square_figure, walks_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.judges import choose_judge
from iin_lightning.questions.subject import MEANS, SAMPLES, Subject
from iin_lightning.seeding import generator

HIGH_IS_DATA = ("log_likelihood", "confidence")


@torch.no_grad()
def interpolate(
    subject: Subject, *, pairs: int, shown: int, steps: int, reference: int, concept: str | None, seed: int
) -> Answer:
    """Walks between pairs of test images; several images of the user's are walked one after the other.

    Raises:
        ConfigError: the network decodes to no image, the user gives one image, or the walk has no middle.
    """
    subject.need_images("interpolate")
    if steps < 3:
        raise ConfigError(f"analysis.steps={steps} must be at least 3: two ends and what lies between them.")
    images = subject.pick(2 * pairs, seed)
    if len(images) < 2:
        raise ConfigError(
            f"analysis=interpolate walks from one image to another and has {len(images)}: give two or more by "
            "'images=[a.png,b.png]', or take analysis.pairs of at least 1."
        )
    z, network, judge = subject.encode(images), subject.interpreter, choose_judge(subject, concept)
    half = len(z) // 2
    ends = (z[:-1], z[1:]) if subject.own else (z[:half], z[half : 2 * half])
    others = subject.held_out(reference, seed)
    unit, classify = spread(others), judge and judge.network
    usual = {name: values[0] for name, values in measure(network, others[None], unit, classify).points.items()}
    paths = walks(network, *ends, steps)
    found: dict[str, Measures] = {space: measure(network, path, unit, classify) for space, path in paths.items()}
    few = len(ends[0]) if subject.own else shown
    pictures: dict[str, Tensor] = {space: _decode(subject, path[:, :few]) for space, path in paths.items()}
    labels = {
        "log_likelihood": "log-likelihood of $z$ under $T$ (nats per dimension)",
        "shift_image": "move by encoding and decoding anew (RMS over pixels)",
        "confidence": f"confidence of a {judge and plain(judge.concept)} classifier (largest softmax output)",
    }
    curves = [
        Curve(label, {space: measures.points[name] for space, measures in found.items()}, usual[name])
        for name, label in labels.items()
        if name in usual
    ]
    curves.append(Curve("steps of the image, over their mean (1: even)", {k: v.steps for k, v in found.items()}, None))
    numbers = {
        "of": f"{len(ends[0])} walks of {steps} steps, {len(others)} held-out images",
        **{space: _summary(measures, usual) for space, measures in found.items()},
        "held_out": {name: _middle(values) for name, values in usual.items()},
    }
    return Answer(numbers, {"": walks_figure(pictures, curves)}, {"": _rows(found)})


@torch.no_grad()
def submanifold(subject: Subject, *, steps: int, reference: int, seed: int) -> Answer:
    """The square between four samples z̃ ~ N(0, 1), or between four images of the user's.

    Raises:
        ConfigError: the network decodes to no image, the user's images are not four, or there is no side.
    """
    subject.need_images("submanifold")
    if steps < 2:
        raise ConfigError(f"analysis.steps={steps} must be at least 2: the two corners of a side.")
    network = subject.interpreter
    if subject.own:
        images = subject.pick(CORNERS, seed)
        if len(images) != CORNERS:
            raise ConfigError(
                f"analysis=submanifold has an image at each corner, so it needs 4, and images= names {len(images)}: "
                "name four, in the order upper left, upper right, lower left, lower right."
            )
        z_tilde = network.translate(subject.encode(images))
        others, latents = subject.held_out(reference, seed), MEANS
        title = "Four images (framed, as $G$ shows them) and what lies between them, bilinear in $\\tilde{z}$"
    else:
        noise = network.density.sample(CORNERS, generator(seed, "corners"))
        z_tilde = noise.to(subject.device)
        others, latents = subject.pick_latents(reference, seed, sampled=True)[0].to(subject.device), SAMPLES
        drawn = f"$\\tilde{{z}} \\sim$ {network.density.name}"
        title = f"Four samples {drawn} (framed) and what lies between them, bilinear in $\\tilde{{z}}$"
    square = corners(network, z_tilde, steps)
    pictures = in_chunks(lambda part: network.decode(part).cpu(), square.flatten(0, 1), "Decoding")
    unit = spread(others)
    found, usual = measure(network, square, unit).points, measure(network, others[None], unit).points
    numbers = {
        "square": {name: values.mean().item() for name, values in found.items()},
        "held_out": {name: values.mean().item() for name, values in usual.items()},
    }
    rows = [
        {"row": row, "column": column} | {name: values[row, column].item() for name, values in found.items()}
        for row in range(steps)
        for column in range(steps)
    ]
    figure = square_figure(pictures.unflatten(0, (steps, steps)), title)
    return Answer(numbers, {"": figure}, {"": rows}, latents=latents)


def _decode(subject: Subject, path: Tensor) -> Tensor:
    """Latents (S,B,N) to images, pair by pair."""
    decode = subject.interpreter.decode
    return torch.stack([decode(walk).cpu() for walk in track(path.unbind(1), "Decoding")], 1)


def _summary(found: Measures, usual: Mapping[str, Tensor]) -> dict[str, Any]:
    """Means over walks of what lies between the ends, with standard errors, and how well it is told from images."""
    per_walk = {name: values[1:-1].mean(0) for name, values in found.points.items()}
    floor = usual["log_likelihood"].quantile(0.01).item()
    per_walk["less_likely_than_99_of_100"] = share_below(found.points["log_likelihood"], floor)
    per_walk |= {f"steps_{name}": values for name, values in evenness(found.steps).items()}
    summary: dict[str, Any] = {}
    for name, values in per_walk.items():
        summary[name] = values.mean().item()
        if len(values) > 1:
            summary[f"{name}_error"] = values.std().item() / len(values) ** 0.5
    summary["told_from_images_halfway"] = {
        name: told_apart(values[len(values) // 2], usual[name], name in HIGH_IS_DATA)
        for name, values in found.points.items()
    }
    return summary


def _middle(values: Tensor) -> dict[str, float]:
    low, median, high = values.double().quantile(torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)).tolist()
    return {"quantile_0.01": low, "median": median, "quantile_0.99": high}


def _rows(found: Mapping[str, Measures]) -> list[dict[str, Any]]:
    """One a point; its step is the one that leads to it."""
    rows = []
    for space, (points, lengths) in found.items():
        last = len(lengths)
        for pair in range(lengths.shape[1]):
            for step in range(last + 1):
                values = {name: measured[step, pair].item() for name, measured in points.items()}
                length = lengths[step - 1, pair].item() if step else ""
                rows.append({"pair": pair, "straight_in": space, "t": step / last} | values | {"step": length})
    return rows
