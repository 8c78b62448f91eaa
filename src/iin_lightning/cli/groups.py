"""The groups of ``conf/`` and their choices, as they can be typed."""

import re
from collections.abc import Iterator
from pathlib import Path

from iin_lightning.cli.flags import user_folder
from iin_lightning.cli.networks import PACKAGES
from iin_lightning.cli.paths import conf_folder

NESTED = r"(?:data|outside)(?:\.base)+"
"""Where the data set is chosen whose images are changed: data.base=celeba, which Hydra calls data@data.base=celeba."""


def as_typed(override: str) -> str:
    """An override, or its key, as a user types it.

    Example:
        >>> as_typed("data@data.base=celeba"), as_typed("data@outside=celeba")
        ('data.base=celeba', 'data@outside=celeba')
    """
    return re.sub(rf"^data@({NESTED})(?=$|=)", r"\1", override)


def nested_choice(argument: str) -> str:
    """What a user types of the data set whose images are changed, in Hydra's words; any other argument as it is.

    Example:
        >>> nested_choice("data.base=celeba"), nested_choice("outside.base.base=mnist,celeba")
        ('data@data.base=celeba', 'data@outside.base.base=mnist,celeba')
        >>> nested_choice("data.base.limit=7"), nested_choice("data.base={_target_: mine.Images}")
        ('data.base.limit=7', 'data.base={_target_: mine.Images}')
    """
    return re.sub(rf"^({NESTED})=(?=[\w(])(?!null$)", r"data@\1=", argument)


def group_of(key: str) -> str | None:
    """The group that a key chooses from; None if it is no group's.

    Example:
        >>> group_of("data"), group_of("data.base"), group_of("data@outside"), group_of("data.limit")
        ('data', 'data', 'data', None)
    """
    name = "data" if re.fullmatch(NESTED, key) else key.partition("@")[0]
    return name if is_group(name) else None


def group_choices(group: str) -> list[str]:
    """The choices of a group, those of the user's folder (``--config-dir``), too; none where there is no such group.

    Args:
        group: a folder of ``conf/``.

    Example:
        >>> group_choices("logger")
        ['csv', 'wandb']
        >>> group_choices("encoder")[-2:]
        ['torchvision/<name>', 'timm/<name>']
    """
    found = {path.stem for folder in _folders() for path in (folder / group).glob("*.yaml")}
    if group == "encoder":  # what a name completes is no choice without it
        return sorted(found - set(PACKAGES)) + [f"{package}/<name>" for package in PACKAGES]
    return sorted(found)


def choices_about(group: str) -> dict[str, str]:
    """The choices of a group with the comment that each yaml begins with, those of the user's folder, too.

    Example:
        >>> choices_about("metric")["disentanglement"]
        'MIG, SAP, DCI and modularity of whole factors.'
    """
    files = {path.stem: path for folder in _folders() for path in (folder / group).glob("*.yaml")}
    firsts = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in sorted(files.items())}
    return {name: first.lstrip("# ") if first.startswith("#") else "" for name, first in firsts.items()}


def is_group(name: str) -> bool:
    """Whether a name is that of a group.

    Example:
        >>> is_group("data/stylizer"), is_group("seed"), is_group("..")
        (True, False, False)
    """
    # No path of another folder: not /tmp, and not ..
    named = re.fullmatch(r"[\w-]+(/[\w-]+)*", name) is not None
    return named and any((folder / name).is_dir() for folder in _folders())


def groups_with(choice: str) -> list[str]:
    """The groups that have a choice of that name.

    Example:
        >>> groups_with("celeba")
        ['data']
    """
    tops = sorted({path.name for folder in _folders() for path in folder.iterdir() if path.is_dir()})
    return [group for group in tops if choice in group_choices(group)]


def _folders() -> Iterator[Path]:
    yield conf_folder()
    own = user_folder()
    if own is not None and Path(own).is_dir():
        yield Path(own)
