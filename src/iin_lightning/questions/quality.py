"""Sample quality of a model, the images shared out over the processes that torchrun started."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor
from torch import distributed as dist

from iin_lightning.analysis.priors import PriorKind, fit_prior
from iin_lightning.data.base import Split
from iin_lightning.data.latents import fingerprint
from iin_lightning.data.module import DataModule
from iin_lightning.distributed import is_main_process
from iin_lightning.encoders.base import Encoder
from iin_lightning.errors import ConfigError, choices
from iin_lightning.metrics.extractors import ClassifierLatents, Extractor, build_extractor
from iin_lightning.metrics.sample_quality import Protocol, SampleQuality, protocol
from iin_lightning.progress import printable, track, waiting
from iin_lightning.questions.measures import BATCH_SIZE
from iin_lightning.questions.subject import MEANS, SAMPLES, Subject
from iin_lightning.seeding import FIXED, generator


@dataclass(frozen=True)
class Quality:
    """A measure: distances of samples, their floors and baselines from test images (FID and its kin).

    Attributes:
        protocol: clean, authors2020 or two_stage.
        extractor: inception, efficientnet_lite0 or classifier (the judge of the data's first concept).
        weights: a local file of Inception's weights, where they cannot be downloaded.
        count: samples, and at most so many real images.
        kernel: give the kernel distance (KID), too.
        coverage: give precision and recall, too.
        priors: baselines: standard, gaussian, mixture.

    Raises:
        ConfigError: a name that is not known.
        IINError: an extractor's package or weights are missing.
    """

    protocol: str
    extractor: str
    weights: str | None
    count: int
    kernel: bool
    coverage: bool
    priors: Sequence[str]

    together: ClassVar[bool] = True
    """All processes of an evaluation measure it together."""

    def __post_init__(self) -> None:
        protocol(self.protocol, count=self.count)
        for prior in self.priors:
            if prior not in get_args(PriorKind):
                raise ConfigError(f"There is no prior {prior!r}; {choices(prior, get_args(PriorKind))}.")
        if not self._by_judge:
            self._built  # noqa: B018  what is absent is found, or downloaded, now

    @property
    def _by_judge(self) -> bool:
        return self.extractor == ClassifierLatents.name

    @cached_property
    def _built(self) -> Extractor:
        return build_extractor(self.extractor, weights=self.weights)

    def judges(self, data: DataModule) -> list[str]:
        """The concepts whose judges it asks, which must be trained before processes measure together."""
        return list(data.classes)[:1] if self._by_judge else []

    def check(self, subject: Subject) -> None:
        """Refuse a model that has no samples to look at.

        Raises:
            ConfigError: the model gives no images, or the data have no classes for a judge.
        """
        if (output := subject.interpreter.encoder.output) != "image":
            raise ConfigError(f"quality compares images; that of {subject.folder} gives {output}: leave it out.")
        if self._by_judge and not subject.data.classes:
            raise ConfigError("extractor=classifier is trained on classes, and these data have none: take another.")

    def _extractor(self, subject: Subject) -> Extractor:
        if not self._by_judge:
            return self._built
        judge = subject.judge_of(*self.judges(subject.data))
        assert isinstance(judge, Encoder)
        return build_extractor(self.extractor, weights=self.weights, classifier=judge)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> dict[str, Any]:
        """Measure; all processes must call it."""
        self.check(subject)
        interpreter = subject.interpreter
        rules = protocol(self.protocol, count=self.count)
        extractor = self._extractor(subject)
        quality = SampleQuality(extractor, rules, kernel=self.kernel, coverage=self.coverage).to(subject.device)
        self._look_at_real(quality, subject, rules)
        source = subject.data.source(rules.split)
        # They come with the first report; after it all but the real images is forgotten.
        for part in _bar(_share(rules.items(len(source))), "Reconstructions"):
            quality.update(interpreter.reconstruct(source.draw(part, None)), "reconstructions")
        where, others = _others(subject, rules)
        for part in _bar(_share(others), "Reconstructions of others"):
            images = subject.data.source(where).draw(part, None)
            quality.update(interpreter.reconstruct(images), "reconstructions_of_others")
        numbers: dict[str, Any] = {"latents": f"{MEANS}, priors fitted to {SAMPLES}"}
        for prior in (None, *self.priors):
            label = "" if prior is None else f" from {prior}"
            draws = _draw(subject, prior, self.count, rules.seed)
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

    def _look_at_real(self, quality: SampleQuality, subject: Subject, rules: Protocol) -> None:
        source = subject.data.source(rules.split)
        cache, key = None if subject.cache is None else subject.cache / "real", fingerprint(source)
        if cache is not None and quality.load_real(cache, key):
            return
        for part in _bar(_share(rules.items(len(source))), "Real images"):
            quality.update(source.draw(part, None), "real")
        if cache is not None:
            quality.save_real(cache, key)


def _others(subject: Subject, rules: Protocol) -> tuple[Split, Tensor]:
    """As many images that are not among the real ones: of the same split, or of training where that has too few."""
    n = len(subject.data.source(rules.split))
    real = rules.items(n)
    rest = torch.ones(n, dtype=torch.bool).index_fill(0, real, False).nonzero()[:, 0]
    if len(rest) >= len(real):
        return rules.split, rest[torch.randperm(len(rest), generator=generator(FIXED, "others"))[: len(real)]]
    return "train", replace(rules, count=len(real)).items(len(subject.data.source("train")))


def _draw(subject: Subject, prior: str | None, count: int, seed: int) -> Tensor | None:
    """The same rows (count, N) in every process: z̃ of the translator's density, or z of a fitted prior.

    None, with the reason on the screen, for a prior that has too few of them: the other numbers stand.
    """
    if prior is None:
        return subject.interpreter.density.sample(count, torch.Generator().manual_seed(seed))
    z = torch.empty(count, subject.interpreter.factors.latent_dim, device=subject.device)
    if is_main_process():  # two fits may differ in their last bits
        try:
            z.copy_(fit_prior(prior, subject.samples("train").mean, FIXED).sample(count, seed))  # type: ignore[arg-type]
        except ConfigError as error:
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
