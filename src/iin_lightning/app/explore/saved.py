"""A tab's state on its way: as JSON in a file or packed into a link, with the model that it is of."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iin_lightning.app.explore.explored import Explored
from iin_lightning.app.explore.fields import Fields
from iin_lightning.app.explore.models import Models
from iin_lightning.app.explore.pictures import Picture
from iin_lightning.app.explore.states import STATES, State
from iin_lightning.errors import ConfigError

FORMAT = 1
MOST_BYTES = 2_000_000  # of a saved state
LONGEST_LINK = 8000  # characters: what servers and chat programs take


@dataclass(frozen=True)
class Loaded:
    """A state that was read, and the model it is of.

    Attributes:
        explored: the model.
        state: of one tab.
        warning: a sentence where the model is not the one that it was saved with; "" if it is.
    """

    explored: Explored
    state: State
    warning: str = ""


def to_json(explored: Explored, state: State) -> str:
    """A state with the model that it is of, as a text."""
    plain = {name: _plain(value) for name, value in vars(state).items()}
    whole = {
        "format": FORMAT,
        "tab": state.tab,
        "model": explored.name,
        "fingerprint": explored.fingerprint,
        "state": plain,
    }
    return json.dumps(whole, indent=2) + "\n"


def from_json(text: str | bytes, models: Models, model: str | None = None) -> Loaded:
    """Read what ``to_json`` wrote.

    Args:
        text: from anywhere.
        models: of this page.
        model: the one to take where the one that it was saved with is not there.

    Raises:
        ConfigError: it is no state, or one that does not fit the model.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"A state has at most {MOST_BYTES:,} bytes, this file has {len(text):,}.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("This is no saved state: it is not JSON.") from error
    fields = Fields(values)
    if fields.take("format") != FORMAT:
        raise ConfigError(f"This state has another format than {FORMAT}: it was saved by another version of the page.")
    kind = STATES[fields.choice("tab", STATES)]
    name = fields.text("model", r"(?s).{1,300}", "the name of a model")
    fingerprint = fields.text("fingerprint", r"[0-9a-f]{16}", "16 hexadecimal digits")
    inner = Fields(fields.take("state"))
    fields.end()
    known = next((one for one in models if models[one].fingerprint == fingerprint), None)
    fallback = name if name in models else model
    if known is None and fallback is None:
        models[name]
    explored = models[known or str(fallback)]
    state = kind.read(inner, explored)
    inner.end()
    warning = (
        f"This state was saved with a model of other weights ({name:.80}), so {explored.name} shows another picture."
    )
    return Loaded(explored, state, "" if known is not None else warning)


def to_link(explored: Explored, state: State) -> str:
    """A state as what follows a page's address; "" where it is too long for one.

    Example:
        >>> from_link(pack("a state"))
        'a state'
    """
    packed = pack(json.dumps(json.loads(to_json(explored, state)), separators=(",", ":")))
    return f"?state={packed}" if len(packed) <= LONGEST_LINK else ""


def pack(text: str) -> str:
    """A text, compressed, in letters that an address may have."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def from_link(packed: str) -> str:
    """The text that ``pack`` packed.

    Raises:
        ConfigError: it was damaged, or is too long.
    """
    if len(packed) > LONGEST_LINK:
        raise ConfigError(f"The state of a link has at most {LONGEST_LINK} characters, this one has {len(packed)}.")
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), MOST_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise ConfigError("The state of this link is damaged, or too long.")
        return text.decode()
    except (zlib.error, binascii.Error, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("The state of this link is damaged: copy it again, all of it.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Picture):
        return value.to_json()
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
