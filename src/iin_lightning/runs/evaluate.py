"""The command ``evaluate``: numbers into each run's results, and a table over several."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from iin_lightning.cli import trust
from iin_lightning.distributed import is_main_process, process_group
from iin_lightning.errors import ConfigError, choices
from iin_lightning.metrics.measured import Measured
from iin_lightning.printing import quiet, show_files
from iin_lightning.progress import Screen, track
from iin_lightning.questions import results
from iin_lightning.questions.measures import MEASURES, TOGETHER, comparable, fitting, measure
from iin_lightning.questions.results import (
    FILE,
    difference_table,
    differences,
    measured,
    named,
    table,
    values,
    write_summary,
)
from iin_lightning.questions.subject import Subject
from iin_lightning.runs.locate import choose_device, find_runs, load_subject, matching, places, show_places


def evaluate(config: DictConfig) -> None:
    """Measure every run, write the numbers down, and show them; or gather those that runs have.

    Of the processes that torchrun starts, all measure what can be shared out, and the first does the rest.

    Raises:
        ConfigError: there is no such metric, or it does not fit the model; nothing to gather.
        CheckpointError: a folder holds no model.
    """
    quiet()
    trust.take(config)
    if not is_main_process():
        warnings.simplefilter("ignore")  # the first process says the same
    if config.aggregate is not None:
        aggregate(config)
        return
    for name in config.metric or ():
        if name not in MEASURES:
            raise ConfigError(f"There is no metric {name!r}; {choices(name, MEASURES)}.")
    folders, device = find_runs(config.run), choose_device(config.device)
    written = places(folders, config.out)
    found: dict[str, dict[str, Measured]] = {str(folder): {} for folder in folders}
    same: dict[str, dict[str, str]] = {}
    together = [name for name in config.metric or () if name in TOGETHER]
    if is_main_process():
        for folder in track(folders, "Evaluating runs", quiet=len(folders) == 1):
            subject = load_subject(folder, device, config, out=written[folder])
            found[str(folder)] |= _alone(subject, config)
            same[str(folder)] = comparable(subject) if len(folders) > 1 else {}
    if together:
        with process_group(device):
            alone = len(folders) == 1 or not is_main_process()
            for folder in track(folders, "Evaluating runs together", quiet=alone):
                subject = load_subject(folder, device, config, out=written[folder])
                for name in together:
                    found[str(folder)] |= measure(name, subject, config)
    if not is_main_process():
        return
    console = Screen(markup=False)
    console.print(table(found))
    if apart := differences(_paired(found, same)):
        console.print(difference_table(apart, str(folders[0])))
    show_places(written, console)
    if len(folders) > 1:
        _write(found, config)


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
    console = Screen(markup=False)
    found: dict[str, dict[str, Measured]] = {}
    for folder in (path for path in matching(config.aggregate) if path.is_dir()):
        if not (folder / FILE).is_file():
            console.print(f"left out {folder}: it has no {FILE}", soft_wrap=True, style="yellow")
            continue
        outcome = results.read(folder)
        found[str(folder)] = measured(outcome.get("metrics", {}))
        for name, numbers in outcome.get("evaluation", {}).items():
            found[str(folder)] |= named(name, numbers)
    if not found:
        raise ConfigError(f"aggregate={config.aggregate} fits no folder with {FILE}: name finished runs, by a pattern.")
    console.print(table(found))
    _write(found, config)


def _paired(
    found: Mapping[str, Mapping[str, Measured]], same: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Measured]]:
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


def _alone(subject: Subject, config: DictConfig) -> dict[str, Measured]:
    """What is done before the processes meet, for what trains or computes among several would wait for the others."""
    found: dict[str, Measured] = {}
    for name in config.metric or fitting(subject, config):
        if name in TOGETHER:
            TOGETHER[name](subject, config)
        else:
            found |= measure(name, subject, config)
    return found


def _write(found: Mapping[str, Mapping[str, Measured]], config: DictConfig) -> None:
    plain = {run: values(numbers) for run, numbers in found.items()}
    out = Path(config.out or f"{config.paths.outputs}/evaluation")
    show_files(("table", path) for path in write_summary(plain, out))
