"""The model store: frozen encoders and judges, trained once and used by every run that needs them."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from iin_lightning.data.base import Split
from iin_lightning.data.module import DataModule
from iin_lightning.disk import check_writable
from iin_lightning.distributed import is_main_process, job_name
from iin_lightning.errors import ConfigError
from iin_lightning.runs.build import class_concept
from iin_lightning.serialization import STRUCTURE

# What a model depends on, besides its data. Paths, loggers and workers change where it is made, not what it is.
INGREDIENTS = ("model", "encoder", "optimizer", "scheduler", "seed", "on_nan")
ELSEWHERE = (
    *("_target_", "accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "benchmark"),
    *("use_distributed_sampler", "enable_model_summary", "log_every_n_steps", "limit_test_batches"),
)
"""Of the trainer's settings those that say where, and what is shown of it."""

SHOWN = ("progress", "rate", "histograms")
"""Callbacks that only show."""
SPLITS: tuple[Split, ...] = ("train", "val")
"""What a model is made of: training images, and those of validation, which tell the best weights."""

PACKAGED = Path(str(files("iin_lightning"))) / "assets" / "models"
"""A store inside the package, of what the defaults explain and judge (`make assets`): a first run trains T alone."""

KEPT = ("Encoders and judges", "name another folder, paths.models=<folder>")

POLL = 0.2  # seconds

log = logging.getLogger(__name__)


def recipe_key(config: DictConfig, data: DataModule) -> str:
    """12 hexadecimal digits that change with anything that the trained model depends on.

    Files of weights are known by their bytes and data by their images, wherever they lie; where labels are learned,
    these and the names of their classes count, too.

    Args:
        config: the recipe.
        data: what its ``data`` say.

    Raises:
        ConfigError: a classifier's data have no classes.
    """
    recipe: dict[str, Any] = {name: _content(OmegaConf.select(config, name)) for name in INGREDIENTS}
    concept = None if config.model.stage == "autoencode" else class_concept(config, data)
    recipe["data"] = [data.fingerprint(split, concept) for split in SPLITS]
    recipe["drawn"] = config.data.get("seed")
    recipe["trainer"] = {k: v for k, v in _content(config.trainer).items() if k not in ELSEWHERE}
    recipe["callbacks"] = {k: v for k, v in (_content(config.callbacks) or {}).items() if k not in SHOWN}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def _content(value: Any) -> Any:
    """A value with the bytes of each file that it names in place of the path."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict):
        return {key: _content(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_content(entry) for entry in value]
    if isinstance(value, str) and (path := Path(value).expanduser()).is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return value


class ModelStore:
    """Folders of finished models by name and recipe.

    Args:
        root: ``paths.models``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, config: DictConfig, data: DataModule) -> Path:
        """Where the model of a recipe lies, or will lie; see ``recipe_key``."""
        return self.root / f"{type(data).__name__.lower()}-{config.model.stage}-{recipe_key(config, data)}"

    @staticmethod
    def is_complete(folder: Path) -> bool:
        """Whether a model was written to its end; its structure is written last."""
        return (folder / "model" / STRUCTURE).is_file()

    def get(self, folder: Path, train: Callable[[Path], Any]) -> Path:
        """The model folder, from here or the package, or trained now; jobs that need the same wait for one another.

        Args:
            folder: from ``folder``.
            train: makes the model in a run folder; continues where an earlier call was stopped.
        """
        for place in (folder, PACKAGED / folder.name):
            if self.is_complete(place):
                return place / "model"
        check_writable(self.root, *KEPT)
        self.root.mkdir(parents=True, exist_ok=True)
        trainer = Path(f"{folder}.trainer")  # says which job's processes train it
        if not is_main_process():
            # Whether to train is for the first process to say: another job may have finished the model since it looked.
            if self._begins(folder, trainer):
                train(folder)
            return folder / "model"
        with FileLock(f"{folder}.lock"):
            if not self.is_complete(folder):
                trainer.write_text(job_name(), encoding="utf-8")
                try:
                    train(folder)
                finally:
                    trainer.unlink(missing_ok=True)
        return folder / "model"

    def _begins(self, folder: Path, trainer: Path) -> bool:
        """Wait until the first process of this job trains a model, or it is complete: whether to train along."""
        own, parent = job_name(), os.getppid()
        while not self.is_complete(folder):
            with suppress(FileNotFoundError):
                if trainer.read_text(encoding="utf-8") == own:
                    return True
            if os.getppid() != parent:
                raise SystemExit("The process that started this one is gone.")
            time.sleep(POLL)
        return False

    def publish(self, run: Path, folder: Path) -> None:
        """Copy a finished run's model into the store, unless its recipe is there, or say that the store takes none."""
        if self.is_complete(folder):
            return
        try:
            check_writable(self.root, *KEPT)
        except ConfigError as error:
            log.warning("%s Until then this model is in the folder of its run alone.", error)
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            shutil.copytree(run / "model", partial / "model")
            for name in ("config.yaml", "results.json"):
                shutil.copy(run / name, partial / name)
            if not self.is_complete(folder):
                shutil.rmtree(folder, ignore_errors=True)
                partial.replace(folder)
