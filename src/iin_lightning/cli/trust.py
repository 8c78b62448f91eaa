"""Configurations from elsewhere: what was trained is taken from them, not how, and only known code is run.

A run folder may come from anyone. Its ``config.yaml`` names classes and functions, which Hydra imports and calls. A
file that this user has written carries a signature and is taken as it stands. From any other only the keys of ``WHAT``
are taken, into a configuration of this project's own ``conf/``, after a check: the code that they name must be named by
a yaml of ``conf/``, too, or be a class of a package that is listed here or trusted by the user.
"""

import inspect
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.bounded import read_text
from iin_lightning.cli.paths import conf_folder
from iin_lightning.errors import CheckpointError
from iin_lightning.serialization import trust
from iin_lightning.trusted import BUILT_FROM, cure, home, is_own, lies_in, package_of, trusted, trusted_code

GROUPS = ("data", "model", "encoder", "flow", "optimizer", "scheduler", "analysis")
"""Groups of ``conf/`` that say what is trained and asked."""

WHAT = (*GROUPS[:-1], "first_stage", "judge", "evaluation", "analyses", "latents", "name", "seed")
"""Keys that are taken from a configuration from elsewhere. This machine decides where and how: paths, loggers,
callbacks, the trainer, when to write a state."""

OTHERS = ("first_stage", "judge", "evaluation")
"""Keys that change the configuration of something else."""

LARGEST, DEEPEST = 1 << 20, 64  # bytes and levels of a configuration

CLASSES = (
    *(f"iin_lightning.{room}" for room in ("encoders", "flows", "losses")),
    "torch.nn",
    "torch.optim",
    "torchvision.transforms",
)
"""Where classes are built from, whoever asks for them."""

FUNCTIONS = ("torchvision.transforms",)
"""Where functions are called from, besides those of ``conf/``."""

TARGET, POSITIONAL = "_target_", "_args_"
NAMES_CODE = ("target",)
"""Keys whose values name a class, besides Hydra's own: encoder.network.target."""

_KEY = re.compile(r"\$\{[\w.\[\]-]+\}")
"""An interpolation of a key. Those of resolvers could read the environment, or make up what they name."""


def take(config: DictConfig) -> None:
    """Trust in this process the packages that a composed command line names: in ``trust=``, and by what it builds."""
    known = {package_of(name) for name in (*BUILT_FROM, *CLASSES, "pytorch_lightning")}  # not all of it is harmless
    entries = _entries(OmegaConf.to_container(config))
    typed = {package_of(value) for key, value in entries if key in _CODE and _is_code(value)}
    trust(*(name for name in config.trust or () if not _is_folder(name)), *sorted(typed - known))


def trusts(config: DictConfig, folder: Path) -> bool:
    """Say whether ``trust=`` of a command line names a folder, which has a slash; a package has none."""
    return any(_is_folder(name) and Path(name).resolve() == folder.resolve() for name in config.trust or ())


def _is_folder(name: str) -> bool:
    return re.search(r"[/\\]", name) is not None


def load(path: Path) -> tuple[DictConfig, bool]:
    """Return a configuration of a run folder as it stands there, and whether this user has written it.

    Raises:
        CheckpointError: it is damaged.
    """
    again = "copy it again from where the run was made, or train anew"
    try:
        text = read_text(path, LARGEST)
        _check_shape(text)
        config = OmegaConf.create(text)
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes lead to many kinds
        why = " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            why = f"line {error.problem_mark.line + 1}: {error.problem}"  # and not the line itself, which may be secret
        raise CheckpointError(f"{path} is no configuration, or damaged ({why:.400}): {again}.") from error
    if not isinstance(config, DictConfig):
        raise CheckpointError(f"{path} is no configuration, but a list: {again}.")
    return config, is_own(text)


def _check_shape(text: str) -> None:
    """Refuse yaml that would take for ever to read: aliases, of which a few stand for a lot, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # one by one, and no further than the first fault
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise ValueError(f"it has aliases (*name), or more than {DEEPEST} levels")


def adopted(theirs: DictConfig, base: DictConfig, origin: Path) -> DictConfig:
    """Return ``base``, a configuration of this machine, with what the unresolved ``theirs`` says of what is trained.

    Errors name ``origin``, the file of ``theirs``.

    Raises:
        CheckpointError: it names code that is not trusted, or does not fit this version.
    """
    container = OmegaConf.to_container(theirs)
    assert isinstance(container, dict)
    what = {key: container[key] for key in WHAT if key in container}
    for key in set(what) & set(OTHERS):
        if isinstance(changes := what[key], dict):
            kept = {name for name in changes if name not in base or name in (*GROUPS, "seed")} - {"out"}
            what[key] = {name: value for name, value in changes.items() if name in kept}
    check(what, origin)
    config = deepcopy(base)
    OmegaConf.set_struct(config, False)
    try:
        for key, value in what.items():
            config[key] = _at_home(value)
    except OmegaConfBaseException as error:
        raise CheckpointError(f"{origin} is not of this version, or damaged: {str(error).splitlines()[0]}.") from error
    return config


def _at_home(value: Any) -> Any:
    """The same values, whose caches lie below the paths of this machine, and which download into them alone."""
    if isinstance(value, list):
        return [_at_home(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    value = {key: _at_home(entry) for key, entry in value.items()}
    if value.get("cache_dir") is not None:
        value["cache_dir"] = "${paths.cache}"
    if value.get("download") and value.get("root") != "${paths.data}":
        value["download"] = False
    return value


def check(what: dict[Any, Any], origin: Path) -> None:
    """Check that an unresolved configuration from elsewhere, a file ``origin``, names only harmless or trusted code.

    Raises:
        CheckpointError: it names other code, or could make up a name that cannot be checked.

    Example:
        >>> check({"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1}}, Path("config.yaml"))
        >>> check({"data": {"_target_": "os.system", "command": "ls"}}, Path("config.yaml"))
        Traceback (most recent call last):
        ...
        iin_lightning.errors.CheckpointError: config.yaml names os.system, which a configuration from elsewhere may ...
    """
    for key, value in _entries(what):
        if not str(key).isprintable() or _is_folder(str(key)):
            raise CheckpointError(f"{origin} has a key {key!r:.80}, which is no name: write it in letters.")
        if key == POSITIONAL:
            raise CheckpointError(
                f"{origin} gives arguments by their position ({POSITIONAL}: {value!r:.80}), so that it does not show "
                "which of them name code: write their names instead."
            )
        # An interpolation may have another value where parts of the configuration are put to use.
        if key in _CODE and "${" in str(value):
            raise CheckpointError(f"{origin} says {key}: {value!r:.80}; what is imported must be named, not made up.")
        if value == "???":
            continue
        if key == TARGET:
            _check_target(str(value), origin)
        elif key in NAMES_CODE and _is_code(value):
            _check_class(value, origin)
        elif isinstance(value, str) and "${" in _KEY.sub("", value):
            raise CheckpointError(
                f"{origin} has {value!r:.200}. A configuration from elsewhere may refer to keys (${{paths.data}}) and "
                "to nothing else, such as the environment: write its value instead."
            )
    for key in set(what) & set(OTHERS):
        asked = what[key]
        # The name of a recipe becomes an argument of a command line, and a file of conf/.
        if not isinstance(asked, dict) or not re.fullmatch(r"\w+", str(asked.get("recipe"))):
            raise CheckpointError(f"{origin} says {key}: {asked!r:.200}; its recipe must be a choice of conf/model.")


_CODE = (TARGET, *NAMES_CODE)


def _is_code(value: Any) -> bool:
    # Whatever Python can import, also my-module:Net; a name without a module is not imported.
    return isinstance(value, str) and re.search(r"[.:]", value) is not None


def _entries(value: Any, key: Any = None) -> Iterator[tuple[Any, Any]]:
    """All keys with what they have, at any depth."""
    if key is not None:
        yield key, value
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _entries(entry, name)
    elif isinstance(value, list):
        for entry in value:
            yield from _entries(entry, "")


def _check_target(name: str, origin: Path) -> None:
    if lies_in(name, trusted()) or name in _own_targets():
        return
    # To look is to import, so the name must lead into what is known, and then to what belongs there.
    if not lies_in(name, ("iin_lightning", *CLASSES)):
        raise CheckpointError(_refusal(name, origin, cure(package_of(name))))
    try:
        found = get_object(name)
    except Exception as error:  # of whatever is imported on the way
        raise CheckpointError(f"{origin} names {name}, which cannot be imported: {error}.") from error
    where = home(found)
    if lies_in(where, trusted()) or (isinstance(found, type) and lies_in(where, CLASSES)):
        return
    if not (inspect.isfunction(found) and lies_in(where, FUNCTIONS)):
        module = where.removesuffix(f".{getattr(found, '__qualname__', '')}")
        said = name if name == where else f"{name} ({where})"
        raise CheckpointError(_refusal(said, origin, cure(module)))


def _check_class(name: str, origin: Path) -> None:
    try:
        trusted_code(name, str(origin))
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{origin} names {name}, which cannot be imported: {error}.") from error


def _refusal(name: str, origin: Path, cure: str) -> str:
    return (
        f"{origin} names {name}, which a configuration from elsewhere may not call. Allowed are what conf/ names, and "
        f"classes of {', '.join(CLASSES)}. {cure}"
    )


@cache
def _own_targets() -> frozenset[str]:
    """What the yaml files of ``conf/`` name in the groups that are taken."""
    files = (file for group in GROUPS for file in (conf_folder() / group).rglob("*.yaml"))
    texts = (file.read_text(encoding="utf-8") for file in files)
    return frozenset(name for text in texts for name in re.findall(rf"(?m)^ *{TARGET}: ([\w.]+)", text))
