"""Where attributes lie in z̃, what a step there does and what else it does (Eq. 14, Fig. 8), and images moved along."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.analysis.directions import (
    FEWEST,
    Attribute,
    Direction,
    Method,
    along,
    answers,
    attributes_in,
    choose_method,
    compatible,
    cosines,
    examples,
    fit_directions,
    project,
)
from iin_lightning.analysis.effects import Effects, effects, recognised, side_effects
from iin_lightning.errors import ConfigError, choices
from iin_lightning.plots.directions import direction_figure, edit_figure, matrix_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.judges import ReaderKind, attribute_reader
from iin_lightning.questions.subject import Subject

BLOCKS = 4  # attributes in a figure: a page has room for so many
MOST = 40  # attributes that are looked at unasked
KEPT = 3  # names that a title has room for
PLAIN, PROJECTED = "plain", "projected"
AskedMethod = Method | Literal["auto"]
TITLES = {PLAIN: "plain directions", PROJECTED: "others kept"}


def directions(
    subject: Subject,
    *,
    attributes: Sequence[str] | None,
    method: AskedMethod,
    keep: Sequence[str] | None,
    alphas: Sequence[float],
    alpha: float,
    reader: ReaderKind,
    shown: int,
    count: int,
    seed: int,
) -> Answer:
    """Directions from the training split; walks along them and their effects on the test split.

    A network that gives logits has effects, but no pictures.

    Raises:
        ConfigError: no attributes, an unknown one, or one that too few examples have or lack.
    """
    known = known_attributes(subject)
    left_out: dict[str, str] = {}
    if attributes is None:
        moved, left_out = enough_examples(subject, known)
    elif attributes:
        moved = [find(name, known) for name in attributes]
    else:
        raise ConfigError(f"analysis.attributes=[] names none; {choices('', known)}, or null for all.")
    kept = moved if keep is None else [find(name, known) for name in keep]
    names = list(dict.fromkeys([*moved, *kept]))
    method, found = fit(subject, names, method)
    others = {name: compatible(name, kept) for name in moved}
    vectors = {PLAIN: torch.stack([found[name].vector for name in moved])}
    if any(others.values()):
        vectors[PROJECTED] = torch.stack([project(found, name, others[name]) for name in moved])

    asked = {name: known[name] for name in names}
    read = attribute_reader(subject, asked, reader)
    z, labels = subject.pick_latents(count, seed)
    z_tilde = translate(subject, z)
    changes = {
        kind: effects(z_tilde, track(steps, f"Reading effects of {TITLES[kind]}"), read, alpha)
        for kind, steps in vectors.items()
    }
    held_out = answers(labels, subject.data.concepts, asked)
    areas = recognised(in_chunks(read, z_tilde), held_out)
    agreement = cosines(torch.stack([found[name].vector for name in names]))

    figures = _matrices(moved, names, changes, agreement, alpha)
    if subject.encoder.output == "image":
        x = subject.pick(shown, seed)
        blocks = []
        for row, name in enumerate(track(moved, "Walking")):
            kinds = [kind for kind in vectors if kind == PLAIN or others[name]]
            titles = {kind: title(name, others[name] if kind == PROJECTED else ()) for kind in kinds}
            walked = {kind: along(subject.interpreter, x, vectors[kind][row], alphas).cpu() for kind in kinds}
            blocks.append({titles[kind]: images for kind, images in walked.items()})
        for first in range(0, len(blocks), BLOCKS):
            page = str(first // BLOCKS + 1) if first else ""
            figures[page] = direction_figure(blocks[first : first + BLOCKS], alphas)

    own = {
        kind: [change.mean[row, names.index(name)].item() for row, name in enumerate(moved)]
        for kind, change in changes.items()
    }
    numbers: dict[str, Any] = {
        "method": method,
        "reader": reader,
        "alpha": alpha,
        "held_out": len(z_tilde),
        "attributes": names,
        "moved": moved,
        "kept": {name: ", ".join(others[name]) for name in moved},
        "left_out": left_out,
        "with": {name: found[name].having for name in names},
        "without": {name: found[name].lacking for name in names},
        "length": {kind: dict(zip(moved, steps.norm(dim=1).tolist())) for kind, steps in vectors.items()},
        "held_out_with": {name: examples(answer)[0] for name, answer in held_out.items()},
        "recognised": areas,
        "own_effect": {kind: dict(zip(moved, values)) for kind, values in own.items()},
        "side_effect": {kind: side_effects(change.mean, moved, names) for kind, change in changes.items()},
        "cosines": agreement.tolist(),
        "effects": {kind: change.mean.tolist() for kind, change in changes.items()},
        "errors": {kind: change.error.tolist() for kind, change in changes.items()},
    }
    tables = {"effects": _table(moved, names, changes, agreement)}
    return Answer(numbers, figures, tables, factors=subject.interpreter.factors.concepts)


def edit(
    subject: Subject,
    *,
    direction: str | None,
    alpha: float,
    keep: Sequence[str] | None,
    method: AskedMethod,
    steps: int,
    count: int,
    seed: int,
) -> Answer:
    """The user's images, or some of the test split, with more or less of an attribute.

    Raises:
        ConfigError: the network decodes to no image, there is no such attribute, or fewer than 2 steps.
    """
    subject.need_images("edit")
    if steps < 2:
        raise ConfigError(f"analysis.steps={steps} must be at least 2: the reconstruction and the edited image.")
    known = known_attributes(subject)
    if direction is None:
        raise ConfigError(f"Say along which direction to edit, analysis.direction=<name>; {choices('', known)}.")
    name = find(direction, known)
    kept = (
        compatible(name, enough_examples(subject, known)[0]) if keep is None else [find(other, known) for other in keep]
    )
    method, found = fit(subject, [name, *kept], method)
    vector = project(found, name, kept)
    x = subject.pick(count, seed)
    alphas = torch.linspace(0, alpha, steps).tolist() if alpha else [0.0]
    alphas[-1] = alpha
    walk = along(subject.interpreter, x, vector, alphas).cpu()
    sources = subject.own_names if subject.own else [f"test_{number}" for number in range(len(x))]
    suffix = re.sub(r"[^\w.+-]+", "-", f"{name}_{alpha:+g}")
    numbers = {
        "direction": name,
        "kept": ", ".join(kept),
        "method": method,
        "alpha": alpha,
        "with": found[name].having,
        "without": found[name].lacking,
        "length": abs(alpha) * vector.norm().item(),
        "changed": (walk[-1] - walk[0]).abs().mean().item() / 2,
        "lost_by_reconstruction": (walk[0] - x.cpu()).abs().mean().item() / 2,
    }
    images = {f"{source}_{suffix}": image for source, image in zip(sources, walk[-1])}
    figure = edit_figure(x, walk, alphas, title(name, kept))
    return Answer(numbers, {"": figure}, images=images, factors=subject.interpreter.factors.concepts)


def known_attributes(subject: Subject) -> dict[str, Attribute]:
    """All attributes of the data.

    Raises:
        ConfigError: there are none.
    """
    known = attributes_in(subject.data.classes)
    if not known:
        raise ConfigError(
            "A direction leads from examples without an attribute to those with it, and these data have no concept "
            "with classes: name others (data=...)."
        )
    return known


def find(name: str, known: Mapping[str, Attribute]) -> str:
    """The attribute that a user means; ``digit:3`` is ``digit=3``, which a shell and Hydra take in quotes only.

    Raises:
        ConfigError: there is none.
    """
    plain = name if name in known else str(name).replace(":", "=", 1)
    if plain in known:
        return plain
    raise ConfigError(
        f"There is no direction {plain!r}; {choices(plain, known)}. Which concepts a data set has, its options say, "
        "for instance data=celeba data.attributes=[Smiling,No_Beard]."
    )


def enough_examples(subject: Subject, known: Mapping[str, Attribute]) -> tuple[list[str], dict[str, str]]:
    """The attributes that have examples enough, at most 40; and why the others are left out.

    Raises:
        ConfigError: there are none.
    """
    labels = answers(subject.latents("train").labels, subject.data.concepts, known)
    left_out = {}
    for name in known:
        having, lacking = examples(labels[name])
        if min(having, lacking) < FEWEST:
            left_out[name] = f"{having} examples have it, {lacking} lack it"
    enough = [name for name in known if name not in left_out]
    if not enough:
        raise ConfigError(
            f"None of {', '.join(known)} is had by {FEWEST} or more training images and lacked by as many: take more."
        )
    return enough[:MOST], left_out | dict.fromkeys(enough[MOST:], f"more than {MOST}: name those that you want")


def fit(subject: Subject, names: Iterable[str], method: AskedMethod) -> tuple[Method, dict[str, Direction]]:
    """Directions of attributes, from the training split, and the method that found them."""
    known = attributes_in(subject.data.classes)
    latents = subject.latents("train")
    asked = answers(latents.labels, subject.data.concepts, {name: known[name] for name in names})
    z_tilde = translate(subject, latents.mean)
    chosen = choose_method(z_tilde, subject.interpreter.factors) if method == "auto" else method
    found = {
        name: fit_directions(z_tilde, {name: answer}, chosen)[name]
        for name, answer in track(asked.items(), "Finding directions")
    }
    return chosen, found


@torch.no_grad()
def translate(subject: Subject, z: Tensor) -> Tensor:
    """z̃ (n, N) of latents z (n, N), on the processor."""
    return in_chunks(
        lambda part: subject.interpreter.translate(part.to(subject.device)).cpu(), z, "Translating latents"
    )


def title(name: str, kept: Sequence[str] = ()) -> str:
    """What a picture of a direction is called.

    Example:
        >>> title("No_Beard", ["Male"])
        'No Beard, keeping Male'
    """
    shown = ", ".join(kept) if len(kept) <= KEPT else f"{len(kept)} others"
    return (f"{name}, keeping {shown}" if kept else name).replace("_", " ")


def _matrices(
    moved: Sequence[str], names: Sequence[str], changes: Mapping[str, Effects], agreement: Tensor, alpha: float
) -> dict[str, Figure]:
    means = {TITLES[kind]: change.mean for kind, change in changes.items()}
    errors = {TITLES[kind]: change.error for kind, change in changes.items()}
    axes = ("attribute that is read", f"direction moved along,\nα = −{alpha / 2:.3g} to +{alpha / 2:.3g}")
    label = "change of its probability"
    figures = {"effects": matrix_figure(means, moved, names, label, axes_labels=axes, errors=errors)}
    if len(names) > 1:
        figures["cosines"] = matrix_figure({"agreement of directions": agreement}, names, names, "cosine")
    return figures


def _table(
    moved: Sequence[str], names: Sequence[str], changes: Mapping[str, Effects], agreement: Tensor
) -> list[dict[str, Any]]:
    """A row a cell of the matrices."""
    rows = []
    for row, direction in enumerate(moved):
        for column, attribute in enumerate(names):
            cosine = agreement[names.index(direction), column].item()
            cell: dict[str, Any] = {"direction": direction, "attribute": attribute, "cosine": cosine}
            for kind, change in changes.items():
                cell[kind], cell[f"{kind}_error"] = change.mean[row, column].item(), change.error[row, column].item()
            rows.append(cell)
    return rows
