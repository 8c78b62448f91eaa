"""What an experiment asks of a model at the end of its training: measures of ``evaluate``, and analyses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from torch import distributed as dist

from iin_lightning.analysis.embed import check_method
from iin_lightning.cli.compose import composed, group_choices
from iin_lightning.cli.refusals import sentence
from iin_lightning.errors import ConfigError, IINError, choices
from iin_lightning.metrics.measured import Measured, flat
from iin_lightning.printing import show_files
from iin_lightning.progress import Screen
from iin_lightning.questions import results
from iin_lightning.questions.answer import Analysis, Written, answer, called
from iin_lightning.questions.embed import embed
from iin_lightning.questions.measures import Measure, measure
from iin_lightning.questions.quality import Quality
from iin_lightning.questions.subject import Subject
from iin_lightning.runs.loggers import log_numbers, log_table
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.store import Store
from iin_lightning.training.pictures import log_pictures


@dataclass(frozen=True)
class Asked:
    """What is asked of a model after its training: measures and analyses by name."""

    measures: Mapping[str, Measure]
    analyses: Mapping[str, Analysis]

    def __bool__(self) -> bool:
        return bool(self.measures or self.analyses)


def asked_after_training(recipe: Recipe, store: Store) -> Asked:
    """What ``evaluation`` and ``analyses`` ask, built before anything is trained, so that a mistake is found at once.

    Raises:
        ConfigError: a metric that is not known, or that needs more than a run has.
        IINError: a package or weights that it needs are missing.
    """
    config = recipe.config
    names = [str(name) for name in config.evaluation.get("metric") or ()]
    measures: dict[str, Measure] = {}
    if config.evaluation:
        base = composed("evaluate", [])
        # A copy by keys: what a value refers to need not be there where no metric asks for it.
        changes = OmegaConf.masked_copy(config.evaluation, [key for key in config.evaluation if key != "metric"])
        evaluation = OmegaConf.merge(base, {"paths": config.paths}, changes)
        assert isinstance(evaluation, DictConfig)
        if "typicality" in names:
            raise ConfigError(
                "typicality compares with another data set: ask it of the finished run, "
                "python -m iin_lightning.evaluate run=<run> 'metric=[typicality]' data@outside=<data set>."
            )
        measures = build_measures(evaluation, names)
    for measured in filter(is_shared, measures.values()):
        for concept in measured.judges(recipe.data):  # trained now, when no process waits for another
            store.get(recipe.judge(concept))
    analyses = {str(name): instantiate(asked) for name, asked in config.analyses.items()}
    for name, analysis in analyses.items():
        if getattr(analysis, "func", None) is embed:
            check_method(analysis.keywords["method"], f"analyses.{name}.method")
    return Asked(measures, analyses)


def ask_after_training(asked: Asked, subject: Subject, trainer: Trainer) -> None:
    """Measure and analyse a model that has been written, and hand what comes of it to the loggers.

    All processes of a training must call it: some numbers they measure together, the rest does the first, alone.

    Raises:
        ConfigError: measures or analyses that do not fit the model, once all others are answered.
    """
    found: dict[str, Measured] = {}
    failed: list[str] = []

    def take(names: Iterable[str]) -> None:
        for name in names:
            try:
                found.update(measure(subject, name, asked.measures[name]))
            except IINError as error:
                if dist.is_initialized():  # the others may not have failed, and would wait
                    raise
                failed.append(f"evaluation.metric={name}: {error}")

    shared = [name for name, measured in asked.measures.items() if is_shared(measured)]
    take(shared)
    if dist.is_initialized():
        # What follows computes metrics and may train a judge; in a group, the first process would wait for the others.
        dist.barrier()
        dist.destroy_process_group()
    if not trainer.is_global_zero:
        return
    take(name for name in asked.measures if name not in shared)
    loggers, step = trainer.loggers, trainer.global_step
    if found:
        log_numbers(loggers, flat({f"evaluation/{key}": number for key, number in found.items()}), step)
        rows = [[*key.split("/", 1), number.value, number.error] for key, number in found.items()]
        log_table(loggers, "evaluation", ("metric", "number", "value", "error"), rows, step)
        Screen(markup=False).print(results.table({str(subject.folder): found}))
    for name, analysis in asked.analyses.items():
        try:
            written = answer(subject, name, analysis)
        except IINError as error:
            failed.append(f"analyses.{name}: {error}")
            continue
        show_answer(written)
        log_answer(loggers, name, written, step)
        Screen(markup=False).print(results.table({f"{subject.folder}: {name}": written.numbers}))
    if failed:
        lines = ["The model is trained and saved, but not all questions could be answered.", *failed]
        raise ConfigError("\n".join(lines))


def is_shared(asked: Measure) -> TypeGuard[Quality]:
    """Whether all processes measure it together; such a measure says whose judges it asks."""
    return getattr(asked, "together", False)


def build_measures(config: DictConfig, names: Sequence[str]) -> dict[str, Measure]:
    """The measures of ``conf/metric``, with the options that a configuration of ``evaluate`` gives them.

    Raises:
        ConfigError: a name that is not known, or an option that does not fit.
    """
    for name in names:
        if name not in (known := group_choices("metric")) and name not in (config.metric or ()):
            raise ConfigError(f"There is no metric {name!r}; {choices(name, known)}.")
    if not names:
        return {}
    tree: Any = config
    if config.metric is None:
        tree = OmegaConf.merge(config, {"metric": composed("evaluate", [f"metric=[{','.join(names)}]"]).metric})
    try:
        return {name: instantiate(tree.metric[name]) for name in names}
    except HydraException as error:
        raise sentence(error) or error from error


def show_answer(written: Written) -> None:
    """Print where the files of an answer lie."""
    pictures = written.pictures.values()
    show_files([*(("table", table) for table in written.tables), *(("picture", picture) for picture in pictures)])


def log_answer(loggers: Sequence[Logger], name: str, written: Written, step: int | None = None) -> None:
    """Hand the numbers of an analysis to all loggers, its pictures and tables to W&B."""
    log_numbers(loggers, {f"analysis/{name}/{key}": value for key, value in written.numbers.items()}, step)
    log_pictures(loggers, written.pictures, step, "analysis")
    for title, rows in written.answer.tables.items():
        if rows:
            log_table(loggers, called(name, title), list(rows[0]), [list(row.values()) for row in rows], step)
