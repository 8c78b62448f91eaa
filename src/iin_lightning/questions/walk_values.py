"""How the values of a network that gives no classes respond to each factor: ``analysis=walk`` of a regression."""

from typing import Any

import torch

from iin_lightning.analysis.bootstrap import Estimate
from iin_lightning.analysis.response import explained_variance, outputs_of, redrawn_outputs
from iin_lightning.errors import ConfigError
from iin_lightning.plots.directions import matrix_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import generator

ALL = "all"
MOST = 40  # values that the figure shows


def walk_values(subject: Subject, walks: int, draws: int, like: bool, concept: str | None, seed: int) -> Answer:
    """The share of each value's variance over test images that each factor explains; values have no predictions.

    Args:
        subject: an interpreter of a network that gives values.
        walks: how many test images.
        draws: of each factor, given to each of them.
        like: draws are those of other test images, not of N(0, 1).
        concept: None, as values are of no classes.
        seed: of images, draws and intervals.

    Raises:
        ConfigError: a concept or single images are asked for, or no value varies.
    """
    if concept is not None or subject.own:
        raise ConfigError(
            f"The {subject.kind} of {subject.folder} gives values, so analysis=walk has no classes and shows no single "
            "image: leave analysis.concept and images out."
        )
    network = subject.interpreter
    z = subject.pick_latents(walks, seed)[0].to(subject.device)
    outputs = outputs_of(z, network.decode, values=True)
    spread = outputs.std(0)
    if not (spread > 0).any():
        raise ConfigError(f"The values of {subject.folder} are the same for all {len(z)} test images: take others.")
    # In standard deviations, as values may have different units; what never varies has nothing to be explained.
    columns = {str(v): v for v in range(outputs.shape[1]) if spread[v] > 0}
    kept = list(columns.values())
    parts = network.factors.split(subject.translated) if like else {}
    found: dict[str, dict[str, Estimate]] = {}
    for name in track(network.factors, "Walking"):
        key = generator(seed, "draws", name)
        redrawn = redrawn_outputs(network, z, name, draws, network.decode, key, parts.get(name), values=True)
        y, anew = (values[..., kept] / spread[kept] for values in (outputs, redrawn))
        found[name] = {ALL: explained_variance(anew, y, seed)} | {
            value: explained_variance(anew[..., [i]], y[:, [i]], seed) for i, value in enumerate(columns)
        }
    law = "other examples" if like else "N(0, 1)"
    numbers: dict[str, Any] = {
        "of": f"the network's own values, {len(z)} test images, {draws} draws a factor from {law}",
        "explained_variance": {name: {v: e.value for v, e in shares.items()} for name, shares in found.items()},
        "explained_variance_interval": {
            name: {v: [e.low, e.high] for v, e in shares.items()} for name, shares in found.items()
        },
    }
    shown = list(columns)[:MOST]
    shares = torch.tensor([[found[name][value].value for value in shown] for name in found])
    figure = matrix_figure(
        {"What each factor explains": shares}, list(found), shown, "share of variance", axes_labels=("value", "factor")
    )
    return Answer(numbers, {"": figure}, {"measures": _rows(found)}, factors=network.factors)


def _rows(found: dict[str, dict[str, Estimate]]) -> list[dict[str, Any]]:
    return [
        {"factor": name, "output": value} | estimate._asdict()
        for name, shares in found.items()
        for value, estimate in shares.items()
    ]
