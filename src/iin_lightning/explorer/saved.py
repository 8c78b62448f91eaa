"""A tab's state on its way: as JSON in a file or packed into a link, with the model that it is of."""

import base64
import binascii
import json
import zlib
from typing import NamedTuple

from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.pictures import MOST_BYTES, Picture
from iin_lightning.explorer.states import STATES, Fields, State

FORMAT = 2
MOST_UNPACKED = 2_000_000  # bytes of a link's state
LONGEST_LINK = 8000  # characters: what servers and chat programs take
FINGERPRINT = r"[0-9a-f]{16}", "16 hexadecimal digits"


class Loaded(NamedTuple):
    """A state that was read, its model, and a warning where model or data are not those that it was saved with."""

    explored: Explored
    state: State
    warning: str = ""


def to_json(explored: Explored, state: State) -> str:
    """Return a state with the model that it is of, as a text."""
    whole = {
        "format": FORMAT,
        "tab": state.tab,
        "model": explored.name,
        "fingerprint": explored.fingerprint,
        "data": explored.data_fingerprint,
        "state": {
            name: value.to_json() if isinstance(value, Picture) else value for name, value in vars(state).items()
        },
    }
    return json.dumps(whole, indent=2) + "\n"


def from_json(text: str | bytes, models: Models, model: str | None = None) -> Loaded:
    """Read what ``to_json`` wrote; ``model`` is taken where the page lacks the model that it was saved with."""
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
    fingerprint, data = (fields.text(key, *FINGERPRINT) for key in ("fingerprint", "data"))
    inner = Fields(fields.take("state"))
    fields.end()
    # Of the models with the same weights, under whatever name, the one with the same data.
    same = [known for known in map(models.__getitem__, models) if known.fingerprint == fingerprint]
    same.sort(key=lambda known: known.data_fingerprint != data)
    explored = same[0] if same else models[model if model is not None and name not in list(models) else name]
    state = kind.read(inner, explored)
    inner.end()
    warnings = []
    if not same:
        warnings.append(
            f"This state was saved with a model of other weights ({name:.80}), so that {explored.name} shows another "
            "picture."
        )
    if explored.data_fingerprint != data:
        warnings.append(
            f"This state was saved with other held-out images than {explored.name} has, so others may be shown."
        )
    return Loaded(explored, state, " ".join(warnings))


def to_link(explored: Explored, state: State) -> str:
    """Return a state as what follows a page's address; "" where it is too long for a link."""
    packed = pack(json.dumps(json.loads(to_json(explored, state)), separators=(",", ":")))
    return f"?state={packed}" if len(packed) <= LONGEST_LINK else ""


def pack(text: str) -> str:
    """Compress a text into letters that an address may have.

    Example:
        >>> unpack(pack("a state"))
        'a state'
    """
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(packed: str) -> str:
    """Return the text that ``pack`` packed; refuse what is damaged or too long."""
    if len(packed) > LONGEST_LINK:
        raise ConfigError(f"The state of a link has at most {LONGEST_LINK} characters, this one has {len(packed)}.")
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), MOST_UNPACKED).decode()
    except (zlib.error, binascii.Error, ValueError) as error:
        raise ConfigError("The state of this link is damaged: copy it again, all of it.") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ConfigError("The state of this link is damaged, or too long.")
    return text
