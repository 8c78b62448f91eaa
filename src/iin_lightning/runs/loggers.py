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
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.questions import results
from iin_lightning.serialization import write_whole
from iin_lightning.training.interpret import Interpret
from iin_lightning.training.task import Task
from iin_lightning.trusted import UNSIGNED, is_own, sign

RUN = "wandb_run.json"
"""Of a run folder: which W&B run is its own."""

STEP = "trainer/global_step"
LOSSES = (Task.monitor, Interpret.monitor)
"""What a run table shows the least of, beside the last."""

MOST = 128  # letters in the name of a W&B run


class Wandb(WandbLogger):
    """A W&B run that belongs to a run folder: opened there a second time, it is the same one and goes on.

    Lightning's logger with its names and steps, and with what it lacks: the run is closed by ``finish``, as failed if
    it did; the configuration has no secrets; ``log_model`` uploads the finished model and not what lies in
    ``checkpoints/``. A second opening changes neither name nor group nor tags, which may have been changed by hand.

    Args:
        save_dir: the run folder.
        project: of W&B; for a folder whose run is known it is that run's.
        name: of the W&B run; in a sweep with what the job varies.
        group: of W&B runs; None stands for the sweep, where there is one.
        job_type: of the W&B run.
        tags: of the W&B run.
        log_model: upload the finished model folder as an artifact.
        options: of Lightning's logger and of ``wandb.init``: entity, mode, notes, offline.
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
            options |= {"name": " ".join(filter(None, (name, sweep.get("job"))))[:MOST] or None, "tags": list(tags)}
        super().__init__(save_dir=save_dir, **options)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever it is

    def open(self, config: DictConfig | None = None) -> None:
        """Start the W&B run, or go on with it, in the first process alone.

        Args:
            config: of the run, which W&B shows.

        Raises:
            ConfigError: W&B cannot be reached, or does not know who this is.
        """
        with wandb_errors():
            run = self.experiment
        if not run.disabled:
            known = {"signature": UNSIGNED, "id": run.id, "project": run.project, "entity": run.entity or None}
            write_whole(self.file, sign(json.dumps(known) + "\n"))
        # All else has its last value in the run table; Lightning makes the step the axis of everything.
        for name in LOSSES:
            run.define_metric(name, step_metric=STEP, step_sync=True, summary="min,last")
        run.define_metric("epoch", hidden=True)  # there is only one
        if config is not None:
            self.log_hyperparams(plain(config))

    def finish(self, failed: bool = False) -> None:
        """Close the W&B run."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(failed))


def build_loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """All loggers of the group, writing into the run folder. What is built must be finished.

    Lightning's CSV logger begins a new file; what a stopped run has logged is kept as ``metrics.<n>.csv``.
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
    """Close the runs of W&B, which knows one at a time: else the next job of a sweep would write into this one's."""
    for logger in loggers:
        if isinstance(logger, Wandb):
            logger.finish(failed)


def log_numbers(loggers: Sequence[Logger], numbers: Mapping[str, float], step: int | None = None) -> None:
    """Hand numbers to all loggers, and have them written at once."""
    for logger in loggers:
        logger.log_metrics(dict(numbers), step=step)
        logger.save()


def log_table(
    loggers: Sequence[Logger],
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    step: int | None = None,
) -> None:
    """Hand a table to W&B, if a run is logged there, as ``tables/name``."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # noqa: PLC0415

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
            logger.log_metrics({f"tables/{name}": table}, step=step)  # type: ignore[dict-item]


def log_outcome(loggers: Sequence[Logger], outcome: Mapping[str, Any], folder: Path) -> None:
    """Hand to W&B what a finished run has: its factor transfer as a table, and the model, if that is asked for."""
    if transfer := results.transfer_scores(outcome["metrics"]):
        (swapped, *concepts), rows = results.transfer_rows({name: score.value for name, score in transfer.items()})
        errors = results.transfer_rows({name: score.error for name, score in transfer.items()})[1]
        columns = [swapped, *concepts, *(f"{concept}/error" for concept in concepts)]
        log_table(
            loggers, "transfer", columns, [row + error[1:] for row, error in zip(rows, errors)], step=outcome["steps"]
        )
    for logger in loggers:
        if isinstance(logger, Wandb) and logger.log_finished:
            import wandb  # noqa: PLC0415

            known = results.storable({key: value for key, value in outcome.items() if key != "figures"})
            artifact = wandb.Artifact(f"model-{logger.experiment.id}", type="model", metadata=known)
            artifact.add_dir(str(folder / "model"))
            logger.experiment.log_artifact(artifact)


def _known(file: Path) -> dict[str, str | None]:
    """The W&B run of a folder; nothing where there is none, or where another user has opened it."""
    if not file.is_file():
        return {}
    try:
        known = dict(read_json(file))
        return {key: known[key] for key in ("id", "project", "entity")} if is_own(read_text(file)) else {}
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} is damaged ({error}): put a copy of it back, or move it away; the run then goes on as another one "
            "of W&B."
        ) from error


def _sweep() -> dict[str, str]:
    """Of a job in a sweep: the group of all, and what this one varies; nothing elsewhere."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return {}
    hydra = HydraConfig.get()
    folder, parse = Path(hydra.sweep.dir), OverridesParser.create().parse_overrides
    job = str(hydra.job.num)
    if (file := folder / "multirun.yaml").is_file():  # not of every sweeper; it has the command line of the sweep
        said = parse(list(OmegaConf.load(file).hydra.overrides.task))
        varied = {override.key_or_group for override in said if override.is_sweep_override()}
        own = [override for override in parse(list(hydra.overrides.task)) if override.key_or_group in varied]
        job = " ".join(mask([str(override.input_line) for override in own]))
    return {"group": folder.name, "job": job}


@contextmanager
def wandb_errors() -> Iterator[None]:
    """Say what can be done where W&B cannot be reached, or does not know who this is.

    Raises:
        ConfigError: instead of what W&B raises.
    """
    import wandb  # noqa: PLC0415  # takes a second, and only some runs want it

    try:
        yield
    except wandb.errors.Error as error:
        raise ConfigError(
            f"W&B says: {error}\nLog in (wandb login, or WANDB_API_KEY), or do without network: a run with "
            "WANDB_MODE=offline, and `wandb sync` later; a report with out=<file>."
        ) from error
