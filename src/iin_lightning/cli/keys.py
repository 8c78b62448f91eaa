"""The keys that a command has, under the choices that its command line makes."""

import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli.compose import composed, composed_with_hydra
from iin_lightning.cli.groups import group_of, is_group
from iin_lightning.cli.paths import conf_folder

# What other programs call our keys.
ELSEWHERE = {
    "epochs": "model.steps",
    "num_epochs": "model.steps",
    "max_epochs": "model.steps",
    "learning_rate": "model.lr",
    "gpus": "trainer.devices",
    "output": "paths.outputs",
    "output_dir": "paths.outputs",
    "data_dir": "paths.data",
    "checkpoint_path": "resume",
}

VALUE = "<value>"
"""What a user fills in."""


def tree_of(config_name: str) -> DictConfig:
    """The configuration that the choices on the command line make, as far as they exist."""
    # Groups (data=celeba) decide which keys there are; values (data.seed=1) do not.
    groups = [argument for argument in sys.argv[1:] if "=" in argument and group_of(argument.partition("=")[0])]
    try:
        tree = composed_with_hydra(config_name, groups)
    except (HydraException, OmegaConfBaseException):
        return composed(config_name, [])
    with open_dict(tree):
        del tree["hydra"]
    return tree


def roots(config_name: str) -> list[str]:
    """The keys at the root, and the groups that leave no key there."""
    defaults = OmegaConf.select(OmegaConf.load(conf_folder() / f"{config_name}.yaml"), "defaults")
    groups = [str(key) for entry in defaults if isinstance(entry, DictConfig) for key in entry]
    keys = map(str, tree_of(config_name).keys())
    return list(dict.fromkeys([*keys, *(group for group in groups if is_group(group))]))


def exists(tree: DictConfig, key: str) -> bool:
    """Whether there is such a key, whatever its value."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118  "in" wants a value, too


def elsewhere(key: str, tree: DictConfig) -> str | None:
    """The key of the same name that lies at another place."""
    parts = key.split(".")
    if (known := ELSEWHERE.get(parts[-1])) is not None and exists(tree, known):
        return known
    for i in range(1, len(parts) - 1):
        if exists(tree, ".".join(parts[i:])):
            return ".".join(parts[i:])
    places = dict(_leaves(OmegaConf.to_container(tree), ""))
    near = get_close_matches(parts[-1], places, n=1)
    return places[near[0]] if near else None


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Name -> where it is decided: an entry that refers to another is decided there."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        elif not str(key).startswith("_"):
            refers = re.fullmatch(r"\$\{([\w.]+)\}", str(value))
            yield str(key), refers[1] if refers else f"{path}{key}"
