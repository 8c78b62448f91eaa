"""Which files were made here, and which packages are imported because a file from elsewhere names them.

To import a module is to run it, and a class may do anything when it is built. So of all that a model folder or a
configuration from elsewhere names, only known packages are imported, and those that the user trusts. A file that the
user has made carries a signature, as a notebook of Jupyter does, and is read without a question wherever it is moved.
"""

import hmac
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from iin_lightning.errors import CheckpointError

BUILT_FROM = ("iin_lightning", "torch.nn", "torchvision", "timm", "efficientnet_lite_pytorch")
"""Packages whose networks are built from any description."""

VARIABLE = "IIN_LIGHTNING_TRUST"
"""Names trusted packages, with commas between them, for all processes of an environment."""

UNSIGNED = "0" * 64
"""Stands in a text, behind the word signature, where ``sign`` puts the signature."""

KEY_BYTES = 32

_SIGNATURE = re.compile(r'(?<=signature: )[0-9a-f]{64}|(?<="signature": ")[0-9a-f]{64}')

_trusted: set[str] = set()


def sign(text: str) -> str:
    """Return a text with a signature of this user, by which ``is_own`` knows it; unsigned where no key can be kept."""
    return text if (key := _key()) is None else text.replace(UNSIGNED, _digest(key, text), 1)


def is_own(text: str) -> bool:
    """Say whether a text was signed by this user, on a machine with this home folder, and is still as it was."""
    key = _key()
    if key is None or (found := _SIGNATURE.search(text)) is None:
        return False
    return hmac.compare_digest(found[0], _digest(key, text[: found.start()] + UNSIGNED + text[found.end() :]))


def _digest(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()


@cache
def _key() -> bytes | None:
    """The secret of this user, made at first use; None where there is no folder that could keep it."""
    try:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "iin-lightning"
        path = folder / "key"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            new = folder / f"key.{secrets.token_hex(8)}"
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            with suppress(FileExistsError):
                os.link(new, path)  # whole, and the first of several processes wins
            new.unlink()
        key = path.read_bytes()
    except (OSError, RuntimeError):  # no home, or none to write into
        return None
    return key if len(key) == KEY_BYTES else None


def trust(*packages: str) -> None:
    """Let this process import a package (or a part, "mine.networks") that a file from elsewhere names.

    Example:
        >>> trust("mine")
        >>> "mine" in trusted()
        True
    """
    _trusted.update(packages)


def trusted() -> tuple[str, ...]:
    """Return the packages given to ``trust``, and those in the environment variable ``IIN_LIGHTNING_TRUST``."""
    return tuple(sorted(_trusted | set(filter(None, re.split(r"[,\s]+", os.environ.get(VARIABLE, ""))))))


def lies_in(name: str, packages: Iterable[str]) -> bool:
    """Say whether a name, "a.b.C" or "a.b:C", lies in one of some packages.

    Example:
        >>> lies_in("torch.nn.modules.linear:Linear", ["torch.nn"]), lies_in("torch.nnx:Linear", ["torch.nn"])
        (True, False)
    """
    parts = re.split(r"[.:]", name)
    return any(parts[: len(own)] == own for own in (package.split(".") for package in packages))


def package_of(name: str) -> str:
    """Return the package that must be imported first for a name.

    Example:
        >>> package_of("mine.networks:Net")
        'mine'
    """
    return re.split(r"[.:]", name)[0]


def home(thing: Any) -> str:
    """Return the module and the name under which a class or function was written, whatever name led to it.

    Example:
        >>> home(os.path.join), home(os.system) in ("posix.system", "nt.system")
        ('posixpath.join', True)
    """
    module = getattr(thing, "__module__", None) or "builtins"
    return f"{module}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def cure(package: str) -> str:
    """Return the end of an error: how to trust a package."""
    return (
        f"If you trust whoever made it, add 'trust=[{package}]' to the command, call serialization.trust({package!r}) "
        f"in Python, or set {VARIABLE}={package}."
    )


def trusted_code(name: str, source: str, *, own: bool = False) -> Any:
    """Return what "package.module:Class" or "package.module.Class" names, of a known or trusted package alone.

    The name stands in a file, ``source``; in a file of this user (``own``) any package will do.

    Raises:
        CheckpointError: it is of another package, or no name of a class.
        ImportError: the module does not exist.
        AttributeError: the module has no such class.

    Example:
        >>> trusted_code("os:system", "model.json")
        Traceback (most recent call last):
        ...
        iin_lightning.errors.CheckpointError: model.json names os:system, and os is not among the packages whose ...
    """
    known = (*BUILT_FROM, *trusted())
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+:?[\w.]*", name):
        raise CheckpointError(f"{source}: {name!r:.80} is no name of a class: package.module:Class.")
    if not own and not lies_in(name, known):
        raise CheckpointError(_refusal(f"{source} names {name}", package_of(name), known))
    try:
        found = resolve_name(name)
    except ValueError as error:
        raise CheckpointError(f"{source}: {name!r} is no name of a class: package.module:Class.") from error
    if not own and not lies_in(home(found), known):  # a module also holds what it has imported
        module = getattr(found, "__module__", None) or "builtins"
        raise CheckpointError(_refusal(f"{source} names {name}, which is {home(found)}", module, known))
    return found


def _refusal(what: str, package: str, known: Iterable[str]) -> str:
    return (
        f"{what}, and {package} is not among the packages whose code is run unasked: {', '.join(known)}. "
        f"{cure(package)}"
    )
