"""``analysis=embed``: walks on a map of z (Fig. 10), and the factors' own one-dimensional maps (Fig. 9, right)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from iin_lightning.analysis.embed import (
    EmbeddingMethod,
    Staying,
    fit_embedding,
    nearest_class,
    shared_information,
    staying,
)
from iin_lightning.analysis.walk import factor_walks
from iin_lightning.data.versions import first_of_each, image_of
from iin_lightning.errors import ConfigError, choices
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.embed import Coloring, Pair, Walk, pair_figure, walk_map_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import generator

MOST_WALKED = 6  # factors that are walked unasked: two rows of maps
MOST_PAIRED = 3  # factors whose pairs are drawn: as many pairs


def embed(
    subject: Subject,
    *,
    method: EmbeddingMethod,
    concept: str | None,
    factors: Sequence[str] | None,
    count: int,
    steps: int,
    r: float,
    walks: int,
    neighbours: int,
    seed: int,
) -> Answer:
    """A map of held-out latents with a walk in each factor, and pairs of concepts in one dimension each.

    Walks start at held-out latents, or at the user's images; the first is drawn, all are counted.

    Raises:
        ConfigError: an unknown concept, or too few walks.
        FactorError: an unknown factor.
        MissingExtraError: method is umap, which is not installed.
    """
    if walks < 2:
        raise ConfigError(f"analysis.walks={walks} has no spread: take 2 or more, better 100.")
    interpreter, latents = subject.interpreter, subject.latents("test")
    items = torch.randperm(len(latents), generator=generator(seed, "embed"))[:count]
    z = latents.mean[items]
    names = list(interpreter.factors)[:MOST_WALKED] if factors is None else list(factors)
    if not names:
        raise ConfigError(f"analysis.factors=[] names none; {choices('', interpreter.factors)}, or null for all.")
    for name in names:
        interpreter.factors[name]

    colorings = {name: _coloring(subject, name, values[items]) for name, values in subject.concepts().items()}
    concept = _concept(subject, colorings, concept)
    known = None if concept is None else _Known(z, _labels(colorings[concept]), neighbours)

    embedding = fit_embedding(z, 2, method, neighbours, seed)
    starts = _starts(subject, z, walks, seed)
    drawn: dict[str, Walk] = {}
    stays: dict[str, Staying] = {}
    rows: list[dict[str, Any]] = []
    for name in track(names, "Walking"):
        latents_walked = factor_walks(interpreter, starts, name, steps, r, generator(seed, "embed", name)).cpu()
        path = embedding.transform(latents_walked[:, 0])
        nearest = None
        if known is not None:
            nearest = known.classes(latents_walked)
            stays[name] = staying(nearest, known.labels, seed)
        drawn[name] = Walk(path, stays[name].share.value if name in stays else None)
        rows += _path_rows(name, path, None if nearest is None else nearest[:, 0], subject, concept)

    pairs, lines = _pairs(subject, items, names, colorings, concept, method, neighbours, seed)
    coloring = colorings[concept] if concept is not None else _likelihood(subject, items)
    chance = next(iter(stays.values())).chance if stays else None
    figures = {"": walk_map_figure(embedding.points, coloring, drawn, embedding.name, len(starts), chance)}
    if pairs:
        figures["factors"] = pair_figure(pairs, colorings, embedding.name)
    numbers: dict[str, Any] = {
        "method": embedding.name,
        "concept": concept,
        "latents": len(z),
        "walks": len(starts),
        "steps": steps,
        "r": r,
        "neighbours": neighbours,
    }
    if known is not None:
        numbers |= {
            "steps_in_start_class": {name: stay.share.value for name, stay in stays.items()},
            "steps_in_start_class_interval": {name: list(stay.share[1:]) for name, stay in stays.items()},
            "steps_in_start_class_by_chance": chance,
            "classes_visited": {name: stay.visited.value for name, stay in stays.items()},
            "classes_visited_interval": {name: list(stay.visited[1:]) for name, stay in stays.items()},
        }
    if pairs:
        numbers["mutual_information"] = {f"{pair.x} and {pair.y}": pair.information for pair in pairs}
    points = _point_rows(items, embedding.points, colorings, lines)
    return Answer(numbers, figures, {"points": points, "walks": rows}, factors=names)


class _Known:
    """The latents whose class is known, which say in which cluster another one lies."""

    def __init__(self, z: Tensor, labels: Tensor, neighbours: int) -> None:
        self.z = z[labels >= 0]
        self.labels = labels[labels >= 0]
        self.neighbours = neighbours

    def classes(self, latents: Tensor) -> Tensor:
        return nearest_class(latents, self.z, self.labels, self.neighbours)


def _concept(subject: Subject, colorings: Mapping[str, Coloring], asked: str | None) -> str | None:
    """The concept that was asked for, or the first that has classes; factors go first."""
    if asked is not None:
        subject.classes_of(asked)
    order = [asked] if asked is not None else [*subject.interpreter.factors.concepts, *colorings]
    for name in order:
        if name in colorings and colorings[name].classes and bool((_labels(colorings[name]) >= 0).any()):
            return name
    if asked is not None:
        raise ConfigError(f"No held-out image has a known {asked}: leave analysis.concept out, or name other data.")
    return None


def _coloring(subject: Subject, name: str, values: Tensor) -> Coloring:
    return Coloring(name, values, subject.classes_of(name) if name in subject.data.classes else ())


def _labels(coloring: Coloring) -> Tensor:
    assert coloring.values is not None
    return coloring.values


def _likelihood(subject: Subject, items: Tensor) -> Coloring:
    per_dimension = -subject.nll("test")[items] / subject.interpreter.factors.latent_dim
    return Coloring("log-likelihood of a posterior sample", per_dimension, unit="nats per dimension")


@torch.no_grad()
def _starts(subject: Subject, z: Tensor, walks: int, seed: int) -> Tensor:
    """Where walks start: at held-out latents, or at the user's images, from each of which several start."""
    if not subject.own:
        return z[:walks]
    own = subject.interpreter.encode(subject.pick(walks, seed)).cpu()
    return own.repeat(-(-walks // len(own)), 1)


def _pairs(
    subject: Subject,
    items: Tensor,
    names: Sequence[str],
    colorings: Mapping[str, Coloring],
    concept: str | None,
    method: EmbeddingMethod,
    neighbours: int,
    seed: int,
) -> tuple[list[Pair], dict[str, Tensor]]:
    """Panels of pairs, and the one-dimensional embeddings they are made of; the residual stands in for a second one."""
    paired = [name for name in names if name != RESIDUAL][:MOST_PAIRED]
    if len(paired) == 1 and RESIDUAL in names:
        paired.append(RESIDUAL)
    if len(paired) < 2:
        return [], {}
    parts = subject.interpreter.factors.split(subject.translated[items])
    lines = {name: fit_embedding(parts[name], 1, method, neighbours, seed).points for name in paired}
    pairs: list[Pair] = []
    # Versions of an image are near each other in all factors, which is no dependence of these.
    once = first_of_each(image_of(subject.latents("test"))[items])
    for x, y in combinations(paired, 2):
        shared = shared_information(lines[x][once], lines[y][once], seed)
        colored: list[str | None] = [name for name in (x, y) if name in colorings]
        pairs += [Pair(x, y, torch.cat([lines[x], lines[y]], 1), by, shared) for by in colored or [concept]]
    return pairs, lines


def _path_rows(
    name: str, path: Tensor, nearest: Tensor | None, subject: Subject, concept: str | None
) -> list[dict[str, Any]]:
    around = [""] * len(path)
    if nearest is not None and concept is not None:
        classes = subject.classes_of(concept)
        around = [classes[label] for label in nearest.tolist()]
    return [
        {"factor": name, "step": step, "x": x, "y": y, "class_around": label}
        for step, ((x, y), label) in enumerate(zip(path.tolist(), around))
    ]


def _point_rows(
    items: Tensor, points: Tensor, colorings: Mapping[str, Coloring], lines: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {"item": items.tolist(), "x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
    columns |= {f"{name}_factor": line.flatten().tolist() for name, line in lines.items()}
    for name, coloring in colorings.items():
        values = _labels(coloring)
        if coloring.classes:
            columns[name] = [coloring.classes[label] if label >= 0 else "" for label in values.tolist()]
        else:
            columns[name] = [" ".join(f"{part:.3f}" for part in value) for value in values.tolist()]
    return [dict(zip(columns, row)) for row in zip(*columns.values())]
