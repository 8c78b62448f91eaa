"""What a training needs: its configuration and data, and the recipes of the networks that must be trained before it."""

import hashlib
import json
import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli.arguments import parsed, user_folder
from iin_lightning.cli.compose import compose_train, composed_with_hydra, group_choices
from iin_lightning.data.base import Split
from iin_lightning.data.module import DataModule
from iin_lightning.errors import ConfigError, choices
from iin_lightning.runs.build import check_numbers, check_trainer, class_concept

ROLES = {"encoder": "first_stage", "judge": "judge"}
"""Role of a network that a run needs -> the key that says where it comes from."""

STAGES = {"encoder": ("autoencode", "classify", "head"), "judge": ("classify",)}
"""What each may be trained as."""

SHARED = ("data", "trainer", "logger", "callbacks", "paths", "deterministic", "checkpoint", "on_nan")
"""What a network that is trained for a run takes over from the run."""

OWN = ("model", "encoder", "optimizer", "scheduler")
"""What is the network's own."""

INGREDIENTS = (*OWN, "seed", "on_nan")
"""What a model depends on, besides its data. Paths, loggers and workers change where it is made, not what it is."""

ELSEWHERE = (
    *("_target_", "accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm", "benchmark"),
    *("use_distributed_sampler", "enable_model_summary", "log_every_n_steps", "limit_test_batches"),
)
"""Settings of the trainer that say where it trains, and what is shown."""

SHOWN = ("progress", "rate", "histograms")
"""Callbacks that only show."""

SPLITS: tuple[Split, ...] = ("train", "val")
"""What a model is made of: training images, and those of validation, which tell the best weights."""


@dataclass(frozen=True)
class Recipe:
    """How a network comes about: by a training, from a model folder, or with weights of its own.

    Attributes:
        config: of the training.
        data: what its ``data`` say.
        stage: what is trained: autoencode, classify, head, interpret; None: nothing is.
        origin: what the run began with, where it goes on with other values; it says which other networks are needed.
        path: the model folder.
        role: what the network is to the run that needs it.
    """

    config: DictConfig
    data: DataModule
    stage: str | None
    origin: DictConfig
    path: Path | None = None
    role: str = "run"

    @classmethod
    def of(cls, config: DictConfig, origin: DictConfig | None = None) -> "Recipe":
        """The recipe that a configuration says, with its data; mistakes are found before these are read.

        Raises:
            ConfigError: a number, the trainer or the recipe of another network is wrong.
        """
        check_numbers(config.model, "model")
        for role, key in ROLES.items():
            if (needed := needed_config(config if origin is None else origin, role)) is not None:
                check_numbers(needed.model, f"{key}.model")
        check_trainer(config.trainer)
        data = instantiate(config.data)
        data.batch_size = config.model.batch_size
        return cls(config, data, config.model.stage, config if origin is None else origin)

    @property
    def encoder(self) -> "Recipe":
        """The recipe of the network that the run explains."""
        return self._needed("encoder")

    def judge(self, concept: str) -> "Recipe":
        """The recipe of an independent classifier by a concept.

        Raises:
            ConfigError: the configuration has none.
        """
        return self._needed("judge", concept)

    @property
    def concept(self) -> str | None:
        """The concept whose classes the network is told to tell, if it is told."""
        keys = ("first_stage.model.concept", "model.concept")
        return next((name for key in keys if (name := OmegaConf.select(self.origin, key)) is not None), None)

    def _needed(self, role: str, concept: str | None = None) -> "Recipe":
        origin, wish = self.origin, self.origin[ROLES[role]]
        here = replace(self, config=origin, stage=None, role=role)
        if wish.get("path") is not None:
            return replace(here, path=Path(wish.path))
        needed = needed_config(origin, role, concept)
        if needed is None and role == "encoder":
            return here
        if needed is None:
            raise ConfigError(
                "This run needs a trained judge, but says neither how to train it (judge.recipe) nor where it lies "
                "(judge.path=<model folder>)."
            )
        data = instantiate(needed.data) if "data" in wish else self.data
        return Recipe(needed, data, needed.model.stage, needed, role=f"{role} of {concept}" if concept else role)

    def key(self) -> str:
        """12 hexadecimal digits that change with anything that the trained model depends on.

        Files of weights are known by their bytes and data by their images, wherever they lie; where labels are learned,
        these and the names of their classes count, too.

        Raises:
            ConfigError: a classifier's data have no classes.
        """
        config = self.config
        parts: dict[str, Any] = {name: _content(OmegaConf.select(config, name)) for name in INGREDIENTS}
        concept = None if self.stage == "autoencode" else class_concept(config, self.data)
        parts["data"] = [self.data.fingerprint(split, concept) for split in SPLITS]
        parts["drawn"] = config.data.get("seed")
        parts["trainer"] = {k: v for k, v in _content(config.trainer).items() if k not in ELSEWHERE}
        parts["callbacks"] = {k: v for k, v in (_content(config.callbacks) or {}).items() if k not in SHOWN}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def needed_config(config: DictConfig, role: str, concept: str | None = None) -> DictConfig | None:
    """The configuration that trains an encoder or a judge for a run; None where a path or its own weights give it.

    Raises:
        ConfigError: there is no such recipe, it trains something else, or has no such key.
    """
    key = ROLES[role]
    wish = OmegaConf.to_container(config[key])
    assert isinstance(wish, dict)
    path, name = wish.pop("path", None), wish.pop("recipe", None)
    if path is not None or name is None:
        return None
    if name not in (known := group_choices("model")):
        raise ConfigError(f"There is no {key}.recipe={name}; {choices(str(name), known)}.")
    needed = deepcopy(_composed(name, user_folder()))
    for shared in SHARED:
        needed[shared] = config[shared]
    # An average of its weights is the network's own.
    needed.callbacks = {name: value for name, value in config.callbacks.items() if name != "ema"}
    if role == "encoder":
        needed.encoder = config.encoder
        needed.first_stage = {"recipe": None, "path": None}  # what comes first needs nothing before it
    needed.seed, needed.name = config.seed, "/".join(filter(None, (config.name, role, concept)))
    try:
        needed.merge_with(wish)
    except OmegaConfBaseException as error:
        parent, _, last = str(error.full_key).rpartition(".")
        there = OmegaConf.select(needed, parent) if parent else needed
        if not isinstance(there, DictConfig) or last in there:
            raise ConfigError(f"{key}.{error.full_key}: {str(error).partition(chr(10))[0]}.") from error
        raise ConfigError(f"There is no {key}.{error.full_key}; {choices(last, map(str, there))}.") from error
    if OmegaConf.select(needed, "model.stage") not in STAGES[role]:
        raise ConfigError(f"{key}.recipe={name} does not train what a run can use as its {role}: choose another one.")
    if role == "judge":
        needed.model.concept = concept
    return needed


@cache
def _composed(name: str, folder: str | None) -> DictConfig:
    """By itself; to compose it takes as long as many a step of training."""
    return compose_train(f"model={name}", config_dir=folder)


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


def show() -> None:
    """Print the configuration of a run, in which networks that are trained before it have all of their recipes.

    Raises:
        ConfigError: see ``needed_config``.
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """
    arguments = parsed(sys.argv[1:])
    config = composed_with_hydra("train", arguments.overrides, mode=RunMode.RUN)
    HydraConfig.instance().set_config(config)  # some values refer to it
    with open_dict(config):
        del config["hydra"]
        for role, key in ROLES.items():
            if (needed := needed_config(config, role)) is not None:
                # Resolved, for its values refer to keys of its own.
                whole = {name: OmegaConf.to_container(needed[name], resolve=True) for name in OWN}
                config[key] = OmegaConf.merge(config[key], whole)
    print(OmegaConf.to_yaml(config, resolve=arguments.resolve), end="")
