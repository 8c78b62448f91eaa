"""How a command line is read: Hydra's flags, ``~`` for the home folder, and ``data.base=`` as users type it."""

import os
import re
import sys
from argparse import ArgumentError, Namespace
from collections.abc import Iterable, Sequence
from typing import Any

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, ListConfig, OmegaConf

from iin_lightning.printing import quoted

NESTED = r"(?:data|outside)(?:\.base)+"
"""Where the data set is chosen whose images are changed: data.base=celeba, which Hydra calls data@data.base=celeba."""

# What another training keeps. An experiment names a data set and changes it, and so does trainer=smoke.
CARRIED = r"[+~]*(?:(?:data|paths|trainer)(?:[./@][^=]*)?|experiment|seed)(?:=|$)"

# A value, or an entry of a list, that begins in the home folder: up to what ends it.
_HOME = re.compile(r"(?<=[=,\[])(\s*)~(/[^,\]\"']*)?(?=[,\]]|$)")


def parsed(arguments: Sequence[str]) -> Namespace:
    """Return Hydra's flags, all other arguments as ``overrides``, and flags that Hydra does not know as ``unknown``.

    Raises:
        ArgumentError: a flag lacks its value, or has a value that is not allowed.

    Example:
        >>> found = parsed(["data=mine", "--config-dir", "conf", "seed=0,1", "-m", "--epochs"])
        >>> found.overrides, found.config_dir, found.multirun, found.unknown
        (['data=mine', 'seed=0,1'], 'conf', True, ['--epochs'])
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    found, unknown = parser.parse_known_intermixed_args(arguments)
    found.unknown = unknown
    return found


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the same command line as Hydra can read it: it refuses values behind a flag behind values.

    Example:
        >>> flags_first(["data=mine", "--config-dir", "conf", "seed=0,1", "-m"])
        ['--config-dir', 'conf', '-m', 'data=mine', 'seed=0,1']
    """
    flags, overrides = list(arguments), parsed(arguments).overrides
    for override in reversed(overrides):
        del flags[len(flags) - 1 - flags[::-1].index(override)]
    return [*flags, *overrides]


def user_folder() -> str | None:
    """Return the folder with the user's own choices, as it was typed behind ``--config-dir``, if any."""
    try:
        folder: str | None = parsed(sys.argv[1:]).config_dir
    except ArgumentError:  # the command line of another program
        return None
    return folder


def as_typed(override: str) -> str:
    """Return an override, or its key, as a user types it.

    Example:
        >>> as_typed("data@data.base=celeba"), as_typed("data@outside=celeba")
        ('data.base=celeba', 'data@outside=celeba')
    """
    return re.sub(rf"^data@({NESTED})(?=$|=)", r"\1", override)


def nested_choice(argument: str) -> str:
    """Return the choice of the data set whose images are changed in Hydra's words; any other argument as it is.

    Example:
        >>> nested_choice("data.base=celeba"), nested_choice("outside.base.base=mnist,celeba")
        ('data@data.base=celeba', 'data@outside.base.base=mnist,celeba')
        >>> nested_choice("data.base.limit=7"), nested_choice("data.base={_target_: mine.Images}")
        ('data.base.limit=7', 'data.base={_target_: mine.Images}')
    """
    return re.sub(rf"^({NESTED})=(?=[\w(])(?!null$)", r"data@\1=", argument)


def carried(overrides: Iterable[str], config_dir: str | None) -> list[str]:
    """Return the arguments by which another training takes the same data on the same hardware, as a user types them.

    Example:
        >>> carried(["data=gray", "data@data.base=mine", "+data.x=3", "model=sup", "seed=1"], "conf")
        ['--config-dir', 'conf', 'data=gray', 'data.base=mine', '+data.x=3', 'seed=1']
    """
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    return folder + [as_typed(override) for override in overrides if re.match(CARRIED, override)]


def from_home(typed: str) -> str:
    """Return an argument whose ``~``, which few shells expand behind an equals sign, is the home folder.

    Example:
        >>> from_home("images=[~/a.png, b.png]") == f"images=[{quoted(os.path.expanduser('~/a.png'))}, b.png]"
        True
        >>> from_home("name=a~b"), from_home("~logger")
        ('name=a~b', '~logger')
    """
    home = os.path.expanduser("~")
    if typed.startswith("--"):  # no grammar of Hydra's
        return re.sub(r"(?<==)~(?=/|$)", lambda _: home, typed)
    return _HOME.sub(lambda found: found[1] + quoted(home + re.sub(r"\\(.)", r"\1", found[2] or "")), typed)


def expand_home(config: DictConfig) -> None:
    """Let ``~`` at the beginning of a value be the home folder, in place: in a user's yaml, too.

    Example:
        >>> config = OmegaConf.create({"paths": {"data": "~/data"}, "root": "${paths.data}/faces"})
        >>> expand_home(config)
        >>> config.root == os.path.expanduser("~/data/faces")
        True
    """
    _expand(config, OmegaConf.to_container(config))


def _expand(node: DictConfig | ListConfig, content: Any) -> None:
    """With the content as it stands: interpolations are not resolved."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, dict | list):
            _expand(node[key], value)
        elif isinstance(value, str) and re.match(r"~(/|$)", value):
            node[key] = os.path.expanduser(value)
