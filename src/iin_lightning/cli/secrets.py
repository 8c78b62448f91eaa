"""What must not be written down: passwords, tokens, keys, and what a configuration takes from the environment."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from iin_lightning.errors import ConfigError

MASK = "***"

_NAME = r"pass(?:word|wd|phrase)|pwd|token|secret|credentials?|(?:api|access|secret|private|auth)[_-]?key|authorization"
_SECRET = re.compile(rf"(?:^|[._-]|(?<=[a-z])(?=[A-Z]))(?:{_NAME})$", re.IGNORECASE)
# What names a secret, but does not tell it. A default value of oc.env might.
_REFERENCE = r"\$\{(?:oc\.env:\s*)?[\w.]+(?:,\s*null)?\}"
_HARMLESS = rf"(?:{_REFERENCE}|true|false|null)"
# key=value and {key: value} within a text: an override of the command line, a query of a URL. Hydra may write \: for :.
_SAID = re.compile(
    rf"((?<![a-z])(?:{_NAME})[\"']?\s*\\?[=:]\s*)(?![\"']?{_HARMLESS}(?:$|[\s,;&}}\]\"']))"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&}\]\"']+)",
    re.IGNORECASE,
)
_USERINFO = re.compile(
    rf"(\w[\w+.-]*\\?://)(?!(?:[\w.-]+:)?{_REFERENCE}(?::{_REFERENCE})?@)[^\s/?#@]+(?:@[^\s/?#@]+)*@"
)
_FROM_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:")


def mask(value: Any) -> Any:
    """Return the same nested containers and texts without their secrets.

    A secret is the value of a key whose name ends in ``password``, ``token``, ``api_key``, ``secret`` and the like,
    also where key and value stand in a text, and the user in a URL. An interpolation is none.

    Example:
        >>> mask({"hub": {"api_key": "abc", "n_tokens": 3}, "root": "https://me:abc@host/x?token=abc"})
        {'hub': {'api_key': '***', 'n_tokens': 3}, 'root': 'https://***@host/x?token=***'}
        >>> mask(["seed=1", "+data.token=abc", "+hub={password: abc, size: 3}"])
        ['seed=1', '+data.token=***', '+hub={password: ***, size: 3}']
        >>> mask({"token": "${oc.env:HUB}", "class_token": False})
        {'token': '${oc.env:HUB}', 'class_token': False}
    """
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key, entry) else mask(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(mask, value))
    if isinstance(value, str):
        return _SAID.sub(rf"\1{MASK}", _USERINFO.sub(rf"\1{MASK}@", value))
    return value


def _is_secret(key: Any, value: Any) -> bool:
    if not isinstance(key, str) or _SECRET.search(key) is None:
        return False
    if isinstance(value, str):
        return value not in ("", MASK) and re.fullmatch(_REFERENCE, value) is None
    return value is not None and not isinstance(value, bool)


def refuse(arguments: Sequence[str]) -> None:
    """Refuse a secret on the command line: Hydra and runs write down what is typed.

    Raises:
        ConfigError: an argument holds a secret.

    Example:
        >>> refuse(["seed=1", "+hub.token=${oc.env:HUB}"])
        >>> refuse(["+hub.token=abc"])
        Traceback (most recent call last):
        ...
        iin_lightning.errors.ConfigError: +hub.token=*** holds a secret, which would be written into the folder of ...
    """
    for argument in arguments:
        if (masked := mask(argument)) != argument:
            raise ConfigError(_refusal(masked))


def refuse_within(config: DictConfig) -> None:
    """Refuse a secret in a configuration, which is written into the folder of a run.

    Raises:
        ConfigError: a yaml file holds a secret.
    """
    plain = OmegaConf.to_container(config, throw_on_missing=False)
    if (masked := mask(plain)) != plain:
        raise ConfigError(_refusal(_differing(plain, masked)))


def _differing(plain: Any, masked: Any, key: str = "") -> str:
    """The first key whose value was masked."""
    if isinstance(plain, dict | list) and isinstance(masked, dict | list):
        for name in plain if isinstance(plain, dict) else range(len(plain)):
            if plain[name] != masked[name]:
                return _differing(plain[name], masked[name], f"{key}.{name}" if key else str(name))
    return f"{key}={masked}"


def _refusal(what: str) -> str:
    return (
        f"{what} holds a secret, which would be written into the folder of the run: put it into an environment "
        f"variable, and name that in its place, as '${{oc.env:NAME}}'."
    )


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, resolved but for what comes from the environment, and masked.

    Example:
        >>> plain(OmegaConf.create({"n": 2, "twice": ["${n}"], "user": "${oc.env:USER}", "as": "${user}"}))
        {'n': 2, 'twice': [2], 'user': '${oc.env:USER}', 'as': '${oc.env:USER}'}
    """
    # Without types: seed=${oc.env:SEED} is a text here.
    untyped = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    _keep(untyped)
    container = OmegaConf.to_container(untyped, resolve=True)
    assert isinstance(container, dict)
    return mask({str(key): value for key, value in container.items()})


def _keep(node: DictConfig | ListConfig) -> None:
    """Make texts of the interpolations that read the environment, so that what refers to them gets the text."""
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        child: Any = node._get_node(key)
        content = child._value()
        if isinstance(child, DictConfig | ListConfig) and not isinstance(content, str) and content is not None:
            _keep(child)
        elif isinstance(content, str) and _FROM_ENVIRONMENT.search(content):
            node[key] = content.replace("${", r"\${")
