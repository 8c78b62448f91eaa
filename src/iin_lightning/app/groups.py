"""The groups of ``conf/`` and their choices, as they can be typed."""

import sys
from collections.abc import Iterator
from pathlib import Path

from iin_lightning.app.networks import PACKAGES
from iin_lightning.app.paths import conf_folder


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


def is_group(name: str) -> bool:
    """Whether a name is that of a group.

    Example:
        >>> is_group("data/stylizer"), is_group("seed")
        (True, False)
    """
    return bool(name) and any((folder / name).is_dir() for folder in _folders())


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
    arguments = sys.argv[1:]
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd") and Path(value if equals else following).is_dir():
            yield Path(value if equals else following)
