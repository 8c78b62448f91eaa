"""Hydra's own flags on a command line: which there are, what else stands there, and the user's folder."""

import sys
from argparse import ArgumentError, Namespace
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser


def parsed(arguments: Sequence[str]) -> Namespace:
    """What Hydra reads from a command line: its flags, and as ``overrides`` all else, in whatever order they stand.

    Raises:
        ArgumentError: a flag lacks its value, or has one that is not allowed.

    Example:
        >>> found = parsed(["data=mine", "--config-dir", "conf", "seed=0,1", "-m"])
        >>> found.overrides, found.config_dir, found.multirun
        (['data=mine', 'seed=0,1'], 'conf', True)
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    return parser.parse_known_intermixed_args(arguments)[0]


def flags_first(arguments: Sequence[str]) -> list[str]:
    """The same command line as Hydra can read it: it refuses values that stand behind a flag behind values.

    Example:
        >>> flags_first(["data=mine", "--config-dir", "conf", "seed=0,1", "-m"])
        ['--config-dir', 'conf', '-m', 'data=mine', 'seed=0,1']
    """
    flags, overrides = list(arguments), parsed(arguments).overrides
    for override in reversed(overrides):
        del flags[len(flags) - 1 - flags[::-1].index(override)]
    return [*flags, *overrides]


def user_folder() -> str | None:
    """The folder with the user's own choices, as it was typed behind ``--config-dir``; None where there is none."""
    try:
        folder: str | None = parsed(sys.argv[1:]).config_dir
    except ArgumentError:  # refused by check_arguments; or it is the command line of another program
        return None
    return folder


def names() -> list[str]:
    """All flags that Hydra knows."""
    return list(get_args_parser()._option_string_actions)


def is_unknown(name: str) -> bool:
    """Whether an argument, up to its equals sign, looks like a flag, but is none.

    Example:
        >>> [is_unknown(name) for name in ("--multi", "-rm", "-cjob", "seed", "-1")]
        [False, False, False, False, False]
        >>> [is_unknown(name) for name in ("--epochs", "-lr", "-model", "-images")]
        [True, True, True, True]
    """
    known = get_args_parser()._option_string_actions
    if not name.startswith("-") or not name.lstrip("-")[:1].isalpha() or name in known:
        return False
    if name.startswith("--"):
        return not any(flag.startswith(name) for flag in known)  # it may be shortened
    for i, letter in enumerate(name[1:], 2):  # -rm is -r -m, and -cjob is -c job
        flag = known.get(f"-{letter}")
        if flag is None:
            return True
        if flag.nargs != 0:
            return bool(name[i:]) and name[i:] not in (flag.choices or ())
    return False
