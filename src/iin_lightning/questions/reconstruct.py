"""``analysis=reconstruct``: a network is neither changed nor degraded by T, for G(T^-1(T(E(x)))) = G(E(x))."""

import torch
from torch import Tensor

from iin_lightning.analysis.chunks import CHUNK, in_chunks
from iin_lightning.metrics.likelihood import RoundTrip
from iin_lightning.plots.grids import rows_figure
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.subject import Subject

AMPLIFIED = 1000


@torch.no_grad()
def reconstruct(subject: Subject, *, count: int, shown: int, seed: int) -> Answer:
    """Images, what the network makes of them, and what it makes of them by way of T; of a classifier, numbers alone."""
    network, images = subject.interpreter, subject.pick(count, seed)
    z = subject.encode(images)
    trip = RoundTrip().to(subject.device)
    for part in z.split(CHUNK):
        trip.update(network.translator, part)
    plain = in_chunks(
        lambda x: network.resume(network.encode(x), network.complement(x)).cpu(), images, "Reconstructing"
    )
    through = in_chunks(lambda x: network.reconstruct(x).cpu(), images, "Reconstructing through T")
    difference = (through - plain).abs()
    numbers: dict[str, object] = {
        "of": f"{len(images)} images",
        "round_trip_error_of_latents": trip.compute().item(),
        "change_by_translator_mean": difference.mean().item(),
        "change_by_translator_largest": difference.max().item(),
    }
    if subject.encoder.output == "logits":
        numbers["same_prediction"] = (through.argmax(1) == plain.argmax(1)).float().mean().item()
    if subject.encoder.output != "image":
        return Answer(numbers)
    images = images.cpu()
    # In brightness, of which black and white are 1 apart.
    numbers["reconstruction_l1"] = (plain - images).abs().mean().item() / 2
    few = len(images) if subject.own else shown
    note = (
        f"brightness from 0 to 1: the network loses {numbers['reconstruction_l1']:.2g} a pixel, on average; "
        f"the translator changes no pixel by more than {difference.max() / 2:.0e}"
    )
    rows = {
        "image $x$": images,
        "by the network\n$G(E(x))$": plain,
        "through $T$ and back\n$G(T^{-1}(T(E(x))))$": through,
        f"difference of these\ntwo, × {AMPLIFIED}": AMPLIFIED * difference - 1,
    }
    title = "Reconstructions without the translator and with it"
    figure = rows_figure({label: values[:few] for label, values in rows.items()}, title, note)
    return Answer(numbers, {"": figure}, {"": _table(images, plain, difference)})


def _table(images: Tensor, plain: Tensor, difference: Tensor) -> list[dict[str, float]]:
    lost, changed = (plain - images).abs().flatten(1).mean(1) / 2, difference.flatten(1).amax(1) / 2
    return [
        {"image": number, "reconstruction_l1": l1.item(), "change_by_translator_largest": change.item()}
        for number, (l1, change) in enumerate(zip(lost, changed))
    ]
