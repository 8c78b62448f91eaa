"""The recipes of networks that a run needs: by which they are trained, where the model store lacks them."""

import sys
from copy import deepcopy
from functools import cache

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli.arguments import parsed, user_folder
from iin_lightning.cli.compose import compose_train, composed_with_hydra, group_choices
from iin_lightning.errors import ConfigError, choices

WISHES = {"encoder": "first_stage", "judge": "judge"}
"""Role of a network -> the key that says where it comes from."""

# What each may be trained as.
STAGES = {"encoder": ("autoencode", "classify", "head"), "judge": ("classify",)}

# What a network that is trained for a run takes over from it. Its recipe is its own.
SHARED = ("data", "trainer", "logger", "callbacks", "paths", "deterministic", "checkpoint", "on_nan")

# What a recipe is made of, besides.
INGREDIENTS = ("model", "encoder", "optimizer", "scheduler")


def recipe(config: DictConfig, role: str, concept: str | None = None) -> DictConfig | None:
    """The configuration that trains a network which a run needs; None where a path or its own weights give it.

    Args:
        config: of the run.
        role: "encoder" or "judge".
        concept: of the judge.

    Raises:
        ConfigError: there is no such recipe, it trains something else, or has no such key.
    """
    key = WISHES[role]
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
    # So is an average of its weights.
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


def is_asked() -> bool:
    """Whether the command line asks for the whole recipe of a run (``--cfg job``)."""
    arguments = parsed(sys.argv[1:])
    return arguments.cfg == "job" and not arguments.package


def show() -> None:
    """Print the configuration of a run, in which networks that are trained before it have all of their recipes.

    Raises:
        ConfigError: see ``recipe``.
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """
    arguments = parsed(sys.argv[1:])
    config = composed_with_hydra("train", arguments.overrides, mode=RunMode.RUN)
    HydraConfig.instance().set_config(config)  # some values refer to it
    with open_dict(config):
        del config["hydra"]
        for role, key in WISHES.items():
            if (needed := recipe(config, role)) is not None:
                # Resolved, for its values refer to keys of its own.
                whole = {name: OmegaConf.to_container(needed[name], resolve=True) for name in INGREDIENTS}
                config[key] = OmegaConf.merge(config[key], whole)
    print(OmegaConf.to_yaml(config, resolve=arguments.resolve), end="")
