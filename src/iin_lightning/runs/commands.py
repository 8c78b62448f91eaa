"""The commands ``evaluate`` and ``analyse``: questions to one or many finished runs."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from iin_lightning.cli import trust
from iin_lightning.distributed import is_main_process, process_group
from iin_lightning.errors import ConfigError
from iin_lightning.metrics.measured import Measured
from iin_lightning.plots.style import save
from iin_lightning.printing import quiet, show_files
from iin_lightning.progress import Screen, track
from iin_lightning.questions import results
from iin_lightning.questions.answer import FORMATS, Written, answer
from iin_lightning.questions.dimensions import together
from iin_lightning.questions.measures import Measure, comparable, fitting, measure
from iin_lightning.questions.subject import Subject
from iin_lightning.runs.ask import build_measures, is_shared, log_answer, show_answer
from iin_lightning.runs.locate import choose_device, find_runs, load_subject, matching, places, show_places
from iin_lightning.runs.loggers import Wandb

FIGURES_OF_ALL_RUNS = {"dimensions": together}

Found = dict[str, dict[str, Measured]]
"""Run -> number -> its value and error."""


def evaluate(config: DictConfig) -> None:
    """Measure every run, write the numbers down, and show them; or gather those that runs have.

    Of the processes that torchrun starts, all measure what can be shared out, and the first does the rest.

    Raises:
        ConfigError: a metric does not fit the model; nothing to gather.
        CheckpointError: a folder holds no model.
    """
    quiet()
    trust.take(config)
    if not is_main_process():
        warnings.simplefilter("ignore")  # the first process says the same
    if config.aggregate is not None:
        aggregate(config)
        return
    asked = None if config.metric is None else build_measures(config, list(config.metric))
    folders, device = find_runs(config.run), choose_device(config.device)
    written = places(folders, config.out)
    found: Found = {str(folder): {} for folder in folders}
    same: dict[str, dict[str, str]] = {}
    if is_main_process():
        for folder in track(folders, "Evaluating runs", quiet=len(folders) == 1):
            subject = load_subject(folder, device, config, out=written[folder])
            found[str(folder)] |= _measure_alone(subject, _fitting(config, subject) if asked is None else asked)
            same[str(folder)] = comparable(subject) if len(folders) > 1 else {}
    if shared := {name: measured for name, measured in (asked or {}).items() if is_shared(measured)}:
        with process_group(device):
            quietly = len(folders) == 1 or not is_main_process()
            for folder in track(folders, "Evaluating runs together", quiet=quietly):
                subject = load_subject(folder, device, config, out=written[folder])
                for name, measured in shared.items():
                    found[str(folder)] |= measure(subject, name, measured)
    if is_main_process():
        _show(found, same)
        show_places(written, Screen(markup=False))
        if len(folders) > 1:
            _write_table(found, config)


def _measure_alone(subject: Subject, asked: Mapping[str, Measure]) -> dict[str, Measured]:
    """What is done before processes meet, for what trains or computes among several would wait for the others."""
    found: dict[str, Measured] = {}
    for name, measured in asked.items():
        if is_shared(measured):
            measured.check(subject)
            for concept in measured.judges(subject.data):
                subject.judge_of(concept)
        else:
            found |= measure(subject, name, measured)
    return found


def _show(found: Found, same: Mapping[str, Mapping[str, str]]) -> None:
    console = Screen(markup=False)
    console.print(results.table(found))
    if apart := results.differences(_paired(found, same)):
        console.print(results.difference_table(apart, next(iter(found))))


def aggregate(config: DictConfig) -> None:
    """Gather the numbers that stand in the results of runs, of training and of evaluation, into one table.

    Raises:
        ConfigError: runs to measure are named, too, or no run has results.
    """
    if not OmegaConf.is_missing(config, "run"):
        raise ConfigError(
            f"run={config.run} would be measured, and aggregate={config.aggregate} only gathered: leave one out."
        )
    if not is_main_process():
        return
    console, found = Screen(markup=False), {}
    for folder in (path for path in matching(config.aggregate) if path.is_dir()):
        if not (folder / results.FILE).is_file():
            console.print(f"left out {folder}: it has no {results.FILE}", soft_wrap=True, style="yellow")
            continue
        outcome = results.read(folder)
        found[str(folder)] = results.measured(outcome.get("metrics", {}))
        for name, numbers in outcome.get("evaluation", {}).items():
            found[str(folder)] |= results.named(name, numbers)
    if not found:
        raise ConfigError(
            f"aggregate={config.aggregate} fits no folder with {results.FILE}: name finished runs, by a pattern."
        )
    console.print(results.table(found))
    _write_table(found, config)


def analyse(config: DictConfig) -> None:
    """Answer a question about every run, write the answer down, draw it.

    Raises:
        ConfigError: the analysis does not fit the model or the data.
        CheckpointError: a folder holds no model, or none that fits.
    """
    quiet()
    trust.take(config)
    kind = HydraConfig.get().runtime.choices["analysis"]
    name = config.name = config.name or kind
    analysis, device = instantiate(config.analysis), choose_device(config.device)
    found: dict[str, Written] = {}
    networks: dict[str, str] = {}
    folders = find_runs(config.run)
    where = places(folders, config.out)
    for folder in track(folders, "Analysing runs", quiet=len(folders) == 1):
        subject = load_subject(folder, device, config, out=where[folder])
        found[str(folder)] = written = answer(subject, name, analysis)
        show_answer(written)
        networks[str(folder)] = subject.kind
        if "wandb" in (config.logger or {}):
            _log_to_wandb(config, where[folder] or folder, name, written)
    console = Screen(markup=False)
    numbers = {run: written.numbers for run, written in found.items()}
    console.print(results.table(numbers))
    show_places(where, console)
    if len(found) > 1:
        out = Path(config.out or f"{config.paths.outputs}/analysis/{name}")
        paths = list(results.write_summary(numbers, out))
        if kind in FIGURES_OF_ALL_RUNS:
            answers = [(networks[run], written.answer.numbers) for run, written in found.items()]
            for key, figure in FIGURES_OF_ALL_RUNS[kind](answers).items():
                paths += [save(figure, out / f"{key}.{end}") for end in FORMATS]
        show_files((("written", path) for path in paths), console)


def _fitting(config: DictConfig, subject: Subject) -> dict[str, Measure]:
    """The measures that fit a model, where none are named."""
    return build_measures(config, [*fitting(subject), *(["typicality"] if config.outside is not None else [])])


def _paired(found: Found, same: Mapping[str, Mapping[str, str]]) -> Found:
    """Of each run the numbers that were measured on what the first was."""
    first = next(iter(same.values()))
    return {
        run: {
            name: number
            for name, number in numbers.items()
            if (metric := name.partition("/")[0]) in first and same[run].get(metric) == first[metric]
        }
        for run, numbers in found.items()
    }


def _write_table(found: Found, config: DictConfig) -> None:
    plain = {run: results.values(numbers) for run, numbers in found.items()}
    out = Path(config.out or f"{config.paths.outputs}/evaluation")
    show_files(("table", path) for path in results.write_summary(plain, out))


def _log_to_wandb(config: DictConfig, folder: Path, name: str, written: Written) -> None:
    """Hand an answer to the W&B run of a folder, at the step where the run ended."""
    logger: Wandb = instantiate(config.logger.wandb)(save_dir=str(folder))
    logger.open()
    failed = True
    try:
        log_answer([logger], name, written, results.read(folder).get("steps"))
        failed = False
    finally:
        logger.finish(failed)
