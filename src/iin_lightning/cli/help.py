"""What ``--help`` of a command says: ``hydra.help.template`` of its yaml, in which some paragraphs are computed.

``$GROUPS data model ...`` lists the choices of groups, with that of the command line in brackets; ``$LIST group
title`` the choices of one group with the first sentence of each yaml; and ``$OPTIONS``, above lines ``key  meaning``,
gives each key that there is its value. All else is printed as it stands.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from textwrap import fill

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue

from iin_lightning.cli.arguments import parsed
from iin_lightning.cli.compose import choice_files, composed_with_hydra, group_choices

WIDTH = 100
COLUMN = 28  # where the meaning of an option begins

FOOT = """\
Also
  {start} --help all      every key there is, with its value
  {start} ... --cfg job   print the configuration, and do nothing
  {start} --hydra-help    flags, such as -m for several values: seed=0,1,2
  iin {name} ... is the same command, which Tab completes after: eval "$(iin -sc install=bash)\""""


def is_asked() -> bool:
    """Say whether the command line asks for help."""
    return not {"-h", "--help"}.isdisjoint(sys.argv[1:])


def asks_for_recipe() -> bool:
    """Whether the command line asks for the whole recipe of a run (``--cfg job``)."""
    arguments = parsed(sys.argv[1:])
    return arguments.cfg == "job" and not arguments.package


def show(config_name: str) -> None:
    """Print the help of a command, under the overrides of the command line; with ``all`` there, all keys, too.

    Raises:
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """
    overrides = [argument for argument in parsed(sys.argv[1:]).overrides if "=" in argument]
    config = composed_with_hydra(config_name, overrides)  # also where what only a user knows is missing
    HydraConfig.instance().set_config(config)  # some values refer to it
    choices = config.hydra.runtime.choices
    template = str(config.hydra.help.template)
    start = f"python -m {config.hydra.help.app_name}"
    with open_dict(config):
        del config["hydra"]
    print(render(template, config, choices), FOOT.format(start=start, name=config_name), sep="\n\n")
    if "all" in sys.argv[1:]:
        print("\nAll keys (key.subkey=value)", OmegaConf.to_yaml(config), sep="\n")


def render(template: str, config: DictConfig, choices: DictConfig) -> str:
    r"""Return the words of a template, with the values of a configuration and the choices (group -> choice) it took.

    Example:
        >>> config = OmegaConf.create({"model": {"steps": 1800}, "run": "???", "name": None})
        >>> text = "What it does.\n\n$OPTIONS\nmodel.steps  of training\nrun  a folder\nname  of a folder"
        >>> print(render(text, config, OmegaConf.create()))
        What it does.
        <BLANKLINE>
        Options (key=value) that matter most
          model.steps=1800          of training
          run=<needed>              a folder
          name=null                 of a folder
    """
    return "\n\n".join(_paragraph(part, config, choices) for part in template.strip().split("\n\n"))


def _paragraph(text: str, config: DictConfig, choices: DictConfig) -> str:
    first, *lines = text.split("\n")
    if first.startswith("$GROUPS"):
        return _table("Groups (group=choice), what is taken now in brackets", _groups(first.split()[1:], choices))
    if first.startswith("$LIST"):
        _, group, title = first.split(maxsplit=2)
        return _table(title, {name: _said(path) for name, path in sorted(choice_files(group).items())})
    if first.startswith("$OPTIONS"):
        options = (line.split(maxsplit=1) for line in lines)
        rows = {f"{key}={_value(config, key)}": meaning.split() for key, meaning in options if _has(config, key)}
        return _table("Options (key=value) that matter most", rows, COLUMN)
    return text


def _table(title: str, rows: Mapping[str, Iterable[str]], column: int = 0) -> str:
    """Heads with words behind each, wrapped, from a column on; below a head that is too long."""
    column = column or max(map(len, rows), default=0) + 4
    lines = [title]
    for head, words in rows.items():
        start, indent = f"  {head}", " " * column
        if len(start) >= column:
            lines.append(start)
            start = ""
        text = fill(
            " ".join(words),
            WIDTH,
            initial_indent=start.ljust(column),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines.append(text)
    return "\n".join(lines)


def _groups(names: list[str], taken: DictConfig) -> dict[str, Iterable[str]]:
    rows: dict[str, Iterable[str]] = {}
    for group in names:
        choices, choice = group_choices(group), taken.get(group)
        if choice is not None and f"{choice.partition('/')[0]}/<name>" in choices:  # a network by its name
            choices = [*choices, choice]
        rows[group] = [f"[{name}]" if name == choice else name for name in choices]
    return rows


def _said(path: Path) -> list[str]:
    """The first sentence of the comment at the head of a yaml."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.lstrip("# ") for line in lines if not line.startswith("# @"))
    return re.split(r"[.;](?= [A-Z]|$)", text)[0].split()


def _has(config: DictConfig, key: str) -> bool:
    """Whether there is such a key under these choices: an autoencoder has no model.factors."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118  "in" wants a value, too


def _value(config: DictConfig, key: str) -> str:
    """As it would be typed."""
    try:
        value = OmegaConf.select(config, key, throw_on_missing=True)
    except MissingMandatoryValue:
        return "<needed>"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, ListConfig):
        return f"[{','.join(map(str, value))}]"
    return "{...}" if isinstance(value, DictConfig) else str(value)
