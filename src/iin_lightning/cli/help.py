"""What ``--help`` of a command says: its words are ``hydra.help.template`` of its yaml, its defaults those of the yaml.

Of the template, a paragraph ``$GROUPS data model ...`` becomes the choices of these groups, with that of the command
line in brackets, ``$LIST metric Title`` the choices of a group with the first line of each yaml, and in a paragraph
``$OPTIONS`` of lines ``key  meaning`` each key that there is gets its value. All else is printed as it stands.
"""

import sys
from collections.abc import Iterable
from textwrap import fill

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue

from iin_lightning.cli.compose import composed_with_hydra
from iin_lightning.cli.flags import parsed
from iin_lightning.cli.groups import choices_about, group_choices

WIDTH = 100
COLUMN = 28  # where the meaning of an option begins
FLAGS = {"-h", "--help"}
ALL = "all"

FOOT = """\
Also
  {start} --help all      every key there is, with its value
  {start} ... --cfg job   print the configuration, and do nothing
  {start} --hydra-help    flags, such as -m for several values: seed=0,1,2
  iin {name} ... is the same command, which Tab completes after: eval "$(iin -sc install=bash)\""""


def is_asked() -> bool:
    """Whether the command line asks for help."""
    return not FLAGS.isdisjoint(sys.argv[1:])


def show(config_name: str) -> None:
    """Print the help of a command; with ``all`` on the command line, all keys, too.

    Args:
        config_name: the primary file in ``conf/``. Values and choices are those of the overrides on the command line.

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
    if ALL in sys.argv[1:]:
        print("\nAll keys (key.subkey=value)", OmegaConf.to_yaml(config), sep="\n")


def render(template: str, config: DictConfig, choices: DictConfig) -> str:
    r"""The words of a template.

    Args:
        template: see above.
        config: of which the values are shown.
        choices: group -> choice.

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
        names = first.split()[1:]
        width = max(map(len, names)) + 2  # a gap behind the longest
        rows = [_row(name, _shown_choices(name, choices.get(name)), width + 2) for name in names]
        return "\n".join(["Groups (group=choice), what is taken now in brackets", *rows])
    if first.startswith("$LIST"):
        _, group, title = first.split(maxsplit=2)
        about = choices_about(group)
        width = max(map(len, about)) + 4
        return "\n".join([title, *(_row(name, text.split(), width) for name, text in about.items())])
    if first.startswith("$OPTIONS"):
        options = [(key, meaning.split()) for key, meaning in (line.split(maxsplit=1) for line in lines)]
        rows = [_row(f"{key}={_value(config, key)}", words, COLUMN) for key, words in options if _has(config, key)]
        return "\n".join(["Options (key=value) that matter most", *rows])
    return text


def _shown_choices(group: str, taken: str | None) -> list[str]:
    names = group_choices(group)
    known = [name.partition("/")[0] for name in names]
    if taken is not None and "/" in taken and taken.partition("/")[0] in known:
        names = [*names, taken]
    return [f"[{name}]" if name == taken else name for name in names]


def _row(head: str, words: Iterable[str], column: int) -> str:
    """Words behind a head, wrapped, from a column on; below a head that is too long."""
    indent, start = " " * column, f"  {head}"
    fits = len(start) < column
    text = fill(
        " ".join(words),
        WIDTH,
        initial_indent=start.ljust(column) if fits else indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return text if fits else f"{start}\n{text}"


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
