"""What a user probably meant, where a command line does not compose."""

import re
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.app.groups import group_choices, groups_with, is_group
from iin_lightning.app.networks import PACKAGES
from iin_lightning.app.paths import conf_folder
from iin_lightning.errors import ConfigError, MissingExtraError, choices

# Choices of Hydra's own groups that come with a package.
PLUGINS = {
    "launcher/joblib": "hydra-joblib-launcher",
    "launcher/submitit_local": "hydra-submitit-launcher",
    "launcher/submitit_slurm": "hydra-submitit-launcher",
    "sweeper/optuna": "hydra-optuna-sweeper",
}

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
OPEN = ("first_stage", "judge", "evaluation", "analyses")  # what is changed of the recipe of another
TAKING_VALUES = ("-c", "-p", "-i")  # short flags of Hydra behind which a value may stand at once


def composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a command, without running it."""
    if GlobalHydra.instance().is_initialized():
        return compose(config_name, list(overrides))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose(config_name, list(overrides))


def check_arguments(config_name: str) -> None:
    """Refuse on the command line what Hydra would take for something else, or answer with its own flags.

    Raises:
        ConfigError: an unknown flag, a number in place of a choice, or a new key at the root.
    """
    arguments = sys.argv[1:]
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.partition("=")
        if _is_unknown_flag(name):
            typed = value if equals else "" if "=" in following or following.startswith("-") else following
            raise ConfigError(_flag(name, typed, config_name))
        if equals and is_group(name) and re.fullmatch(r"[\d.]+", value):
            raise ConfigError(f"There is no {name}={value}; {choices(value, group_choices(name))}.")
        added = re.fullmatch(r"\+{1,2}(\w+)", name)
        if equals and added and not is_group(added[1]) and added[1] not in (known := _roots(config_name)):
            raise ConfigError(f"There is no {added[1]} to add at the root; {choices(added[1], known)}.")


def hint(text: str, config_name: str) -> str:
    """What to say instead of Hydra's error: the cure, with the names that there are; its own text where none is known.

    Args:
        text: of the error.
        config_name: the primary file in ``conf/``.
    """
    if (unknown := re.search(r"Could not find '([\w/]+?)/(\S+)'", text)) is not None:
        return _choice(*unknown.groups()) or text
    if (missing := re.match(r"Missing mandatory value: (\S+)", text)) is not None:
        return f"{text}\nOnly you know it, so there is no default: add {missing[1]}=<value>."
    if (bare := re.match(r"(?s)Error parsing override '(.*?)'\s+missing EQUAL", text)) is not None:
        return _bare(bare[1], config_name)
    if (nested := re.search(r"Could not override 'data@(\S+)\.base'", text)) is not None:
        where = nested[1]
        return f"{where} changes no images of another data set, as {where}=gray does: leave out {where}.base."
    if (key := re.search(r"Could not override '([^']+)'", text)) is not None:
        return _key(key[1], config_name) or text
    return text


def _choice(group: str, name: str) -> str:
    """Of a choice that a group does not have."""
    while not is_group(group) and "/" in name:  # the group may have a slash itself
        head, _, name = name.partition("/")
        group = f"{group}/{head}"
    inner, _, last = name.rpartition("/")
    if inner and is_group(f"{group}/{inner}"):
        group, name = f"{group}/{inner}", last
    if group.startswith("hydra/"):
        plugin = f"{group.removeprefix('hydra/')}/{name}"
        return str(MissingExtraError(PLUGINS[plugin], "sweeps", group)) if plugin in PLUGINS else ""
    known = group_choices(group)
    package, slash, network = name.partition("/")
    if group == "encoder" and slash and (near := get_close_matches(package, PACKAGES, n=1)):
        return f"There is no {group}={name}; allowed are: {', '.join(known)} (did you mean {near[0]}/{network}?)."
    return f"There is no {group}={name}; {choices(name, known)}." if known else ""


def _bare(word: str, config_name: str) -> str:
    """Of an argument without an equals sign."""
    said = f"Arguments are key=value, and {word!r} has no equals sign"
    following = next((after for before, after in zip(sys.argv[1:], sys.argv[2:]) if before == word), "")
    if is_group(word):
        known = group_choices(word)
        meant = following if following in known else None
        return f"{said}: {word}={meant}?" if meant else f"{said}: {word}=<choice>; allowed are: {', '.join(known)}."
    known = _roots(config_name)
    if "run" in known and ("--run", word) in zip(sys.argv[1:], sys.argv[2:]):
        return f"--run is a flag of Hydra's; the key is typed without dashes: run={word}"
    if groups := [group for group in groups_with(word) if group in known]:
        return f"{said}: {groups[0]}={word}?"
    if word in known:
        return f"{said}: {word}={following or VALUE}?"
    places = [key for key in ("run", "resume", "source") if key in known]
    if places and Path(word).exists():
        return f"{said}: {places[0]}={word}?"
    near = get_close_matches(word, known, n=1)
    return f"{said}: {near[0]}={following or VALUE}?" if near else f"{said}. --help lists the keys."


def _key(key: str, config_name: str) -> str:
    """Of a key that does not exist: those beside it, and the one that was probably meant."""
    tree = _tree(config_name)
    if key.partition(".")[0] in OPEN:
        return f"There is no {key!r} yet: +{key}={VALUE} adds it."
    parent, names = key.rpartition("@")[2].rpartition(".")[0], key.rpartition(".")[2]
    while parent and not isinstance(OmegaConf.select(tree, parent), DictConfig):
        parent, _, names = parent.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    known = [str(name) for name in node if not str(name).startswith("_")] if parent else _roots(config_name)
    said = f"There is no {key!r}: in {parent or 'the configuration'} {choices(names, known)}"
    meant = None if get_close_matches(names, known, n=1) else _elsewhere(key, tree)
    return f"{said} (did you mean {meant}?)." if meant else f"{said}."


def _elsewhere(key: str, tree: DictConfig) -> str | None:
    """The key of the same name that lies at another place."""
    parts = key.split(".")
    if (known := ELSEWHERE.get(parts[-1])) is not None and _exists(tree, known):
        return known
    for i in range(1, len(parts) - 1):
        if _exists(tree, ".".join(parts[i:])):
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


def _exists(tree: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118  "in" wants a value, too


def _is_unknown_flag(name: str) -> bool:
    known = get_args_parser()._option_string_actions
    if not re.match(r"--?[a-zA-Z]", name) or name in known:
        return False
    if name.startswith("--"):
        return not any(flag.startswith(name) for flag in known)  # it may be shortened
    return len(name) > 3 and not name.startswith(TAKING_VALUES)  # -mr is -m -r


def _flag(name: str, value: str, config_name: str) -> str:
    """Of a key that was typed as a flag."""
    key = name.lstrip("-").replace("-", "_")
    said = f"There is no {name}: arguments are key=value, without dashes"
    tree = _tree(config_name)
    if is_group(key) or _exists(tree, key):
        return f"{said}: {key}={value or VALUE}."
    near = get_close_matches(key, _roots(config_name), n=1)
    meant = _elsewhere(key, tree) if key in ELSEWHERE or not near else near[0]
    if meant is None:
        return f"{said}. --help lists them."
    typed = VALUE if key in ELSEWHERE else value or VALUE  # a number of epochs is no number of steps
    return f"{said}: {meant}={typed}?"


def _roots(config_name: str) -> list[str]:
    """The keys at the root, and the groups that leave no key there."""
    defaults = OmegaConf.select(OmegaConf.load(conf_folder() / f"{config_name}.yaml"), "defaults")
    groups = [str(key) for entry in defaults if isinstance(entry, DictConfig) for key in entry]
    keys = map(str, _tree(config_name).keys())
    return list(dict.fromkeys([*keys, *(group for group in groups if is_group(group))]))


def _tree(config_name: str) -> DictConfig:
    """The configuration that the choices on the command line make, as far as they exist."""
    # Groups (data=celeba) decide which keys there are; values (data.seed=1) do not.
    # One that a sweep goes through is left out, as Hydra does when it reads the values.
    said = [a for a in sys.argv[1:] if "=" in a and "," not in a]
    groups = [a for a in said if is_group(re.split("[@=]", a)[0])]
    try:
        return composed(config_name, groups)
    except (HydraException, OmegaConfBaseException):
        return composed(config_name, [])
