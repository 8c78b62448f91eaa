"""What a user probably meant, where a command line does not compose."""

import re
import shlex
import sys
from difflib import get_close_matches

from omegaconf import DictConfig, OmegaConf

from iin_lightning.cli.groups import as_typed, group_choices, group_of, is_group
from iin_lightning.cli.keys import VALUE, elsewhere, roots, tree_of
from iin_lightning.cli.networks import PACKAGES
from iin_lightning.errors import MissingExtraError, choices

# Choices of Hydra's own groups that come with a package.
PLUGINS = {
    "launcher/joblib": "hydra-joblib-launcher",
    "launcher/submitit_local": "hydra-submitit-launcher",
    "launcher/submitit_slurm": "hydra-submitit-launcher",
    "sweeper/optuna": "hydra-optuna-sweeper",
}

OPEN = ("first_stage", "judge", "evaluation", "analyses")  # what is changed of the recipe of another


def hint(text: str, config_name: str) -> str:
    """What to say instead of Hydra's error: the cure, with the names that there are; its own text where none is known.

    Args:
        text: of the error.
        config_name: the primary file in ``conf/``.
    """
    if (unknown := re.search(r"Could not (?:find|load) '([\w/]+?)/(\S+)'", text)) is not None:
        return _choice(*unknown.groups()) or text
    if (nested := re.search(r"Could not override 'data@(\S+)\.base'", text)) is not None:
        where = nested[1]
        return f"{where} changes no images of another data set, as {where}=gray does: leave out {where}.base."
    if (key := re.search(r"Could not override '((?!hydra\.)[^']+)'", text)) is not None:
        return _key(key[1], config_name)
    return _number_of_values(text) or text


def _number_of_values(text: str) -> str | None:
    """Of none where one is needed, and of several where one is allowed."""
    if (missing := re.match(r"Missing mandatory value: (\S+)", text)) is not None:
        return f"{text}\nOnly you know it, so there is no default: add {missing[1]}=<value>."
    if (several := re.match(r"(?s)Ambiguous value for argument '([^=]+)=(.*?)'\n", text)) is not None:
        name, value = as_typed(several[1]), several[2]
        as_list = shlex.quote(f"{name}=[{value}]")
        return f"{name}={value} is more than one value: add -m to go through them, or make a list, {as_list}."
    if (twice := re.match(r"Multiple values for ([\w/@.]+)\.", text)) is not None:
        return f"{as_typed(twice[1])} has more than one choice: name one, without a plus before it."
    return None


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
        meant = f"{near[0]}/{network or '<name>'}"
        return f"There is no {group}={name}; allowed are: {', '.join(known)} (did you mean {meant}?)."
    return f"There is no {_key_of(group, name)}={name}; {choices(name, known)}." if known else ""


def _key_of(group: str, choice: str) -> str:
    """What was typed for a choice of a group: data.base, and not data, if it was taken there."""
    typed = (argument.rpartition("=") for argument in sys.argv[1:])
    return next((as_typed(key) for key, _, value in typed if value == choice and group_of(key) == group), group)


def _key(key: str, config_name: str) -> str:
    """Of a key that does not exist: those beside it, and the one that was probably meant."""
    tree = tree_of(config_name)
    if key.partition(".")[0] in OPEN:
        return f"There is no {key!r} yet: +{key}={VALUE} adds it."
    parent, names = key.rpartition("@")[2].rpartition(".")[0], key.rpartition(".")[2]
    while parent and not isinstance(OmegaConf.select(tree, parent), DictConfig):
        parent, _, names = parent.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    known = [str(name) for name in node if not str(name).startswith("_")] if parent else roots(config_name)
    said = f"There is no {key!r}: in {parent or 'the configuration'} {choices(names, known)}"
    meant = None if get_close_matches(names, known, n=1) else elsewhere(key, tree)
    return f"{said} (did you mean {meant}?)." if meant else f"{said}."
