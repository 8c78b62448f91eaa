"""One sentence for what a user can cure: a mistyped command line, an error within Hydra's, a file that is refused."""

import errno
import re
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli.arguments import as_typed, parsed
from iin_lightning.cli.compose import PACKAGES, composed, composed_with_hydra, group_choices, group_of, is_group
from iin_lightning.cli.paths import conf_folder
from iin_lightning.errors import ConfigError, IINError, MissingExtraError, ResourceError, choices
from iin_lightning.printing import pasted

VALUE = "<value>"
"""What a user fills in."""

OPEN = ("first_stage", "judge", "evaluation", "analyses")
"""Keys that change the recipe of something else; what they change is added."""

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_arguments(config_name: str) -> None:
    """Refuse arguments that Hydra would take for something else, or answer with its grammar.

    Raises:
        ConfigError: a flag or argument cannot be read, a group has no such choice, or a new key is at the root.
    """
    try:
        found = parsed(sys.argv[1:])
    except ArgumentError as error:
        raise ConfigError(f"{error}. --hydra-help says more of flags.") from error
    if found.unknown:
        raise ConfigError(_unknown_flag(found.unknown[0], config_name))
    if not found.help:  # for which any word will do
        for word in found.overrides:
            _check_override(word, config_name)


def _check_override(word: str, config_name: str) -> None:
    key, equals, value = word.partition("=")
    if not key or not (equals or word.startswith("~")):
        raise ConfigError(_bare(word, config_name))
    try:
        OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(
            f"{word} cannot be read: lists and mappings need all of their brackets, and quotes round them, "
            f"'key=[a, b]'; other values with such letters need two pairs of quotes, {pasted(key, value)}."
        ) from error
    if (group := group_of(key)) and value != "[]":
        for name in value.strip("[]").split(","):
            if wrong := _unknown_choice(group, name.strip(), as_typed(key)):
                raise ConfigError(wrong)
    added = re.fullmatch(r"\+{1,2}(\w+)", key)
    if added and not group and added[1] not in (known := roots(config_name)):
        raise ConfigError(f"There is no {added[1]} to add at the root; {choices(added[1], known)}.")


def _unknown_choice(group: str, name: str, key: str) -> str | None:
    """Of a choice that a group does not have; of networks each package knows its own."""
    package, slash, network = name.partition("/")
    known = group_choices(group)
    unknown = known and re.fullmatch(r"[\w./-]*", name) and name not in (*known, "null")
    if not unknown or is_group(f"{group}/{package}") or (slash and package in PACKAGES):
        return None
    if slash and group == "encoder" and (near := get_close_matches(package, PACKAGES, n=1)):
        return f"There is no {key}={name}; allowed are: {', '.join(known)} (did you mean {near[0]}/{network}?)."
    return f"There is no {key}={name}; {choices(name, known)}."


def _bare(word: str, config_name: str) -> str:
    """Of an argument that is no key=value: a path is most often a run's, a word the choice of a group."""
    said = f"Arguments are key=value, and {word!r} has no {'key' if word.startswith('=') else 'equals sign'}"
    known = roots(config_name)
    if "run" in known and ("/" in word or (word and Path(word).exists())):
        return f"{said}: {pasted('run', word)}?"
    meant = [f"{group}={word}" for group in known if is_group(group) and word in group_choices(group)]
    meant += [f"{near}={VALUE}" for near in get_close_matches(word.strip("="), known, n=1)]
    return f"{said}: {meant[0]}?" if meant else f"{said}. --help lists the keys."


def _unknown_flag(flag: str, config_name: str) -> str:
    name, _, value = flag.lstrip("-").replace("-", "_").partition("=")
    tree = tree_of(config_name)
    keys = {**dict(_leaves(tree)), **{key: key for key in roots(config_name, tree)}}
    near = get_close_matches(name, keys, n=1)
    meant = f": {keys[near[0]]}={value or VALUE}?" if near else ". --help lists them, --hydra-help the flags."
    return f"There is no {flag.partition('=')[0]}: arguments are key=value, without dashes{meant}"


def suggestion(text: str, config_name: str) -> str:
    """Return the cure of an error that Hydra gives for a command line, with the names that there are; else its text."""
    cure = text
    if found := re.match(r"Missing mandatory value: (\S+)", text):
        cure = f"{found[1]} has no default, since only you know it: add {found[1]}={VALUE}."
    elif found := re.match(r"(?s)Ambiguous value for argument '([^=]+)=(.*?)'\n", text):
        name, value = as_typed(found[1]), found[2]
        as_list = shlex.quote(f"{name}=[{value}]")
        cure = f"{name}={value} is more than one value: add -m to go through them, or make a list, {as_list}."
    elif found := re.match(r"Multiple values for ([\w/@.]+)\.", text):
        cure = f"{as_typed(found[1])} has more than one choice: name one, without a plus before it."
    elif found := re.search(r"Could not find 'hydra/((launcher|sweeper)/(joblib|submitit|optuna)\w*)'", text):
        cure = str(MissingExtraError(f"hydra-{found[3]}-{found[2]}", "sweeps", found[1]))
    elif found := re.search(r"Could not find '([\w/]+?)/(\S+)'", text):  # in a yaml's list of defaults
        cure = _unknown_choice(found[1], found[2], found[1]) or text
    elif found := re.search(r"Could not override 'data@(\S+)\.base'", text):
        name = found[1]
        cure = f"{name} changes no images of another data set, as {name}=gray does: leave out {name}.base."
    elif found := re.search(r"Could not override '((?!hydra\.)[^']+)'", text):
        cure = _unknown_key(found[1], config_name)
    return cure


def _unknown_key(key: str, config_name: str) -> str:
    """Of a key that does not exist: those beside it, and the nearest of all."""
    if key.partition(".")[0] in OPEN:
        return f"There is no {key!r} yet: +{key}={VALUE} adds it."
    tree = tree_of(config_name)
    parent, names = key.rpartition("@")[2].rpartition(".")[0], key.rpartition(".")[2]
    while parent and not isinstance(OmegaConf.select(tree, parent), DictConfig):
        parent, _, names = parent.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    known = [str(name) for name in node if not str(name).startswith("_")] if parent else roots(config_name, tree)
    said = f"There is no {key!r}: in {parent or 'the configuration'} {choices(names, known)}"
    leaves = dict(_leaves(tree))
    near = [] if get_close_matches(names, known, n=1) else get_close_matches(key.rpartition(".")[2], leaves, n=1)
    return f"{said} (did you mean {leaves[near[0]]}?)." if near else f"{said}."


def tree_of(config_name: str) -> DictConfig:
    """Return the configuration that the choices on the command line make, as far as they exist."""
    groups = [argument for argument in sys.argv[1:] if "=" in argument and group_of(argument.partition("=")[0])]
    try:
        tree = composed_with_hydra(config_name, groups)
    except (HydraException, OmegaConfBaseException):
        return composed(config_name, [])
    OmegaConf.set_struct(tree, False)
    del tree["hydra"]
    return tree


def roots(config_name: str, tree: DictConfig | None = None) -> list[str]:
    """Return the keys at the root, and the groups that leave no key there."""
    tree = tree_of(config_name) if tree is None else tree
    defaults = OmegaConf.select(OmegaConf.load(conf_folder() / f"{config_name}.yaml"), "defaults")
    groups = [str(key) for entry in defaults if isinstance(entry, DictConfig) for key in entry]
    return list(dict.fromkeys([*map(str, tree), *filter(is_group, groups)]))


def _leaves(tree: DictConfig) -> Iterator[tuple[str, str]]:
    """Name -> key of all values; of two of the same name the first of the tree is the last here, and so is kept."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, str]]:
        for key, value in reversed(node.items()):
            if isinstance(value, dict):
                yield from walk(value, f"{path}{key}.")
            elif not str(key).startswith("_"):
                yield str(key), f"{path}{key}"

    return walk(OmegaConf.to_container(tree), "")


def sentence(error: BaseException) -> IINError | None:
    """Return what a user can cure in an error; what a constructor says of its arguments is wrapped by Hydra.

    Example:
        >>> sentence(IINError("Only positive numbers are allowed."))
        IINError('Only positive numbers are allowed.')
    """
    cause: BaseException | None = error
    while isinstance(cause, HydraException | OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__  # a resolver's has no cause
    return cause if isinstance(cause, IINError) else None


def refused(error: BaseException, config: Mapping[str, Any]) -> ResourceError | None:
    """Return what to do about a file that may not be read or written, if that is the error.

    The ``paths`` of the configuration name the folders that can be chosen.

    Example:
        >>> error = PermissionError(errno.EACCES, "Permission denied", "cache/latents")
        >>> str(refused(error, {"paths": {"cache": "cache"}}))
        'cache/latents cannot be read or written (Permission denied): name another folder, paths.cache=<folder>.'
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    if cause is None or cause.errno not in REFUSED or cause.filename is None:
        return None
    file = Path(cause.filename)
    folders = {key: Path(folder).resolve() for key, folder in (config.get("paths") or {}).items()}
    key = next((f"paths.{key}" for key, folder in folders.items() if file.resolve().is_relative_to(folder)), "")
    if "out" in config and key in ("", "paths.outputs"):
        key = "out"
    cure = f"name another folder, {key}=<folder>" if key else "change its permissions, or name another one"
    return ResourceError(f"{file} cannot be read or written ({cause.strerror}): {cure}.")
