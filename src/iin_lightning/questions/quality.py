"""Sample quality of a model, the images shared out over the processes that torchrun started."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch import distributed as dist

from iin_lightning.analysis.priors import PriorKind, fit_prior
from iin_lightning.data.base import Split
from iin_lightning.data.latents import fingerprint
from iin_lightning.distributed import is_main_process
from iin_lightning.encoders.base import Encoder
from iin_lightning.errors import ConfigError
from iin_lightning.metrics.extractors import Extractor, build_extractor
from iin_lightning.metrics.sample_quality import Protocol, SampleQuality, protocol
from iin_lightning.progress import printable, track, waiting
from iin_lightning.questions.subject import Subject
from iin_lightning.seeding import FIXED, generator

BATCH_SIZE = 250


def choose_extractor(subject: Subject, config: DictConfig) -> Extractor:
    """What quality looks at; a judge that is not in the store is trained.

    Raises:
        ConfigError: the model gives no images, or there is no such extractor for it.
    """
    if (output := subject.interpreter.encoder.output) != "image":
        raise ConfigError(f"quality compares images; that of {subject.folder} gives {output}: leave it out.")
    classifier = None
    if config.extractor == "classifier":
        if not subject.data.classes:
            raise ConfigError("extractor=classifier is trained on classes, and these data have none: take another.")
        judge = subject.judge(next(iter(subject.data.classes)))
        assert isinstance(judge, Encoder)
        classifier = judge
    return build_extractor(config.extractor, weights=config.weights, classifier=classifier)


@torch.no_grad()
def measure_quality(subject: Subject, config: DictConfig) -> dict[str, Any]:
    """Distances of samples, their floors and baselines from test images. All processes must call it."""
    interpreter = subject.interpreter
    rules = protocol(config.protocol, count=config.count)
    quality = SampleQuality(
        choose_extractor(subject, config), rules, kernel=config.kernel, coverage=config.coverage
    ).to(subject.device)
    source = subject.data.source(rules.split)
    items = _share(rules.items(len(source)))
    cache, key = Path(config.paths.cache) / "real", fingerprint(source)
    if not quality.load_real(cache, key):
        for part in _bar(items, "Real images"):
            quality.update(source.draw(part, None), "real")
        quality.save_real(cache, key)
    # They come with the first report; after it all but the real images is forgotten.
    for part in _bar(items, "Reconstructions"):
        quality.update(interpreter.reconstruct(source.draw(part, None)), "reconstructions")
    where, others = _others(subject, rules)
    for part in _bar(_share(others), "Reconstructions of others"):
        quality.update(
            interpreter.reconstruct(subject.data.source(where).draw(part, None)), "reconstructions_of_others"
        )
    numbers: dict[str, Any] = {}
    for prior in (None, *config.priors):
        label = "" if prior is None else f" from {prior}"
        draws = _draw(subject, prior, config.count, rules.seed)
        if draws is None:
            continue
        for drawn in _bar(_share(draws), f"Samples{label}"):
            z = drawn.to(subject.device)
            quality.update(interpreter.decode(interpreter.untranslate(z) if prior is None else z), "samples")
        with waiting("Comparing with real images", quiet=not is_main_process()):
            report = quality.report()
        for name, record in report.items():
            what, kind = name.split("/")
            of = {"split": where} if kind == "reconstructions_of_others" else {}
            numbers[f"{what}/{kind}{label if kind == 'samples' else ''}"] = record | of
        quality.reset(real=False)
    return numbers


def _others(subject: Subject, rules: Protocol) -> tuple[Split, Tensor]:
    """As many images that are not among the real ones: of the same split, or of training where that has too few."""
    n = len(subject.data.source(rules.split))
    real = rules.items(n)
    rest = torch.ones(n, dtype=torch.bool).index_fill(0, real, False).nonzero()[:, 0]
    if len(rest) >= len(real):
        return rules.split, rest[torch.randperm(len(rest), generator=generator(FIXED, "others"))[: len(real)]]
    return "train", replace(rules, count=len(real)).items(len(subject.data.source("train")))


def _draw(subject: Subject, prior: str | None, count: int, seed: int) -> Tensor | None:
    """The same rows (count, N) in every process: z̃ ~ N(0, 1), or z of a prior fitted to the training latents.

    None, with the reason on the screen, for a prior that has too few of them: the other numbers stand.
    """
    dim = subject.interpreter.factors.latent_dim
    if prior is None:
        return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    z = torch.empty(count, dim, device=subject.device)
    if is_main_process():  # two fits may differ in their last bits
        try:
            z.copy_(fit_prior(prior, subject.samples("train").mean, FIXED).sample(count, seed))  # type: ignore[arg-type]
        except ConfigError as error:
            if prior not in get_args(PriorKind):
                raise
            print(printable(f"quality leaves out samples from {prior}: {error}"))
            z.fill_(torch.nan)  # the other processes wait for it
    if dist.is_initialized():
        dist.broadcast(z, src=0)
    return None if z.isnan().any() else z


def _share(rows: Tensor) -> list[Tensor]:
    """The rows that fall to this process, in batches: of k processes each takes every k-th row."""
    if dist.is_initialized():
        rows = rows[dist.get_rank() :: dist.get_world_size()]
    return [batch for batch in rows.split(BATCH_SIZE) if len(batch)]


def _bar(batches: list[Tensor], what: str) -> Iterable[Tensor]:
    return track(batches, what, quiet=not is_main_process())
