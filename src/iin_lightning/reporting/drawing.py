"""What a report draws of a model, as far as its run has not drawn it."""

from collections.abc import Callable, Collection, Iterator
from functools import partial

import torch
from matplotlib.figure import Figure

from iin_lightning.analysis.walk import factor_walks
from iin_lightning.data.base import draw_labelled
from iin_lightning.interpreter import Interpreter
from iin_lightning.plots.contact import Panel, contact_figure
from iin_lightning.plots.grids import plain, walk_figure
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.subject import Subject
from iin_lightning.reporting.data_card import evenly, sheet
from iin_lightning.reporting.page import Picture, drawn
from iin_lightning.seeding import generator
from iin_lightning.training.pictures import autoencoder_figures, interpreter_figures

IMAGES = 24  # held-out images that are looked at
WALKS = 6  # of them walked, a row each
HELD = 500  # held-out images whose mean and covariance walks keep to
STEPS = 11  # of a walk
CORRELATION = 0.9  # of neighbouring steps: far enough to see more than one value, slow enough to follow

CAPTIONS = {
    "swap": (
        "Swaps",
        "Each cell is the image at its left with one factor, named above the grid, taken from the image at its top.",
    ),
    "reconstructions": ("Reconstructions", "Held-out images, each above what the network makes of its latent."),
    "samples": ("Samples", "New images: drawn factors, translated back and decoded; concepts are of held-out images."),
    "interpolations": ("Interpolations", "Straight walks between the factors of two held-out images, one in each row."),
}
"""Title and caption of the figures that runs draw."""

FIGURES, WALK, HELD_OUT = "figures", "walks", "held-out images"


def drawings(subject: Subject, known: Collection[str], seed: int) -> Iterator[tuple[str, Callable[[], list[Picture]]]]:
    """Yield the kinds of pictures of a model, each with the function that draws it; ``known`` figures are not drawn."""
    network = subject.network
    if subject.encoder.output == "image":
        yield FIGURES, partial(_figures, subject, known, seed)
        if isinstance(network, Interpreter):
            for name in network.factors:
                yield WALK, partial(_walk, subject, network, name, seed)
    yield HELD_OUT, partial(_held_out, subject, seed)


def _figures(subject: Subject, known: Collection[str], seed: int) -> list[Picture]:
    """Draw what runs draw of held-out images."""
    network, wanted = subject.network, {"reconstructions"}
    if isinstance(network, Interpreter):
        wanted |= {"samples", "interpolations"} | ({"swap"} if network.factors.concepts else set())
    if wanted <= set(known):
        return []
    images = subject.pick(IMAGES, seed)
    if isinstance(network, Interpreter):
        figures = interpreter_figures(network, images)
    else:
        figures = autoencoder_figures(subject.encoder, images)
    return [drawn(figure, *CAPTIONS[name]) for name, figure in figures.items() if name not in known]


@torch.no_grad()
def _walk(subject: Subject, network: Interpreter, name: str, seed: int) -> list[Picture]:
    """Draw random walks in a factor, decoded."""
    x, like = subject.pick(WALKS, seed), None
    if network.factors.concepts:  # of a few classes, or narrow: N(0, 1) would lead to what is no image
        z = subject.pick_latents(HELD, seed)[0].to(subject.device)
        like = network.factors.split(network.translate(z))[name]
    path = factor_walks(network, network.encode(x), name, STEPS, CORRELATION, generator(seed, "walk", name), like)
    rest = network.complement(x)
    rest = None if rest is None else rest.repeat(len(path), *[1] * (rest.ndim - 1))
    images = network.resume(path.flatten(0, 1), rest).unflatten(0, path.shape[:2]).cpu()
    dims, title = network.factors[name], f"{plain(name)} walks, the others stay"
    moved = f"the {dims} dimensions of {name}, all other factors as they were"
    if len(network.factors) == 1:
        moved, title = f"all {dims} dimensions", "everything walks"
    law = "the translator's density" if like is None else "the mean and covariance of held-out images"
    text = f"From each held-out image (left) a random walk in {moved}, within {law}; neighbours have r={CORRELATION}."
    return [drawn(walk_figure(images, title), f"Walk in {name}", text)]


def _held_out(subject: Subject, seed: int) -> list[Picture]:
    """Draw held-out images with their classes; those of a classifier with its predictions, too."""
    figure, text = _predictions(subject, seed) or (
        sheet(subject.data.source("test"), subject.data, "test", IMAGES, 0, seed),
        "Some of the test images, on which nothing was trained, as many of each class as fit.",
    )
    return [drawn(figure, "Held-out images", text)]


@torch.no_grad()
def _predictions(subject: Subject, seed: int) -> tuple[Figure, str] | None:
    """Draw images with the predictions of a network that gives logits of a known concept; None for other networks."""
    encoder, source = subject.encoder, subject.data.source("test")
    if encoder.output != "logits" or not subject.data.classes:
        return None
    columns = [source.concepts.index(name) for name in subject.data.classes]
    items = evenly(source.labels[:, columns], IMAGES, generator(seed, "thumbnails"))
    images, labels = draw_labelled(source, items, None)
    images = images.to(subject.device)
    outputs = encoder.resume(encoder.encode(images).mean, encoder.complement(images))
    concept = predicted_concept(subject, outputs, labels)
    if concept is None:
        return None
    classes, column = subject.data.classes[concept], source.concepts.index(concept)
    pairs = list(zip(labels[:, column].tolist(), outputs.argmax(1).tolist()))
    captions = [classes[a] if a == b else f"{classes[a]}, read as {classes[b]}" for a, b in pairs]
    figure = contact_figure([Panel("Images of the test split", images[:, None].cpu(), captions, columns=6)])
    right = sum(a == b for a, b in pairs)
    return figure, f"Test images with their {concept}, of which the network reads {right} of {len(pairs)} right."
