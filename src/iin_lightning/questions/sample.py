"""``analysis=sample``: images of z̃ ~ N(0, 1) (Eq. 13) or of a mixture, beside those of other densities of z."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from iin_lightning.analysis.chunks import in_chunks
from iin_lightning.analysis.interpolate import measure, spread, told_apart
from iin_lightning.analysis.priors import COMPONENTS, PriorKind, fit_prior
from iin_lightning.errors import ConfigError
from iin_lightning.flows.density import StandardNormal
from iin_lightning.plots.grids import panels_figure
from iin_lightning.progress import track
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.interpolate import HIGH_IS_DATA
from iin_lightning.questions.judges import choose_judge
from iin_lightning.questions.subject import SAMPLES, Subject
from iin_lightning.seeding import generator

OURS = "translator"
TITLES = {
    "standard": "$z \\sim N(0, 1)$, without $T$",
    "gaussian": "$z \\sim$ one Gaussian, fitted to $E(x)$",
    "mixture": f"$z \\sim$ a mixture of {COMPONENTS} Gaussians, fitted",
}


@torch.no_grad()
def sample(
    subject: Subject,
    *,
    count: int,
    shown: int,
    columns: int,
    priors: Sequence[PriorKind],
    concept: str | None,
    seed: int,
) -> Answer:
    """Samples of the translator and of each prior, shown and measured.

    Held-out latents are posterior samples here, z ~ q(z|x), as a density of latents is one of such samples.

    Raises:
        ConfigError: the network decodes to no image, or there is no such prior.
    """
    subject.need_images("sample")
    network, judge = subject.interpreter, choose_judge(subject, concept)
    noise = network.density.sample(count, generator(seed, "samples"))
    drawn: dict[str, Tensor] = {OURS: in_chunks(network.untranslate, noise.to(subject.device))}
    left_out: dict[str, str] = {}
    for kind in priors:
        try:
            drawn[kind] = fit_prior(kind, subject.samples("train").mean, seed).sample(count, seed).to(subject.device)
        except ConfigError as error:
            if kind not in get_args(PriorKind):
                raise
            left_out[kind] = str(error)
    of_paper = " (Eq. 13)" if isinstance(network.density, StandardNormal) else ""
    titles = {OURS: f"$\\tilde{{z}} \\sim$ {network.density.name}, through $T^{{-1}}${of_paper}", **TITLES}
    images = {titles[name]: network.decode(z[:shown]).cpu() for name, z in drawn.items()}
    usual_z = subject.pick_latents(count, seed, sampled=True)[0].to(subject.device)
    unit, classify = spread(usual_z), judge and judge.network

    def measures(z: Tensor) -> dict[str, Tensor]:
        return {key: values[0] for key, values in measure(network, z[None], unit, classify).points.items()}

    usual = measures(usual_z)
    numbers: dict[str, object] = {"of": f"{count} samples, {len(usual_z)} held-out latents"}
    for name, z in track(drawn.items(), "Measuring samples"):
        found = measures(z)
        numbers[name] = {key: values.mean().item() for key, values in found.items()} | {
            "told_from_images": {
                key: told_apart(values, usual[key], key in HIGH_IS_DATA) for key, values in found.items()
            }
        }
    numbers["held_out"] = {key: values.mean().item() for key, values in usual.items()}
    if left_out:
        numbers["left_out"] = left_out
    note = "decoded by the same $G$: only the density of the latents differs"
    return Answer(numbers, {"": panels_figure(images, columns, note)}, latents=SAMPLES)
