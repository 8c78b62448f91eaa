"""What can be measured of a model: for each name in ``metric=`` a function from the subject to its numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from iin_lightning import serialization
from iin_lightning.data.base import draw_labelled
from iin_lightning.data.latents import fingerprint
from iin_lightning.data.module import DataModule
from iin_lightning.data.swaps import FixedSwaps
from iin_lightning.data.versions import image_of
from iin_lightning.distributed import is_main_process
from iin_lightning.errors import ConfigError, choices
from iin_lightning.metrics.disentanglement import disentanglement_scores, leakage
from iin_lightning.metrics.gaussianity import gaussianity
from iin_lightning.metrics.likelihood import RoundTrip, edited, factor_nll, typicality_auroc
from iin_lightning.metrics.measured import Measured, means
from iin_lightning.metrics.transfer import FactorTransfer, judges_for
from iin_lightning.progress import track, waiting
from iin_lightning.questions.quality import BATCH_SIZE, choose_extractor, measure_quality
from iin_lightning.questions.readers import predicted_concept
from iin_lightning.questions.results import add, named
from iin_lightning.questions.subject import MEANS, SAMPLES, Subject
from iin_lightning.seeding import FIXED, generator

Numbers = dict[str, Any]
"""Name -> a number, also one with its standard error, or a record whose ``value`` is one."""


@torch.no_grad()
def measure_likelihood(subject: Subject, config: DictConfig) -> Numbers:
    """-log p(z) of samples of test latents in nats per dimension, of each factor alone, and the worst round trips."""
    translator, dims = subject.interpreter.translator, subject.interpreter.factors
    round_trip, of_edits = RoundTrip().to(subject.device), RoundTrip().to(subject.device)
    for part in track(subject.samples("test").mean.to(subject.device).split(2000), "Going round"):
        round_trip.update(translator, part)
        of_edits.update(translator, edited(translator, part, dims))
    parts = dims.split(subject.translated_samples[0])
    rows = {"nll": subject.nll("test") / dims.latent_dim}
    rows |= {f"nll_of_factor/{name}": of_factor for name, of_factor in factor_nll(parts).items()}
    return {
        **means(rows, image_of(subject.latents("test"))),
        "round_trip_error": round_trip.compute().item(),
        "round_trip_error_of_edits": of_edits.compute().item(),
    }


def measure_transfer(subject: Subject, config: DictConfig) -> Numbers:
    """Factor transfer between test images, read by independent judges, or by a classifier's own logits."""
    interpreter, data, concepts = subject.interpreter, subject.data, subject.interpreter.factors.concepts
    if interpreter.encoder.output == "image":
        classifiers = {name: subject.judge(name) for name in concepts if name in data.classes}
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


def measure_leakage(subject: Subject, config: DictConfig) -> Numbers:
    """What probes read of a concept from its own factor and from all others."""
    parts, concepts, images = _probed(subject)
    numbers: Numbers = {}
    for name in track([name for name in concepts if name in parts], "Probing"):
        numbers |= leakage(parts, {name: concepts[name]}, config.probe, FIXED, images)
    return numbers


def measure_disentanglement(subject: Subject, config: DictConfig) -> Numbers:
    """MIG, SAP, DCI and modularity of whole factors."""
    parts, concepts, images = _probed(subject)
    return dict(disentanglement_scores(parts, concepts, config.probe, FIXED, images))


def measure_gaussianity(subject: Subject, config: DictConfig) -> Numbers:
    """How far factors of test samples are from independent standard normal ones."""
    z_tilde = subject.translated_samples[0]
    with waiting("Comparing factors with N(0, 1)"):
        return gaussianity(z_tilde, subject.interpreter.factors)


def measure_typicality(subject: Subject, config: DictConfig) -> Numbers:
    """How well test images are told from those of another data set by how typical their likelihood is."""
    if config.outside is None:
        raise ConfigError(
            "typicality needs images of another data set: say data@outside=<data set>, fashion_mnist say."
        )
    outside: DataModule = instantiate(config.outside)
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
            "outside": HydraConfig.get().runtime.choices["data@outside"],
            "images": {"reference": len(reference), "inside": len(inside), "outside": len(other)},
        },
        **means({"nll_inside": inside / dim}, image_of(subject.latents("test"))),
        **means({"nll_outside": other / dim}, image_of(strangers.latents("test"))),
    }


MEASURES: dict[str, Callable[[Subject, DictConfig], Numbers]] = {
    "likelihood": measure_likelihood,
    "transfer": measure_transfer,
    "leakage": measure_leakage,
    "disentanglement": measure_disentanglement,
    "gaussianity": measure_gaussianity,
    "typicality": measure_typicality,
    "quality": measure_quality,
}
LATENTS = {
    "likelihood": SAMPLES,
    "gaussianity": SAMPLES,
    "typicality": SAMPLES,
    "quality": f"{MEANS}, priors fitted to {SAMPLES}",
}
"""Which latents a measure is of, where they are not posterior means."""

TOGETHER = {"quality": choose_extractor}
"""What all processes measure together, and what the first of them does before; all else it measures alone."""


def fitting(subject: Subject, config: DictConfig) -> list[str]:
    """The metrics that say something of a model and need nothing that was not given."""
    names = ["likelihood", "gaussianity"]
    if config.outside is not None:
        names.append("typicality")
    concepts = subject.interpreter.factors.concepts
    if concepts and subject.interpreter.encoder.output == "image" and subject.recipe is not None:
        names.append("transfer")
    if concepts and subject.concepts():
        names += ["leakage", "disentanglement"]
    return names


def _probed(subject: Subject) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Factors and concepts of the test items, and the image of each."""
    concepts = subject.concepts()
    if not subject.interpreter.factors.concepts or not concepts:
        raise ConfigError(f"Probes read concepts from factors, of which {subject.folder} has none: leave them out.")
    return subject.interpreter.factors.split(subject.translated), concepts, image_of(subject.latents("test"))


def provenance(name: str, subject: Subject) -> dict[str, str]:
    """What a measure is of: which latents, and hashes of the encoder, as training writes it, and of the translator."""
    return {
        "latents": LATENTS.get(name, MEANS),
        "encoder": serialization.fingerprint(subject.interpreter.encoder.encoder),
        "translator": serialization.fingerprint(subject.interpreter.translator),
    }


def comparable(subject: Subject) -> dict[str, str]:
    """Metric -> a hash of what it is measured on: where two runs have the same one, their scores can be paired."""
    images = fingerprint(subject.data.source("test"))
    return {"transfer": images, "likelihood": f"{images} {provenance('likelihood', subject)['encoder']}"}


def measure(name: str, subject: Subject, config: DictConfig) -> dict[str, Measured]:
    """Measure, write the numbers into ``results.json`` in ``subject.out`` with what they are of, and name them.

    Raises:
        ConfigError: there is no such metric, or it does not fit the model.
    """
    if name not in MEASURES:
        raise ConfigError(f"There is no metric {name!r}; {choices(name, MEASURES)}.")
    numbers = MEASURES[name](subject, config)
    if is_main_process() and subject.out is not None:
        # After each metric, so that an error in the next one loses nothing.
        add(subject.out, "evaluation", {name: numbers | {"of": provenance(name, subject)}})
    return named(name, numbers)
