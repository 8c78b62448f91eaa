"""Which packages are imported because a file says so.

To import a module is to run it, and a class may do anything when it is built. So of what a model folder or a
configuration from elsewhere names, only known packages are imported, and those that the user trusts.
"""

import os
import re
from collections.abc import Iterable
from pkgutil import resolve_name
from typing import Any

from iin_lightning.errors import CheckpointError

BUILT_FROM = ("iin_lightning", "torch.nn", "torchvision", "timm", "efficientnet_lite_pytorch")
"""Packages whose networks are built from any description."""

VARIABLE = "IIN_LIGHTNING_TRUST"
"""Names trusted packages, with commas between them, for all processes of an environment."""

_trusted: set[str] = set()


def trust(*packages: str) -> None:
    """Let this process import packages that a model folder or a configuration from elsewhere names.

    Args:
        packages: "mine" for all of it, or "mine.networks" for a part.

    Example:
        >>> trust("mine")
        >>> "mine" in trusted()
        True
    """
    _trusted.update(packages)


def trusted() -> tuple[str, ...]:
    """What was given to ``trust``, and what the environment variable ``IIN_LIGHTNING_TRUST`` names."""
    return tuple(sorted(_trusted | set(filter(None, re.split(r"[,\s]+", os.environ.get(VARIABLE, ""))))))


def lies_in(name: str, packages: Iterable[str]) -> bool:
    """Whether a name, "a.b.C" or "a.b:C", is that of something in one of some packages.

    Example:
        >>> lies_in("torch.nn.modules.linear:Linear", ["torch.nn"]), lies_in("torch.nnx:Linear", ["torch.nn"])
        (True, False)
    """
    parts = re.split(r"[.:]", name)
    return any(parts[: len(own)] == own for own in (package.split(".") for package in packages))


def package_of(name: str) -> str:
    """The package that must be imported first for a name.

    Example:
        >>> package_of("mine.networks:Net")
        'mine'
    """
    return re.split(r"[.:]", name)[0]


def home(thing: Any) -> str:
    """Where a class or function was written, whatever name led to it: the package, a point, and its own name.

    Example:
        >>> home(os.path.join), home(os.system) in ("posix.system", "nt.system")
        ('posixpath.join', True)
    """
    module = getattr(thing, "__module__", None) or "builtins"
    return f"{module}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def cure(package: str) -> str:
    """How to trust a package, for the end of an error."""
    return (
        f"If you trust whoever made it, add 'trust=[{package}]' to the command, call serialization.trust({package!r}) "
        f"in Python, or set {VARIABLE}={package}."
    )


def trusted_code(name: str, source: str) -> Any:
    """What a description's name is that of, imported only if it is of a known or trusted package.

    Args:
        name: "package.module:Class" or "package.module.Class".
        source: the file that says so, for errors.

    Raises:
        CheckpointError: it is of another package, or none at all.
        ImportError: there is no such module.
        AttributeError: there is no such class in it.

    Example:
        >>> trusted_code("os:system", "model.json")
        Traceback (most recent call last):
        ...
        iin_lightning.errors.CheckpointError: model.json names os:system, and os is not among the packages whose ...
    """
    known = (*BUILT_FROM, *trusted())
    if not lies_in(name, known):
        raise CheckpointError(_refusal(f"{source} names {name}", package_of(name), known))
    try:
        found = resolve_name(name)
    except ValueError as error:
        raise CheckpointError(f"{source}: {name!r} is no name of a class: package.module:Class.") from error
    if not lies_in(home(found), known):  # a module also holds what it has imported
        module = getattr(found, "__module__", None) or "builtins"
        raise CheckpointError(_refusal(f"{source} names {name}, which is {home(found)}", module, known))
    return found


def _refusal(what: str, package: str, known: Iterable[str]) -> str:
    return (
        f"{what}, and {package} is not among the packages whose code is run unasked: {', '.join(known)}. "
        f"{cure(package)}"
    )
