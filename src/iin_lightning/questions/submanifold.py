"""``analysis=submanifold``: a square of images between four, bilinear in z̃ (Fig. 7)."""

import torch

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.analysis.interpolate import CORNERS, corners, measure, spread
from iin_lightning.errors import ConfigError
from iin_lightning.plots.interpolate import square_figure
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.reference import encode, held_out
from iin_lightning.questions.subject import MEANS, SAMPLES, Subject
from iin_lightning.seeding import generator


@torch.no_grad()
def submanifold(subject: Subject, *, steps: int, reference: int, seed: int) -> Answer:
    """The square between four samples z̃ ~ N(0, 1), or between four images of the user's.

    Args:
        subject: whose network decodes to images.
        steps: along each side, at least 2, corners counted in.
        reference: how many held-out images the square is held against.
        seed: of the samples.

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
        z_tilde = network.translate(encode(subject, images))
        others, latents = held_out(subject, reference, seed), MEANS
        title = "Four images (framed, as $G$ shows them) and what lies between them, bilinear in $\\tilde{z}$"
    else:
        noise = torch.randn(CORNERS, network.factors.latent_dim, generator=generator(seed, "corners"))
        z_tilde = noise.to(subject.device)
        others, latents = subject.pick_latents(reference, seed, sampled=True)[0].to(subject.device), SAMPLES
        title = "Four samples $\\tilde{z} \\sim N(0, 1)$ (framed) and what lies between them, bilinear in $\\tilde{z}$"
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
