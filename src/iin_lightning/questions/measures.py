"""What can be measured of a model: each measure is a function of a subject, and ``conf/metric/<name>.yaml`` calls it.

``measure(subject, **options)`` returns name -> number, a `Measured`, or a record whose ``value`` is a number. The entry
``latents`` says which latents the numbers are of, where these are not posterior means.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from iin_lightning import serialization
from iin_lightning.data.base import draw_labelled
from iin_lightning.data.latents import fingerprint
from iin_lightning.data.module import DataModule
from iin_lightning.data.swaps import FixedSwaps
from iin_lightning.data.versions import image_of
from iin_lightning.distributed import is_main_process
from iin_lightning.errors import ConfigError
from iin_lightning.flows.density import Mixture
from iin_lightning.metrics import disentanglement as scores
from iin_lightning.metrics import gaussianity as normality
from iin_lightning.metrics.likelihood import RoundTrip, edited, factor_nll, typicality_auroc
from iin_lightning.metrics.measured import Measured, means
from iin_lightning.metrics.probes import ProbeKind
from iin_lightning.metrics.transfer import FactorTransfer, judges_for
from iin_lightning.progress import track, waiting
from iin_lightning.questions.judges import predicted_concept
from iin_lightning.questions.results import add, named
from iin_lightning.questions.subject import MEANS, SAMPLES, Subject
from iin_lightning.seeding import FIXED, generator

Numbers = Mapping[str, Any]
Measure = Callable[[Subject], Numbers]
BATCH_SIZE = 250


def measure(subject: Subject, name: str, asked: Measure) -> dict[str, Measured]:
    """Measure, write the numbers into ``results.json`` in ``subject.out`` with what they are of, and name them.

    Raises:
        ConfigError: the measure does not fit the model.
    """
    numbers = dict(asked(subject))
    latents = numbers.pop("latents", MEANS)
    if is_main_process() and subject.out is not None:
        # After each measure, so that an error in the next one loses nothing.
        add(subject.out, "evaluation", {name: numbers | {"of": provenance(subject, latents)}})
    return named(name, numbers)


def provenance(subject: Subject, latents: str = MEANS) -> dict[str, str]:
    """Which latents numbers are of, and hashes of the encoder, as training writes it, and of the translator."""
    return {
        "latents": latents,
        "encoder": serialization.fingerprint(subject.interpreter.encoder.encoder),
        "translator": serialization.fingerprint(subject.interpreter.translator),
    }


def comparable(subject: Subject) -> dict[str, str]:
    """Measure -> a hash of what it is measured on: where two runs have the same one, their scores can be paired."""
    images = fingerprint(subject.data.source("test"))
    return {"transfer": images, "likelihood": f"{images} {provenance(subject)['encoder']}"}


def fitting(subject: Subject) -> list[str]:
    """The measures that say something of a model and need nothing that was not given."""
    names = ["likelihood"] if isinstance(subject.interpreter.density, Mixture) else ["likelihood", "gaussianity"]
    concepts = subject.interpreter.factors.concepts
    if concepts and subject.encoder.output == "image" and subject.judge is not None:
        names.append("transfer")
    if concepts and subject.concepts():
        names += ["leakage", "disentanglement"]
    return names


@torch.no_grad()
def likelihood(subject: Subject) -> Numbers:
    """-log p(z) of samples of test latents in nats per dimension, of each factor alone, and the worst round trips."""
    translator, dims = subject.interpreter.translator, subject.interpreter.factors
    round_trip, of_edits = RoundTrip().to(subject.device), RoundTrip().to(subject.device)
    for part in track(subject.samples("test").mean.to(subject.device).split(2000), "Going round"):
        round_trip.update(translator, part)
        of_edits.update(translator, edited(translator, part, dims))
    rows = {"nll": subject.nll("test") / dims.latent_dim}
    if not isinstance(subject.interpreter.density, Mixture):  # of which a factor alone has no N(0, 1)
        parts = dims.split(subject.translated_samples[0])
        rows |= {f"nll_of_factor/{name}": of_factor for name, of_factor in factor_nll(parts).items()}
    return {
        **means(rows, image_of(subject.latents("test"))),
        "round_trip_error": round_trip.compute().item(),
        "round_trip_error_of_edits": of_edits.compute().item(),
        "latents": SAMPLES,
    }


def transfer(subject: Subject) -> Numbers:
    """Factor transfer between test images, read by independent judges, or by a classifier's own logits.

    Raises:
        ConfigError: nothing tells a concept of a factor.
    """
    interpreter, data, concepts = subject.interpreter, subject.data, subject.interpreter.factors.concepts
    if interpreter.encoder.output == "image":
        classifiers = {name: subject.judge_of(name) for name in concepts if name in data.classes}
        judges = judges_for(data.kinds, classifiers, data.traits)
    elif interpreter.encoder.output == "logits":
        told = predicted_concept(subject, *_some_outputs(subject))
        judges = {} if told is None else judges_for(data.kinds, {}, predicted=told)
    else:
        judges = {}
    judges = {name: judge for name, judge in judges.items() if name in (*concepts, *data.traits)}
    if not judges:
        raise ConfigError(
            f"transfer swaps concepts and reads them from what the network gives; that of {subject.folder} tells none "
            "of its factors' concepts: leave it out, and say 'metric=[leakage]'."
        )
    metric = FactorTransfer(interpreter.factors, judges, data.concepts).to(subject.device)
    swaps = FixedSwaps(data.source("test"), BATCH_SIZE, FIXED)
    for target, source, images in track((swaps[i] for i in range(len(swaps))), "Swapping", len(swaps)):
        arguments = (t.to(subject.device) for t in (*target, *source, images))
        metric.update(interpreter, *arguments)
    return dict(metric.compute())


@torch.no_grad()
def _some_outputs(subject: Subject) -> tuple[Tensor, Tensor]:
    """What a network gives of some test images, and their labels (n, K)."""
    source, network = subject.data.source("test"), subject.interpreter
    items = torch.randperm(len(source), generator=generator(FIXED, "pick"))[:BATCH_SIZE]
    images, labels = draw_labelled(source, items, None)
    images = images.to(subject.device)
    return network.resume(network.encode(images), network.complement(images)), labels


def leakage(subject: Subject, *, probe: ProbeKind) -> Numbers:
    """What probes (kernel or linear) read of a concept from its own factor and from all others."""
    parts, concepts, images = _probed(subject)
    numbers: dict[str, Any] = {}
    for name in track([name for name in concepts if name in parts], "Probing"):
        numbers |= scores.leakage(parts, {name: concepts[name]}, probe, FIXED, images)
    return numbers


def disentanglement(subject: Subject, *, probe: ProbeKind) -> Numbers:
    """MIG, SAP, DCI and modularity of whole factors."""
    parts, concepts, images = _probed(subject)
    return dict(scores.disentanglement_scores(parts, concepts, probe, FIXED, images))


def _probed(subject: Subject) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Factors and concepts of the test items, and the image of each."""
    concepts = subject.concepts()
    if not subject.interpreter.factors.concepts or not concepts:
        raise ConfigError(f"Probes read concepts from factors, of which {subject.folder} has none: leave them out.")
    return subject.interpreter.factors.split(subject.translated), concepts, image_of(subject.latents("test"))


def gaussianity(subject: Subject) -> Numbers:
    """How far factors of test samples are from independent standard normal ones."""
    with waiting("Comparing factors with N(0, 1)"):
        found = normality.gaussianity(subject.translated_samples[0], subject.interpreter.factors)
    return {**found, "latents": SAMPLES}


def typicality(subject: Subject, *, outside: DataModule | None, name: str | None) -> Numbers:
    """How well test images are told from those of another data set by how typical their likelihood is.

    Raises:
        ConfigError: no other data set is given, or its images have another shape.
    """
    if outside is None:
        raise ConfigError(
            "typicality needs images of another data set: say data@outside=<data set>, fashion_mnist say."
        )
    if outside.image_shape != subject.data.image_shape:
        raise ConfigError(
            f"The other images are (C, H, W) = {outside.image_shape}, but {subject.folder} knows such of "
            f"{subject.data.image_shape}: +outside.channels=3 repeats the grey of mnist and fashion_mnist, and "
            "outside.size=<side> resizes images from files."
        )
    # What is typical is known from images that T was not fitted to: on its own training images it is too sure.
    strangers = replace(subject, data=outside)
    reference, inside, other = subject.nll("val"), subject.nll("test"), strangers.nll("test")
    dim = subject.interpreter.factors.latent_dim
    return {
        "auroc": {
            "value": typicality_auroc(inside, other, reference),
            "outside": name,
            "images": {"reference": len(reference), "inside": len(inside), "outside": len(other)},
        },
        **means({"nll_inside": inside / dim}, image_of(subject.latents("test"))),
        **means({"nll_outside": other / dim}, image_of(strangers.latents("test"))),
        "latents": SAMPLES,
    }
