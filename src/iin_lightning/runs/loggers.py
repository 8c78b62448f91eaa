"""Loggers of a run: ``metrics.csv`` in its folder, and Weights & Biases where it is asked for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from iin_lightning.bounded import read_json, read_text
from iin_lightning.cli.secrets import mask, plain
from iin_lightning.distributed import is_main_process
from iin_lightning.errors import ConfigError
from iin_lightning.questions import results
from iin_lightning.serialization import write_whole
from iin_lightning.training.interpret import Interpret
from iin_lightning.training.task import Task
from iin_lightning.trusted import UNSIGNED, is_own, sign

RUN = "wandb_run.json"
"""The file of a run folder that names its W&B run."""

STEP = "trainer/global_step"
LOSSES = (Task.monitor, Interpret.monitor)
"""Losses of which W&B's run table shows the least value beside the last."""

LONGEST = 128  # letters in the name of a W&B run


class Wandb(WandbLogger):
    """Lightning's logger for the W&B run of a run folder; opened there again, the same W&B run goes on.

    The run is closed by ``finish``, as failed if it did; the configuration has no secrets; ``log_model`` uploads the
    finished model. In a sweep the default group is the sweep, and the name says what the job varies. A second opening
    changes neither name nor group nor tags, which may have been changed by hand. Other options are those of Lightning's
    logger and of ``wandb.init``: entity, mode, notes, offline.

    Raises:
        ConfigError: ``log_model`` is neither true nor false.
    """

    def __init__(
        self,
        save_dir: str,
        project: str,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        log_model: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(log_model, bool):
            raise ConfigError(
                f"logger.wandb.log_model={log_model} is neither true (the finished model is uploaded) nor false."
            )
        self.file, self.log_finished = Path(save_dir) / RUN, log_model
        if known := _known(self.file):
            options |= known
        else:
            sweep = _sweep()
            options |= {"project": project, "group": group or sweep.get("group"), "job_type": job_type}
            options |= {"name": " ".join(filter(None, (name, sweep.get("job"))))[:LONGEST] or None, "tags": list(tags)}
        super().__init__(save_dir=save_dir, **options)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever it is

    def open(self, config: DictConfig | None = None) -> None:
        """Start the W&B run, or go on with it, in the first process only; W&B shows the configuration.

        Raises:
            ConfigError: W&B cannot be reached, or does not know the user.
        """
        with wandb_errors():
            run = self.experiment
        if not run.disabled:
            known = {"signature": UNSIGNED, "id": run.id, "project": run.project, "entity": run.entity or None}
            write_whole(self.file, sign(json.dumps(known) + "\n"))
        # All other numbers have their last value in the run table; Lightning makes the step the axis of everything.
        for name in LOSSES:
            run.define_metric(name, step_metric=STEP, step_sync=True, summary="min,last")
        run.define_metric("epoch", hidden=True)
        if config is not None:
            self.log_hyperparams(plain(config))

    def finish(self, failed: bool = False) -> None:
        """Close the W&B run."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(failed))


def build_loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """Build all loggers of the group, which write into the run folder and must be finished.

    Lightning's CSV logger begins a new file; that of a stopped run is kept as ``metrics.<n>.csv``.
    """
    metrics = folder / "metrics.csv"
    if metrics.exists() and is_main_process():
        metrics.rename(folder / f"metrics.{len(list(folder.glob('metrics.*.csv'))) + 1}.csv")
    loggers: list[Logger] = [instantiate(logger)(save_dir=str(folder)) for logger in config.logger.values()]
    try:
        for logger in loggers:
            if isinstance(logger, Wandb) and is_main_process():
                logger.open(config)
    except BaseException:
        finish(loggers, failed=True)
        raise
    return loggers


def finish(loggers: Sequence[Logger], failed: bool = False) -> None:
    """Close the runs of W&B: while a run is open, the next job of a sweep would write into it."""
    for logger in loggers:
        if isinstance(logger, Wandb):
            logger.finish(failed)


def log_numbers(loggers: Sequence[Logger], numbers: Mapping[str, float], step: int | None = None) -> None:
    """Give numbers to all loggers, and have them written at once."""
    for logger in loggers:
        logger.log_metrics(dict(numbers), step=step)
        logger.save()


def log_table(
    loggers: Sequence[Logger], name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int | None = None
) -> None:
    """Log a table to W&B, if the run is logged there, as ``tables/name``."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
            logger.log_metrics({f"tables/{name}": table}, step=step)  # type: ignore[dict-item]


def log_outcome(loggers: Sequence[Logger], outcome: Mapping[str, Any], folder: Path) -> None:
    """Log a finished run to W&B: its factor transfer as a table, and the model, if ``log_model`` asks for it."""
    if transfer := results.transfer_scores(outcome["metrics"]):
        (swapped, *concepts), rows = results.transfer_rows({name: score.value for name, score in transfer.items()})
        errors = results.transfer_rows({name: score.error for name, score in transfer.items()})[1]
        columns = [swapped, *concepts, *(f"{concept}/error" for concept in concepts)]
        rows = [row + error[1:] for row, error in zip(rows, errors)]
        log_table(loggers, "transfer", columns, rows, step=outcome["steps"])
    for logger in loggers:
        if isinstance(logger, Wandb) and logger.log_finished:
            import wandb  # noqa: PLC0415

            known = results.storable({key: value for key, value in outcome.items() if key != "figures"})
            artifact = wandb.Artifact(f"model-{logger.experiment.id}", type="model", metadata=known)
            artifact.add_dir(str(folder / "model"))
            logger.experiment.log_artifact(artifact)


def _known(file: Path) -> dict[str, str | None]:
    """Return the W&B run of a folder; {} if it has none, or another user has opened it."""
    if not file.is_file() or not is_own(read_text(file)):
        return {}
    known = dict(read_json(file))
    return {key: known[key] for key in ("id", "project", "entity")}


def _sweep() -> dict[str, str]:
    """Return the group of a sweep, and the name of this job, which says what it varies; {} outside of sweeps."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return {}
    hydra = HydraConfig.get()
    folder, parse = Path(hydra.sweep.dir), OverridesParser.create().parse_overrides
    job = str(hydra.job.num)
    if (file := folder / "multirun.yaml").is_file():  # not of every sweeper; it has the command line of the sweep
        typed = parse(list(OmegaConf.load(file).hydra.overrides.task))
        varied = {override.key_or_group for override in typed if override.is_sweep_override()}
        own = [override for override in parse(list(hydra.overrides.task)) if override.key_or_group in varied]
        job = " ".join(mask([str(override.input_line) for override in own]))
    return {"group": folder.name, "job": job}


@contextmanager
def wandb_errors() -> Iterator[None]:
    """Raise a ConfigError that says what to do where W&B cannot be reached, or does not know the user."""
    import wandb  # noqa: PLC0415  # takes a second, and only some runs want it

    try:
        yield
    except wandb.errors.Error as error:
        raise ConfigError(
            f"W&B says: {error}\nLog in (wandb login, or WANDB_API_KEY), or do without network: a run with "
            "WANDB_MODE=offline, and `wandb sync` later; a report with out=<file>."
        ) from error
