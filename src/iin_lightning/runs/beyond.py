"""What an experiment asks of a model beyond its test metrics: numbers of ``evaluate`` and analyses, in the same run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from torch import distributed as dist

from iin_lightning.analysis.embed import check_method
from iin_lightning.analysis.priors import PriorKind
from iin_lightning.cli.schema import Evaluate
from iin_lightning.data.module import DataModule
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, IINError, choices
from iin_lightning.metrics.extractors import ClassifierLatents, build_extractor
from iin_lightning.metrics.measured import Measured, flat
from iin_lightning.metrics.sample_quality import protocol
from iin_lightning.progress import Screen
from iin_lightning.questions.answer import Answer, Written, answer, called
from iin_lightning.questions.embed import embed
from iin_lightning.questions.measures import MEASURES, TOGETHER, measure
from iin_lightning.questions.results import table
from iin_lightning.questions.subject import Subject
from iin_lightning.runs.loggers import log_numbers, log_table
from iin_lightning.training.pictures import log_pictures


@dataclass(frozen=True)
class Questions:
    """What is asked after training.

    Attributes:
        metrics: of the command evaluate.
        evaluation: its configuration.
        analyses: name -> analysis.
    """

    metrics: list[str]
    evaluation: DictConfig
    analyses: Mapping[str, Callable[[Subject], Answer]]

    def __bool__(self) -> bool:
        return bool(self.metrics or self.analyses)


def questions(config: DictConfig, data: DataModule, require: Callable[..., Any]) -> Questions:
    """What a run asks, built before anything is trained, so that a mistake is not found an hour later.

    Args:
        config: of the run; ``evaluation`` holds keys of the command evaluate and is asked if ``metric`` is among them,
            ``analyses`` names analyses.
        data: of the run.
        require: gives the judge that processes will need together, when none of them may wait for another.

    Raises:
        ConfigError: a metric that there is not, or that needs more than a run has.
        IINError: what it needs is not installed, or neither there nor to be downloaded.
    """
    evaluation = OmegaConf.merge(OmegaConf.structured(Evaluate), {"paths": config.paths}, config.evaluation)
    assert isinstance(evaluation, DictConfig)
    metrics = list(evaluation.metric or ())
    for name in metrics:
        if name not in MEASURES:
            raise ConfigError(f"There is no metric {name!r} for evaluation.metric; {choices(name, MEASURES)}.")
        if name == "typicality":
            raise ConfigError(
                "typicality compares with another data set: ask it of the finished run, "
                "python -m iin_lightning.evaluate run=<run> 'metric=[typicality]' data@outside=<data set>."
            )
    if "quality" in metrics:
        _check_quality(evaluation)
        if evaluation.extractor == ClassifierLatents.name and data.classes:
            require("judge", next(iter(data.classes)))
    analyses = {str(name): instantiate(asked) for name, asked in config.analyses.items()}
    for name, analysis in analyses.items():
        if getattr(analysis, "func", None) is embed:
            check_method(analysis.keywords["method"], f"analyses.{name}.method")
    return Questions(metrics, evaluation, analyses)


def _check_quality(evaluation: DictConfig) -> None:
    """See that sample quality can be measured once the model is trained; weights that are absent are downloaded now.

    Raises:
        ConfigError: a name that there is not.
        IINError: an extractor's package or weights are missing.
    """
    protocol(evaluation.protocol, count=evaluation.count)
    for prior in evaluation.priors:
        if prior not in get_args(PriorKind):
            raise ConfigError(f"There is no prior {prior!r}; {choices(prior, get_args(PriorKind))}.")
    if evaluation.extractor == ClassifierLatents.name:
        return
    try:
        build_extractor(evaluation.extractor, weights=evaluation.weights)
    except (DataNotFoundError, CheckpointError) as error:
        raise type(error)(
            f"{error} In train, where evaluation.metric asks for quality, these keys are evaluation.weights=<file> and "
            "evaluation.extractor=<name>."
        ) from error


def beyond(asked: Questions, subject: Subject, trainer: Trainer) -> None:
    """Measure and analyse a model that has been written, and hand what comes of it to the loggers.

    All processes of a training must call it: some numbers they measure together, the rest does the first, alone.

    Args:
        asked: what.
        subject: the model.
        trainer: knows the loggers and the other processes.

    Raises:
        IINError: a metric or an analysis does not fit the model. All others are asked before.
    """
    found: dict[str, Measured] = {}
    failed: list[str] = []
    for name in (name for name in asked.metrics if name in TOGETHER):
        try:
            found |= measure(name, subject, asked.evaluation)
        except IINError as error:
            if dist.is_initialized():  # the others may not have failed, and would wait
                raise
            failed.append(f"evaluation.metric={name}: {error}")
    if dist.is_initialized():
        # What follows computes metrics and may train a judge; in a group, the first process would wait for the others.
        dist.barrier()
        dist.destroy_process_group()
    if not trainer.is_global_zero:
        return
    for name in (name for name in asked.metrics if name not in TOGETHER):
        try:
            found |= measure(name, subject, asked.evaluation)
        except IINError as error:
            failed.append(f"evaluation.metric={name}: {error}")
    if found:
        log_numbers(
            trainer.loggers, flat({f"evaluation/{key}": number for key, number in found.items()}), trainer.global_step
        )
        rows = [[*key.split("/", 1), number.value, number.error] for key, number in found.items()]
        log_table(trainer.loggers, "evaluation", ("metric", "number", "value", "error"), rows, trainer.global_step)
        Screen(markup=False).print(table({str(subject.folder): found}))
    for name, analysis in asked.analyses.items():
        try:
            written = answer(subject, name, analysis)
        except IINError as error:
            failed.append(f"analyses.{name}: {error}")
            continue
        log_answer(trainer.loggers, name, written, trainer.global_step)
        Screen(markup=False).print(table({f"{subject.folder}: {name}": written.numbers}))
    if failed:
        raise ConfigError(
            "\n".join(["The model is trained and saved, but not all questions could be answered.", *failed])
        )


def log_answer(loggers: Sequence[Logger], name: str, written: Written, step: int | None = None) -> None:
    """Hand the numbers of an analysis to all loggers, its pictures and tables to W&B."""
    log_numbers(loggers, {f"analysis/{name}/{key}": value for key, value in written.numbers.items()}, step)
    log_pictures(loggers, written.pictures, step, "analysis")
    for title, rows in written.answer.tables.items():
        if rows:
            log_table(loggers, called(name, title), list(rows[0]), [list(row.values()) for row in rows], step)
