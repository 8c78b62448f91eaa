"""What an experiment asks of a model beyond its test metrics: numbers of ``evaluate`` and analyses, in the same run."""

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from rich.console import Console

from iin_lightning.app.analyses.answer import answer
from iin_lightning.app.measures import TOGETHER, fitting, measure
from iin_lightning.app.results import table
from iin_lightning.app.schema import Evaluate
from iin_lightning.app.subject import Subject
from iin_lightning.callbacks.pictures import log_pictures


def beyond(config: DictConfig, subject: Subject, trainer: Trainer) -> None:
    """Measure and analyse a model that has been written, and hand what comes of it to the loggers.

    All processes of a training must call it: some numbers they measure together, the rest does the first.

    Args:
        config: of the run; ``evaluation`` holds keys of the command evaluate, ``analyses`` names analyses.
        subject: the model.
        trainer: knows the loggers and the other processes.

    Raises:
        ConfigError: a metric or an analysis that does not exist, or does not fit the model.
    """
    if config.evaluation:
        asked = OmegaConf.merge(OmegaConf.structured(Evaluate), {"paths": config.paths}, config.evaluation)
        assert isinstance(asked, DictConfig)
        _measure(subject, asked, trainer)
    if trainer.is_global_zero:
        for name, analysis in config.analyses.items():
            written = answer(subject, str(name), instantiate(analysis))
            _log(trainer, {f"analysis/{name}/{key}": value for key, value in written.numbers.items()})
            log_pictures(trainer, written.pictures)
            Console().print(table({f"{subject.folder}: {name}": written.numbers}))
    trainer.strategy.barrier("analyses")


def _measure(subject: Subject, asked: DictConfig, trainer: Trainer) -> None:
    found: dict[str, float] = {}
    for name in asked.metric or fitting(subject, asked):
        if name in TOGETHER:
            if trainer.is_global_zero:
                TOGETHER[name](subject, asked)
            trainer.strategy.barrier(name)
            found |= measure(name, subject, asked)
        elif trainer.is_global_zero:
            found |= measure(name, subject, asked)
    if trainer.is_global_zero:
        _log(trainer, {f"evaluation/{key}": value for key, value in found.items()})
        Console().print(table({str(subject.folder): found}))


def _log(trainer: Trainer, numbers: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(numbers, step=trainer.global_step)
        logger.save()
