"""The command ``analyse``: a question to one or many trained networks."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from iin_lightning.cli import trust
from iin_lightning.plots.style import save
from iin_lightning.printing import quiet, show_files
from iin_lightning.progress import Screen, track
from iin_lightning.questions import results
from iin_lightning.questions.answer import FORMATS, Written, answer
from iin_lightning.questions.dimensions import together
from iin_lightning.questions.results import table, write_summary
from iin_lightning.runs.beyond import log_answer
from iin_lightning.runs.locate import choose_device, find_runs, load_subject, places, show_places
from iin_lightning.runs.loggers import Wandb

FIGURES_OF_ALL_RUNS = {"dimensions": together}


def analyse(config: DictConfig) -> None:
    """Answer, write the answer down, draw it.

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
    kinds: dict[str, str] = {}
    folders = find_runs(config.run)
    where = places(folders, config.out)
    for folder in track(folders, "Analysing runs", quiet=len(folders) == 1):
        subject = load_subject(folder, device, config, out=where[folder])
        found[str(folder)] = answer(subject, name, analysis)
        kinds[str(folder)] = subject.kind
        _log(config, where[folder] or folder, name, found[str(folder)])
    console = Screen(markup=False)
    numbers = {run: written.numbers for run, written in found.items()}
    console.print(table(numbers))
    show_places(where, console)
    if len(found) > 1:
        out = Path(config.out or f"{config.paths.outputs}/analysis/{name}")
        paths = list(write_summary(numbers, out))
        if kind in FIGURES_OF_ALL_RUNS:
            figures = FIGURES_OF_ALL_RUNS[kind](
                [(kinds[run], written.answer.numbers) for run, written in found.items()]
            )
            paths += [save(figure, out / f"{key}.{end}") for key, figure in figures.items() for end in FORMATS]
        show_files((("written", path) for path in paths), console)


def _log(config: DictConfig, folder: Path, name: str, written: Written) -> None:
    """Hand an answer to W&B, if it is asked for: to the run of the folder, where it has one."""
    if "wandb" not in (config.logger or {}):
        return
    logger: Wandb = instantiate(config.logger.wandb)(save_dir=str(folder))
    logger.open()
    failed = True
    try:
        # Where the run ended, so that it stands in one chart with its other numbers.
        log_answer([logger], name, written, results.read(folder).get("steps"))
        failed = False
    finally:
        logger.finish(failed)
