"""What a report shows of a model, drawn where its run has not drawn it yet."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from iin_lightning.analysis.walk import factor_walks
from iin_lightning.data.base import draw_labelled
from iin_lightning.interpreter import Interpreter
from iin_lightning.plots.contact import Panel, contact_figure
from iin_lightning.plots.grids import plain, walk_figure
from iin_lightning.questions.answer import Answer, ask
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.subject import Subject
from iin_lightning.reporting.look import evenly, sheet
from iin_lightning.reporting.pictures import Picture, raster
from iin_lightning.seeding import generator
from iin_lightning.training.pictures import autoencoder_figures, interpreter_figures

IMAGES = 24  # held-out images that are looked at
WALKS = 6  # of them walked, a row each
STEPS = 11  # of a walk
CORRELATION = 0.9  # of neighbouring steps: far enough to see more than one value, slow enough to follow

CAPTIONS = {
    "swap": (
        "Swaps",
        "Each cell is the image at its left with one factor, named above the grid, taken from the image at its top.",
    ),
    "reconstructions": ("Reconstructions", "Held-out images, each above what the network makes of its latent."),
    "samples": ("Samples", "New images: standard normal factors, translated back and decoded."),
    "interpolations": ("Interpolations", "Straight walks between the factors of two held-out images, one in each row."),
}
"""Of the pictures that runs draw: title, and what is to be seen."""


class Question(NamedTuple):
    """Something to draw.

    Attributes:
        says: what is done, for the progress bar.
        draw: does it.
    """

    says: str
    draw: Callable[[], Iterator[Picture]]


def standard_figures(subject: Subject, known: Collection[str], seed: int) -> Iterator[Question]:
    """What runs draw of images, as far as it is not there.

    Args:
        subject: any model.
        known: names of figures that are there.
        seed: of the held-out images.
    """
    network = subject.network
    if getattr(subject.encoder, "output", "") != "image":
        return
    wanted = ["reconstructions"]
    if isinstance(network, Interpreter):
        wanted += ["samples", "interpolations", *(["swap"] if network.factors.concepts else [])]
    missing = [name for name in wanted if name not in known]
    if not missing:
        return

    def draw() -> Iterator[Picture]:
        images = subject.pick(IMAGES, seed)
        if isinstance(network, Interpreter):
            figures = interpreter_figures(network, images)
        else:
            figures = autoencoder_figures(subject.encoder, images)
        for name in missing:
            if name in figures:
                yield raster(figures[name], *CAPTIONS[name])

    yield Question("swaps, samples and reconstructions", draw)


def walks(subject: Subject, seed: int) -> Iterator[Question]:
    """Random walks in each factor, decoded."""
    network = subject.network
    if not isinstance(network, Interpreter) or subject.encoder.output != "image":
        return

    @torch.no_grad()
    def draw(name: str) -> Iterator[Picture]:
        x = subject.pick(WALKS, seed)
        path = factor_walks(network, network.encode(x), name, STEPS, CORRELATION, generator(seed, "walk", name))
        rest = network.complement(x)
        rest = None if rest is None else rest.repeat(len(path), *[1] * (rest.ndim - 1))
        images = network.resume(path.flatten(0, 1), rest).unflatten(0, path.shape[:2]).cpu()
        only = len(network.factors) == 1
        dims = network.factors[name]
        alone = f"all {dims} dimensions" if only else f"the {dims} dimensions of {name}, all other factors as they were"
        text = f"From each held-out image (left) a random walk in {alone}; neighbours are correlated by {CORRELATION}."
        title = "everything walks" if only else f"{plain(name)} walks, the others stay"
        yield raster(walk_figure(images, title), f"Walk in {name}", text)

    for name in network.factors:
        yield Question(f"walk in {name}", partial(draw, name))


def response(subject: Subject, analysis: Callable[[Subject], Answer], keep: Callable[[Answer], None]) -> Question:
    """How a classifier responds to walks in each factor: ``analysis=walk``.

    Args:
        subject: an interpreter of a network that gives logits.
        analysis: the walk.
        keep: takes the answer, for its numbers.
    """

    def draw() -> Iterator[Picture]:
        found = ask(subject, analysis)
        keep(found)
        for title, figure in found.figures.items():
            yield raster(figure, _response_title(title), RESPONSE)

    return Question("response of the classifier", draw)


RESPONSE = (
    "What the classifier says while one factor walks at random and the others stay, and how much of its output each "
    "factor explains: a factor to which it is invariant changes nothing."
)


def _response_title(title: str) -> str:
    return f"Response to walks in each factor{f', {title}' if title else ''}"


def thumbnails(subject: Subject, seed: int) -> Question:
    """Held-out images with their classes; those of a classifier with what it says of them, too."""

    def draw() -> Iterator[Picture]:
        figure, text = _predictions(subject, seed) or (
            sheet(subject.data.source("test"), subject.data, "test", IMAGES, 0, seed),
            "Some of the test images, which nothing was trained on, as many of each class as there is room for.",
        )
        yield raster(figure, "Held-out images", text)

    return Question("held-out images", draw)


@torch.no_grad()
def _predictions(subject: Subject, seed: int) -> tuple[Figure, str] | None:
    """Images of a network that gives logits of a concept that is known; None for others."""
    encoder, source = subject.encoder, subject.data.source("test")
    if encoder.output != "logits" or not subject.data.classes:
        return None
    columns = [source.concepts.index(name) for name in subject.data.classes]
    items = evenly(source.labels[:, columns], IMAGES, generator(seed, "thumbnails"))
    images, labels = draw_labelled(source, items, None)
    images = images.to(subject.device)
    outputs = encoder.resume(encoder.encode(images).mean, encoder.complement(images))
    concept = predicted_concept(subject, outputs, labels)
    if concept is None or concept not in subject.data.classes:
        return None
    classes = subject.classes_of(concept)
    wanted, said = labels[:, source.concepts.index(concept)].tolist(), outputs.argmax(1).tolist()
    captions = [classes[a] if a == b else f"{classes[a]}, read as {classes[b]}" for a, b in zip(wanted, said)]
    right = sum(a == b for a, b in zip(wanted, said))
    figure = contact_figure([Panel("Images of the test split", images[:, None].cpu(), captions, columns=6)])
    text = (
        f"Test images with their {concept}; the network reads {right} of these {len(said)} right, the others as said."
    )
    return figure, text
