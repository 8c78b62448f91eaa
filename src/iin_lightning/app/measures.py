"""What can be measured of a model: for each name in ``metric=`` a function from the subject to its numbers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from iin_lightning import serialization
from iin_lightning.analysis.priors import fit_prior
from iin_lightning.app.run import require
from iin_lightning.app.subject import Subject
from iin_lightning.data.latents import fingerprint
from iin_lightning.data.swaps import FixedSwaps
from iin_lightning.encoders.base import Encoder
from iin_lightning.errors import ConfigError
from iin_lightning.metrics.disentanglement import disentanglement_scores
from iin_lightning.metrics.extractors import build_extractor
from iin_lightning.metrics.gaussianity import factor_nll, gaussianity
from iin_lightning.metrics.leakage import leakage
from iin_lightning.metrics.protocols import protocol
from iin_lightning.metrics.readings import readings_for
from iin_lightning.metrics.round_trip import RoundTrip
from iin_lightning.metrics.sample_quality import SampleQuality
from iin_lightning.metrics.transfer import FactorTransfer
from iin_lightning.seeding import FIXED

Numbers = dict[str, Any]
"""Name -> a number, or a record whose ``value`` is one."""

BATCH_SIZE = 250


@torch.no_grad()
def measure_likelihood(subject: Subject, config: DictConfig) -> Numbers:
    """-log p(z) of single test latents in nats per dimension, of each factor alone, and the worst round trip."""
    z_tilde, logdet = subject.translated
    round_trip = RoundTrip().to(subject.device)
    for part in subject.latents("test").mean.to(subject.device).split(2000):
        round_trip.update(subject.interpreter.translator, part)
    dims = subject.interpreter.factors
    nll = factor_nll(dims.split(z_tilde))
    total = sum(nll[name] * dims[name] for name in dims) - logdet.mean().item()
    return {
        "nll": total / dims.latent_dim,
        **{f"nll_of_factor/{name}": value for name, value in nll.items()},
        "round_trip_error": round_trip.compute().item(),
    }


def measure_transfer(subject: Subject, config: DictConfig) -> Numbers:
    """Factor transfer between test images, read by independent judges."""
    interpreter, data = subject.interpreter, subject.data
    if interpreter.encoder.output != "image" or not interpreter.factors.concepts:
        raise ConfigError(f"transfer swaps concepts between images; {subject.folder} has none to swap: leave it out.")
    judges = {name: _judge(subject, name) for name in interpreter.factors.concepts if name in data.classes}
    readings = readings_for(data.kinds, judges)
    readings = {concept: reading for concept, reading in readings.items() if concept in interpreter.factors.concepts}
    metric = FactorTransfer(interpreter.factors, readings, data.concepts).to(subject.device)
    swaps = FixedSwaps(data.source("test"), BATCH_SIZE, FIXED)
    for target, source in track((swaps[i] for i in range(len(swaps))), "Swapping", len(swaps), transient=True):
        arguments = (t.to(subject.device) for t in (*target, *source))
        metric.update(interpreter, *arguments)
    return {name: value.item() for name, value in metric.compute().items()}


def measure_leakage(subject: Subject, config: DictConfig) -> Numbers:
    """What probes read of a concept from its own factor and from all others."""
    parts, concepts = _probed(subject)
    return leakage(parts, {name: concepts[name] for name in concepts if name in parts}, config.probe, FIXED)


def measure_disentanglement(subject: Subject, config: DictConfig) -> Numbers:
    """MIG, SAP, DCI and modularity of whole factors."""
    return disentanglement_scores(*_probed(subject), config.probe, FIXED)


def measure_gaussianity(subject: Subject, config: DictConfig) -> Numbers:
    """How far test factors are from independent standard normal ones."""
    return gaussianity(subject.translated[0], subject.interpreter.factors)


@torch.no_grad()
def measure_quality(subject: Subject, config: DictConfig) -> Numbers:
    """Distances of samples, reconstructions and baselines from test images."""
    interpreter = subject.interpreter
    if interpreter.encoder.output != "image":
        raise ConfigError(f"quality compares images, but the network of {subject.folder} decodes to logits.")
    classifier = None
    if config.extractor == "classifier":
        if not subject.data.classes:
            raise ConfigError("extractor=classifier is trained on classes, and these data have none: take another.")
        judge = _judge(subject, next(iter(subject.data.classes)))
        assert isinstance(judge, Encoder)
        classifier = judge
    extractor = build_extractor(config.extractor, weights=config.weights, classifier=classifier)
    rules = protocol(config.protocol, count=config.count)
    quality = SampleQuality(extractor, rules, kernel=config.kernel, coverage=config.coverage).to(subject.device)
    source = subject.data.source(rules.split)
    items = rules.items(len(source))
    cache, key = Path(config.paths.cache) / "real", fingerprint(source)
    if not quality.load_real(cache, key):
        for part in track(items.split(BATCH_SIZE), "Real images", transient=True):
            quality.update(source.draw(part, None), "real")
        quality.save_real(cache, key)
    # They come with the first report; after it all but the real images is forgotten.
    for part in track(items.split(BATCH_SIZE), "Reconstructions", transient=True):
        quality.update(interpreter.reconstruct(source.draw(part, None)), "reconstructions")
    numbers: Numbers = {}
    samplers: dict[str, Callable[[int], Tensor]] = {"": lambda seed: _flow_latents(subject, config.count, seed)}
    for name in config.priors:
        prior = fit_prior(name, subject.latents("train").mean, FIXED)
        samplers[f" from {name}"] = lambda seed, prior=prior: prior.sample(config.count, seed)  # type: ignore[misc]
    for label, sampler in samplers.items():
        for images in track(_decoded(subject, sampler(rules.seed)), f"Samples{label}", -(-config.count // BATCH_SIZE)):
            quality.update(images, "samples")
        for name, record in quality.report().items():
            what, kind = name.split("/")
            numbers[f"{what}/{kind}{label if kind == 'samples' else ''}"] = record
        quality.reset(real=False)
    return numbers


MEASURES: dict[str, Callable[[Subject, DictConfig], Numbers]] = {
    "likelihood": measure_likelihood,
    "transfer": measure_transfer,
    "leakage": measure_leakage,
    "disentanglement": measure_disentanglement,
    "gaussianity": measure_gaussianity,
    "quality": measure_quality,
}


def fitting(subject: Subject) -> list[str]:
    """The metrics that say something of a model and need nothing beside it."""
    names = ["likelihood", "gaussianity"]
    concepts = subject.interpreter.factors.concepts
    if concepts and subject.interpreter.encoder.output == "image" and subject.recipe is not None:
        names.append("transfer")
    if concepts and subject.concepts():
        names += ["leakage", "disentanglement"]
    return names


def _probed(subject: Subject) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    concepts = subject.concepts()
    if not subject.interpreter.factors.concepts or not concepts:
        raise ConfigError(f"Probes read concepts from factors, of which {subject.folder} has none: leave them out.")
    return subject.interpreter.factors.split(subject.translated[0]), concepts


def _judge(subject: Subject, concept: str) -> torch.nn.Module:
    if subject.recipe is None:
        raise ConfigError(f"A judge is trained by the recipe of a run, and {subject.folder} is a bare model folder.")
    return require(subject.recipe, "judge", concept).to(subject.device).eval()


def _flow_latents(subject: Subject, count: int, seed: int) -> Tensor:
    z_tilde = torch.randn(count, subject.interpreter.factors.latent_dim, generator=torch.Generator().manual_seed(seed))
    parts = z_tilde.to(subject.device).split(2000)
    return torch.cat([subject.interpreter.untranslate(part) for part in parts])


def _decoded(subject: Subject, z: Tensor) -> Iterator[Tensor]:
    for part in z.split(BATCH_SIZE):
        yield subject.interpreter.decode(part.to(subject.device))


def provenance(subject: Subject) -> dict[str, str]:
    """What was measured: hashes of the encoder, as training writes it, and of the translator."""
    return {
        "encoder": serialization.fingerprint(subject.interpreter.encoder.encoder),
        "translator": serialization.fingerprint(subject.interpreter.translator),
    }
