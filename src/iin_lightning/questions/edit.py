"""``analysis=edit``: move images along the direction of an attribute; one line for a user's own image (Sec. 4.1)."""

import re
from collections.abc import Sequence

import torch

from iin_lightning.analysis.directions import along, compatible, project
from iin_lightning.errors import ConfigError, choices
from iin_lightning.plots.directions import edit_figure
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.directions import AskedMethod, enough_examples, find, fit, known_attributes, title
from iin_lightning.questions.subject import Subject


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

    Args:
        subject: who edits.
        direction: an attribute, as ``analysis=directions`` calls them; there is none that goes without saying.
        alpha: how far, in distances between those with and without it; 0 gives the reconstruction.
        keep: attributes to keep fixed; None: all others of the data that have examples enough.
        method: see ``directions``.
        steps: pictures on the way, both ends counted in.
        count: images of the test split, where the user gives none.
        seed: of these.

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
