"""How a network responds to random walks in each factor, and to which it is invariant (Fig. 9 left, Sec. 4.2)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from iin_lightning.analysis.bootstrap import Estimate
from iin_lightning.analysis.response import (
    Respond,
    changed_share,
    explained_variance,
    mutual_information,
    outputs_of,
    prediction_entropy,
    redrawn_outputs,
    variance_ratio,
    version_response,
)
from iin_lightning.analysis.walk import factor_walks
from iin_lightning.data.base import Subset
from iin_lightning.data.versions import changing, versions_of
from iin_lightning.errors import ConfigError, choices
from iin_lightning.plots.directions import matrix_figure
from iin_lightning.plots.walk import FactorResponse, response_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import generator

Law = Literal["prior", "data"]
MOST = 40  # classes, or values, that a figure shows
ALL = "all"  # values together
LABELS = {
    "explained_variance": "variance of\nlog-softmax",
    "explained_variance_of_probabilities": "variance of\nprobabilities",
    "changed_predictions": "predictions\nchanged",
    "information_share": "information on\nthe prediction",
}
"""Measures that are shares, and so can stand on one axis."""


class _Reader(NamedTuple):
    """How outputs are read: who gives logits, and what they are logits of."""

    respond: Respond
    concept: str | None
    classes: list[str]
    text: str


class _Walked(NamedTuple):
    """Log-softmax of all examples along their walks (steps + 1, B, C) and with redrawn factors (D, B, C)."""

    walks: Tensor
    redrawn: Tensor


def walk(
    subject: Subject, *, steps: int, r: float, walks: int, draws: int, law: Law, concept: str | None, seed: int
) -> Answer:
    """Walks from test images in one factor at a time, mapped back into the network.

    Measures are taken over test images; a user's own images are what the figures show, one each. Where the data have
    versions of images, it is measured, too, what the network makes of the versions themselves, without a translator.
    Of a network that gives values, the share of their variance is measured.

    Raises:
        ConfigError: nothing can read the network's outputs, or an option is out of range.
    """
    network, dims = subject.interpreter, subject.interpreter.factors
    if law not in get_args(Law):
        raise ConfigError(f"There is no analysis.law={law}; {choices(str(law), get_args(Law))}.")
    if walks < 2:
        raise ConfigError(f"analysis.walks={walks}: what a factor explains is asked of 2 test images or more, say 100.")
    if subject.encoder.output == "values":
        return _walk_values(subject, walks, draws, law == "data", concept, seed)
    latents, labels = subject.pick_latents(walks, seed)
    drawn_from = "other examples" if law == "data" else network.density.name
    reader = _choose_reader(subject, concept, latents, labels)
    own = network.encode(subject.pick(walks, seed)).to(latents) if subject.own else latents[:0]
    z, measured = torch.cat([own, latents]).to(subject.device), slice(len(own), None)
    outputs = outputs_of(z, reader.respond)
    values, found = dims.split(subject.translated), {}
    for name in track(dims, "Walking"):
        like = values[name] if law == "data" else None
        path = factor_walks(network, z, name, steps, r, generator(seed, "walk", name), like)
        redrawn = redrawn_outputs(network, z, name, draws, reader.respond, generator(seed, "draws", name), like)
        found[name] = _Walked(outputs_of(path, reader.respond, f"Walking in {name}"), redrawn)
    measures = {
        name: _measure(part.redrawn[:, measured], outputs[measured], seed) | {"spread": _spread(values[name])}
        for name, part in track(found.items(), "Estimating intervals")
    }
    versions = _versions(subject, reader.respond, outputs[measured], seed)
    kept = {name: _kept(part.walks[:, measured]) for name, part in found.items()}
    figures, tables = {}, _measure_tables(measures, kept, versions)
    for example, title in enumerate(subject.own_names or [""]):
        shown = _most_predicted(found, example)
        classes = [reader.classes[c] for c in shown]
        responses = {
            name: FactorResponse(
                dims[name],
                part.walks[:, example, shown],
                part.redrawn[:, example, shown],
                kept[name],
                {label: measures[name][measure] for measure, label in LABELS.items()},
                {LABELS[measure]: estimate for measure, estimate in versions.get(name, {}).items()},
            )
            for name, part in found.items()
        }
        figures[title] = response_figure(responses, classes, reader.concept or "class", len(latents), drawn_from)
        tables |= _example_tables(title, responses, classes)
    numbers: dict[str, Any] = {
        "of": f"{reader.text}, {len(latents)} test images, {draws} draws a factor from {drawn_from}, "
        f"walks of {steps} steps with r={r}",
        "factors": {name: _plain(estimates) for name, estimates in measures.items()},
    }
    if versions:
        numbers["images_themselves_changed"] = {name: _plain(estimates) for name, estimates in versions.items()}
    if reader.concept is not None and reader.concept in dims:
        drawn = {name: part.redrawn[:, measured] for name, part in found.items()}
        numbers["ratio_of_explained_variances"] = _ratios(drawn, reader.concept, seed)
        probabilities = {name: y.exp() for name, y in drawn.items()}
        numbers["ratio_of_explained_variances_of_probabilities"] = _ratios(probabilities, reader.concept, seed)
    return Answer(numbers, figures, tables, factors=dims)


def _choose_reader(subject: Subject, concept: str | None, latents: Tensor, labels: Tensor) -> _Reader:
    """A classifier reads its own latents; decoded images are read by a judge that does not know the model."""
    network, known = subject.interpreter, subject.data.classes
    if subject.encoder.output == "image":
        concept = concept or next(iter(known), None)
        if concept is None:
            raise ConfigError(
                "analysis=walk has decoded images read by a classifier, and these data have no concept with classes to "
                "train one on: say data=<data set> with one, or ask analysis=embed."
            )
        classes = subject.classes_of(concept)
        judge = subject.judge_of(concept)
        text = f"decoded images read by a {concept} judge"
        return _Reader(lambda z: judge(network.decode(z)), concept, classes, text)
    outputs = outputs_of(latents.to(subject.device), network.decode)
    count = outputs.shape[1]
    if concept is None:
        concept = predicted_concept(subject, outputs, labels)
    classes = [str(c) for c in range(count)] if concept is None else subject.classes_of(concept)
    if len(classes) != count:
        raise ConfigError(
            f"The {subject.kind} of {subject.folder} has {count} logits, but {concept} has {len(classes)} classes: "
            "name the concept that it was trained on, or analysis.concept=null."
        )
    return _Reader(network.decode, concept, classes, "the network's own logits")


def _measure(redrawn: Tensor, outputs: Tensor, seed: int) -> dict[str, Estimate]:
    information, entropy = mutual_information(redrawn, seed), prediction_entropy(redrawn)
    return {
        "explained_variance": explained_variance(redrawn, outputs, seed),
        "explained_variance_of_probabilities": explained_variance(redrawn.exp(), outputs.exp(), seed),
        "changed_predictions": changed_share(redrawn, outputs, seed),
        "mutual_information": information,
        "entropy": Estimate(entropy, math.nan, math.nan),
        "information_share": Estimate(*(value / entropy if entropy > 0 else 0.0 for value in information)),
    }


def _versions(subject: Subject, respond: Respond, outputs: Tensor, seed: int) -> dict[str, dict[str, Estimate]]:
    """What the network makes of as many images where they are really changed, for each change among the factors."""
    source = subject.data.source("test")
    found = {}
    for name in changing(source):
        if name in subject.interpreter.factors:
            items = versions_of(source, name)
            items = items[:, torch.randperm(items.shape[1], generator=generator(seed, "versions"))[: len(outputs)]]
            # Means, not samples: with noise of its own each version would differ from the others even unchanged.
            flat = subject.encoded(Subset(source, items.flatten()), f"Encoding versions of {name}").mean
            z = flat.unflatten(0, items.shape)
            # A concept's versions are not equally frequent where others are changed, too.
            shares = source.labels[:, source.concepts.index(name)].bincount() / len(source)
            y = outputs_of(z.to(subject.device), respond)
            found[name] = version_response(y, shares, outputs, seed)
    return found


def _spread(values: Tensor) -> Estimate:
    """Root mean variance of a factor over test images: 1 is its prior's; where it is less, N(0, 1) leaves the data."""
    return Estimate(values.var(0).mean().sqrt().item(), math.nan, math.nan)


def _ratios(redrawn: Mapping[str, Tensor], concept: str, seed: int) -> dict[str, Any]:
    """How many times more the concept's own factor explains than each other one."""
    others = {name: outputs for name, outputs in redrawn.items() if name != concept}
    return _plain({f"{concept} over {k}": variance_ratio(redrawn[concept], y, seed) for k, y in others.items()})


def _kept(walks: Tensor) -> Tensor:
    """Share of walks (steps + 1,) whose prediction is that of their start."""
    predicted = walks.argmax(-1)
    return (predicted == predicted[0]).float().mean(1)


def _most_predicted(found: Mapping[str, _Walked], example: int) -> list[int]:
    """The classes to show of an example: all, or those that are predicted most often, in the order of the logits."""
    outputs = torch.cat([part[:, example] for walked in found.values() for part in (walked.walks, walked.redrawn)])
    count = outputs.shape[1]
    # The mean probability, below 1, decides between classes that are predicted equally often.
    rank = outputs.argmax(1).bincount(minlength=count).float() + outputs.exp().mean(0)
    return sorted(rank.topk(min(MOST, count)).indices.tolist())


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Values, and intervals where there are some."""
    plain: dict[str, Any] = {}
    for name, (value, *interval) in estimates.items():
        plain[name] = value
        if all(map(math.isfinite, interval)):
            plain[f"{name}_interval"] = interval
    return plain


def _measure_tables(
    measures: Mapping[str, Mapping[str, Estimate]],
    kept: Mapping[str, Tensor],
    versions: Mapping[str, Mapping[str, Estimate]],
) -> dict[str, list[dict[str, Any]]]:
    return {
        "measures": [
            {"factor": factor, "changed": what, "measure": name} | estimate._asdict()
            for what, of_all in (("factor", measures), ("image", versions))
            for factor, estimates in of_all.items()
            for name, estimate in estimates.items()
        ],
        "kept": [
            {"factor": factor, "step": step, "kept": share}
            for factor, shares in kept.items()
            for step, share in enumerate(shares.tolist())
        ],
    }


def _example_tables(
    title: str, responses: Mapping[str, FactorResponse], classes: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    return {
        "_".join(filter(None, (title, kind))): [
            {"factor": factor, kind: number} | dict(zip(classes, row))
            for factor, response in responses.items()
            for number, row in enumerate(getattr(response, field).tolist())
        ]
        for kind, field in (("step", "walk"), ("draw", "redrawn"))
    }


def _walk_values(subject: Subject, walks: int, draws: int, like: bool, concept: str | None, seed: int) -> Answer:
    """The share of each value's variance over test images that each factor explains; values have no predictions."""
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
    law = "other examples" if like else network.density.name
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
    rows = [
        {"factor": name, "output": value} | estimate._asdict()
        for name, of_factor in found.items()
        for value, estimate in of_factor.items()
    ]
    return Answer(numbers, {"": figure}, {"measures": rows}, factors=network.factors)
