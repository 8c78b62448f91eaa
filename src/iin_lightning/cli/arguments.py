"""Arguments that Hydra would take for something else, or answer with its grammar or its usage."""

import re
import sys
from argparse import ArgumentError
from difflib import get_close_matches
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from iin_lightning.cli import flags
from iin_lightning.cli.groups import as_typed, group_choices, group_of, groups_with, is_group
from iin_lightning.cli.keys import ELSEWHERE, VALUE, elsewhere, exists, roots, tree_of
from iin_lightning.cli.typed import pasted
from iin_lightning.errors import ConfigError, choices


def check_arguments(config_name: str) -> None:
    """Refuse on the command line what Hydra would take for something else, or answer with its grammar or its usage.

    Raises:
        ConfigError: a flag or argument cannot be read, a choice is a number or missing, or a new key is at the root.
    """
    arguments = sys.argv[1:]
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise ConfigError(
                f"{argument!r} is not in UTF-8, in which runs write down what they are told: rename the folder or "
                "file, or name a link to it; where the terminal is not in UTF-8, set PYTHONUTF8=1."
            )
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.partition("=")
        if flags.is_unknown(name):
            typed = value if equals else "" if "=" in following or following.startswith("-") else following
            raise ConfigError(_flag(name, typed, config_name))
    try:
        found = flags.parsed(arguments)
    except ArgumentError as error:
        raise ConfigError(f"{error}. --hydra-help says more of flags.") from error
    if found.config_dir is not None and not Path(found.config_dir).is_dir():
        raise ConfigError(f"--config-dir {found.config_dir} is no folder: name the one that holds data/<name>.yaml.")
    if found.help:  # for which any word will do
        return
    bare = [word for word in found.overrides if "=" not in word[1:] and not word.startswith("~")]
    for word in (word for word in found.overrides if word not in bare):
        try:
            OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise ConfigError(_unreadable(*word.partition("=")[::2])) from error
    if bare:
        raise ConfigError(_bare(bare[0], config_name))
    for word in found.overrides:
        _check_override(word, config_name)


def _check_override(word: str, config_name: str) -> None:
    """Refuse a number in place of a choice, or none, and a new key at the root."""
    name, equals, value = word.partition("=")
    group = group_of(name)
    if equals and group and re.fullmatch(r"[\d.]*", value):
        raise ConfigError(f"There is no {as_typed(name)}={value}; {choices(value, group_choices(group))}.")
    added = re.fullmatch(r"\+{1,2}(\w+)", name)
    if equals and added and not is_group(added[1]) and added[1] not in (known := roots(config_name)):
        raise ConfigError(f"There is no {added[1]} to add at the root; {choices(added[1], known)}.")


def _unreadable(name: str, value: str) -> str:
    """Of key=value that is none in Hydra's grammar."""
    said = f"{name}={value} cannot be read"
    if re.fullmatch(r"[~+]{0,2}[\w/-]+(\.[\w/-]+)*(@[\w.]*)?", name) is None:
        return f"{said}: {name!r} is no key. --help all lists the keys."
    if value.startswith("="):
        return f"{said}: {name}={value.lstrip('=')}?"
    if value.startswith(("[", "{")) and not Path(value).exists():
        return f"{said}: does a bracket lack? All of it goes into quotes, as 'key=[a, b]' or 'key={{a: 1, b: 2}}'."
    cure = pasted(name, value)
    return f"{said}, for its letters have a meaning of their own: put quotes round the value, too, {cure}."


def _bare(word: str, config_name: str) -> str:
    """Of an argument without an equals sign, or without a key."""
    said = f"Arguments are key=value, and {word!r} has no {'key' if word.startswith('=') else 'equals sign'}"
    following = next((after for before, after in zip(sys.argv[1:], sys.argv[2:]) if before == word), "")
    following = following.removeprefix("=")
    known = roots(config_name)
    if "run" in known and ("--run", word) in zip(sys.argv[1:], sys.argv[2:]):
        return f"--run is a flag of Hydra's; the key is typed without dashes: {pasted('run', word)}"
    if (group := group_of(word)) is not None and following not in (names := group_choices(group)):
        return f"{said}: {word}=<choice>; allowed are: {', '.join(names)}."
    meant = f"{word}={following}" if group else _pair(word, following or VALUE, known)
    return f"{said}: {meant}?" if meant else f"{said}. --help lists the keys."


def _pair(word: str, following: str, known: list[str]) -> str | None:
    """The key=value that a word and the next one are, or that the word is the value of."""
    parts = re.fullmatch(r"(\w+)[/:](\w+)", word)  # data/celeba, as the file is called
    if parts and parts[2] in group_choices(parts[1]) and not Path(word).exists():
        return f"{parts[1]}={parts[2]}"
    if groups := [group for group in groups_with(word) if group in known]:
        return f"{groups[0]}={word}"
    if word in known:
        return f"{word}={following}"
    places = [key for key in ("run", "resume", "source") if key in known]
    if places and word and ("/" in word or Path(word).exists()):
        return pasted(places[0], word)
    near = get_close_matches(word, known, n=1)
    return f"{near[0]}={following}" if near else None


def _flag(name: str, value: str, config_name: str) -> str:
    """Of a key that was typed as a flag."""
    key = name.lstrip("-").replace("-", "_")
    said = f"There is no {name}: arguments are key=value, without dashes"
    tree = tree_of(config_name)
    if group_of(key) or exists(tree, key):
        return f"{said}: {key}={value or VALUE}."
    if near := get_close_matches(f"--{key.replace('_', '-')}", flags.names(), n=1, cutoff=0.8):
        return f"There is no {name}: did you mean {near[0]}?"
    near = get_close_matches(key, roots(config_name), n=1)
    meant = elsewhere(key, tree) if key in ELSEWHERE or not near else near[0]
    if meant is None:
        return f"{said}. --help lists them."
    typed = VALUE if key in ELSEWHERE else value or VALUE  # a number of epochs is no number of steps
    return f"{said}: {meant}={typed}?"
