"""Values in arguments: quoted so that Hydra reads them back, and ``~`` for the home folder, which few shells expand."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, ListConfig, OmegaConf

# A value, or an entry of a list, that begins in the home folder: up to what ends it, or behind a quotation mark.
_HOME = re.compile(r"(?<=[=,\[])(\s*)~(/[^,\]\"']*)?(?=[,\]]|$)")
_HOME_IN_QUOTES = re.compile(r"(?<=[=,\[])(\s*)([\"'])~(/[^\"']*)?\2")


# What needs no quotes: a path with a slash, or a word; else it might be a number.
PLAIN = r"[\w.-]*/[\w./-]*|[A-Za-z_][\w.-]*|\.+"
VALUES = ("null", "true", "false", "inf", "nan")


def quoted(text: str) -> str:
    r"""A text as Hydra reads it back, whatever letters it has.

    Example:
        >>> print(quoted("outputs/mine"), quoted("Null"), quoted(r"my, own\${x}"))
        outputs/mine "Null" "my, own\\\${x}"
    """
    if re.fullmatch(PLAIN, text, re.ASCII) and text.lower() not in VALUES:
        return text
    # Else what stands in braces would be the name of a value.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return str(QuotedString(text, Quote.double).with_quotes())


def argument(key: str, value: Path | str) -> str:
    """``key=value`` as Hydra reads it back.

    Example:
        >>> argument("run", Path("outputs/cats, dogs"))
        'run="outputs/cats, dogs"'
    """
    return f"{key}={quoted(str(value))}"


def pasted(key: str, value: Path | str) -> str:
    """The same as a shell reads it, for a sentence.

    Example:
        >>> print(pasted("resume", "outputs/a"), pasted("resume", "outputs/cats, dogs"))
        resume=outputs/a 'resume="outputs/cats, dogs"'
    """
    return shlex.quote(argument(key, value))


def from_home(typed: str) -> str:
    """An argument whose ``~`` is the home folder.

    Example:
        >>> from_home("images=[~/a.png, ~/b.png]") == f"images=[{quoted(os.path.expanduser('~/a.png'))}, " + (
        ...     f"{quoted(os.path.expanduser('~/b.png'))}]"
        ... )
        True
        >>> from_home("name=a~b"), from_home("~logger")
        ('name=a~b', '~logger')
    """
    home = os.path.expanduser("~")
    if typed.startswith("--"):  # no grammar of Hydra's
        return re.sub(r"(?<==)~(?=/|$)", lambda _: home, typed)
    typed = _HOME_IN_QUOTES.sub(lambda found: found[1] + quoted(home + (found[3] or "")), typed)
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
