"""Configurations from elsewhere build what this project's own ones do, and run no other code.

A run folder may come from anyone. Its ``config.yaml`` names classes and functions, which Hydra imports and calls, so it
is looked through before: what it names must be a function that a yaml of ``conf/`` names, too, a class of a package
that is listed here, or of one that the user trusts. What a user composes on the command line is trusted by being typed.
"""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser as Grammar
from omegaconf.grammar_parser import parse

from iin_lightning.app.paths import conf_folder
from iin_lightning.errors import CheckpointError
from iin_lightning.serialization import trust
from iin_lightning.trusted import BUILT_FROM, cure, home, lies_in, package_of, trusted, trusted_code

CLASSES = (
    *(f"iin_lightning.{room}" for room in ("callbacks", "data", "encoders", "flows", "losses")),
    *(f"pytorch_lightning.{room}" for room in ("callbacks", "loggers", "strategies", "trainer")),
    "torch.nn",
    "torch.optim",
    "torchvision.transforms",
)
"""Where classes are built from, whoever asks for them."""

FUNCTIONS = ("torchvision.transforms",)
"""Where functions are called from, besides those of ``conf/``."""

RESOLVERS = ("hydra", "now", "oc.env", "oc.select", "run_folder")
"""Those of interpolations that give values or parts of a configuration, but make none, as oc.create does."""

TARGET, POSITIONAL = "_target_", "_args_"
NAMES_CODE = ("target",)
"""Keys whose values name a class, besides Hydra's own: encoder.network.target."""


def take(config: DictConfig) -> None:
    """Trust, in this process, what a command line says: the packages in ``trust=``, and of what it composes itself.

    Args:
        config: as it was composed; not one of a run folder.
    """
    trust(*said_of(config))


def said_of(config: DictConfig) -> tuple[str, ...]:
    """The packages, besides known ones, that a command line trusts: what its run folder will ask to be trusted again.

    Args:
        config: as it was composed; not one of a run folder.
    """
    known = {package_of(name) for name in (*BUILT_FROM, *CLASSES)}  # of which not all is harmless
    said = _entries(OmegaConf.to_container(config))
    typed = {package_of(value) for key, value in said if key in _CODE and _is_code(value)}
    return tuple(dict.fromkeys([*(config.trust or ()), *sorted(typed - known)]))


def read(path: Path) -> DictConfig:
    """A configuration of a run folder, all of whose code is trusted.

    Raises:
        CheckpointError: it is damaged, or names code that is not trusted.
    """
    try:
        config = OmegaConf.load(path)
    except Exception as error:  # damaged bytes lead to many kinds
        raise CheckpointError(
            f"{path} is no configuration, or damaged ({' '.join(str(error).split())}): copy it again from where the "
            "run was made, or train anew."
        ) from error
    if not isinstance(config, DictConfig):
        raise CheckpointError(
            f"{path} is no configuration: it holds a list. Copy it again from where the run was made."
        )
    check(config, path)
    return config


def check(config: DictConfig, origin: Path) -> None:
    """See that a configuration from elsewhere names no code but what is harmless or trusted.

    Args:
        config: not resolved.
        origin: the file that it was read from.

    Raises:
        CheckpointError: it does.

    Example:
        >>> check(OmegaConf.create({"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1}}), Path("config.yaml"))
        >>> check(OmegaConf.create({"data": {"_target_": "os.system", "command": "ls"}}), Path("config.yaml"))
        Traceback (most recent call last):
        ...
        iin_lightning.errors.CheckpointError: config.yaml names os.system, which a configuration from elsewhere may ...
    """
    for key, value in _entries(OmegaConf.to_container(config)):
        if key == POSITIONAL:
            raise CheckpointError(
                f"{origin} gives arguments by their position ({POSITIONAL}: {value}), so that it does not show which "
                "of them name code: write their names instead."
            )
        # An interpolation may have another value where parts of the configuration are put to use.
        if key in _CODE and "${" in str(value):
            raise CheckpointError(f"{origin} says {key}: {value}; what is imported must be named, not made up.")
        if value == "???":
            continue
        if key == TARGET:
            _check_target(str(value), origin)
        elif key in NAMES_CODE and _is_code(value):
            _check_class(value, origin)
        elif isinstance(value, str) and "${" in value:
            _check_interpolation(value, origin)


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
    if not lies_in(name, ("iin_lightning", "pytorch_lightning", *CLASSES)):
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
    """What the yaml files of ``conf/`` name."""
    files = conf_folder().rglob("*.yaml")
    return frozenset(
        name for file in files for name in re.findall(rf"(?m)^ *{TARGET}: ([\w.]+)", file.read_text(encoding="utf-8"))
    )


def _check_interpolation(text: str, origin: Path) -> None:
    try:
        nodes = list(_nodes(parse(text)))
    except OmegaConfBaseException as error:
        raise CheckpointError(f"{origin} has {text!r}, which is no right interpolation: {error}.") from error
    if any(isinstance(node, Grammar.DictContainerContext) for node in nodes):  # a default may be one
        raise CheckpointError(
            f"{origin} has {text!r}, whose keys could name code: write them as keys of the configuration instead."
        )
    for name in (node.getText() for node in nodes if isinstance(node, Grammar.ResolverNameContext)):
        if name not in RESOLVERS:
            raise CheckpointError(
                f"{origin} has {text!r}. Of interpolations a configuration from elsewhere may use those of a key, and "
                f"the resolvers {', '.join(RESOLVERS)}; {name} could make up what it names: write its value instead."
            )


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", None) or ():
        yield from _nodes(child)
