"""``report to=wandb``: a workspace for what runs log."""

import json
from pathlib import Path

from omegaconf import DictConfig

from iin_lightning.errors import ConfigError
from iin_lightning.printing import show_files
from iin_lightning.progress import Screen
from iin_lightning.reporting.workspace import layout, logged, packages
from iin_lightning.runs.locate import find_runs
from iin_lightning.runs.loggers import wandb_errors

LATEST = 50
"""Runs of a project that are asked for names."""


def to_wandb(config: DictConfig) -> None:
    """Lay out a workspace, and save it at W&B or as a file.

    Raises:
        ConfigError: W&B cannot be reached, or the project has no runs.
        CheckpointError: ``run`` names no finished run.
        MissingExtraError: wandb-workspaces is not installed.
    """
    packages()
    names = set[str]().union(*map(logged, find_runs(config.run))) if config.run is not None else None
    if config.out is not None:
        if names is None:
            raise ConfigError("out=<file> is written without network: name runs for its panels, run=<run folder>.")
        view = layout(names, config.project, config.entity or "", config.name)._to_model()
        out = Path(config.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(
            json.dumps(view.model_dump(by_alias=True, exclude_none=True, mode="json"), indent=2) + "\n",
            encoding="utf-8",
        )
        show_files([("layout", out)])
        return
    with wandb_errors():
        import wandb  # noqa: PLC0415

        api = wandb.Api()
        entity = config.entity or api.default_entity or ""
        if names is None:
            runs = api.runs(f"{entity}/{config.project}", per_page=LATEST)[:LATEST]
            names = set[str]().union(*(run.summary.keys() for run in runs))
        if not names:
            raise ConfigError(f"{entity}/{config.project} has no runs yet: train with logger=wandb first.")
        workspace = layout(names, config.project, entity, config.name)
        workspace.save()
        Screen().print(f"written  {workspace.url}", soft_wrap=True)
