"""A tab's state on its way: as JSON in a file or packed into a link, with the model that it is of."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch

from iin_lightning.data.base import digest
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.fields import Fields
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.per_model import per_model
from iin_lightning.explorer.pictures import Picture, to_pixels
from iin_lightning.explorer.states import STATES, State

FORMAT = 2
MOST_BYTES = 20_000_000  # of a saved state, as of any upload: two uncompressed pictures of 1400x1400 pixels
MOST_UNPACKED = 2_000_000  # of that of a link
LONGEST_LINK = 8000  # characters: what servers and chat programs take
PROBES = 64  # images that say which data these are
FINGERPRINT = r"[0-9a-f]{16}", "16 hexadecimal digits"


@dataclass(frozen=True)
class Loaded:
    """A state that was read, and the model it is of.

    Attributes:
        explored: the model.
        state: of one tab.
        warning: sentences where the model or the data are not those that it was saved with; "" if they are.
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
        "data": held_out(explored),
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
    fingerprint, data = (fields.text(key, *FINGERPRINT) for key in ("fingerprint", "data"))
    inner = Fields(fields.take("state"))
    fields.end()
    same = [one for one in map(models.__getitem__, models) if one.fingerprint == fingerprint]
    if same:  # under whatever name, and of those the one with the same data
        explored = next((one for one in same if held_out(one) == data), same[0])
    else:
        explored = models[model if model is not None and name not in models else name]
    state = kind.read(inner, explored)
    inner.end()
    warnings = []
    if not same:
        warnings.append(
            f"This state was saved with a model of other weights ({name:.80}), so that {explored.name} shows another "
            "picture."
        )
    if held_out(explored) != data:
        warnings.append(
            f"This state was saved with other held-out images than {explored.name} has, so others may be shown."
        )
    return Loaded(explored, state, " ".join(warnings))


@per_model
def held_out(explored: Explored) -> str:
    """16 hexadecimal digits that change with the held-out images of a model, and not with the folder they lie in.

    Not ``data.latents.fingerprint``, which reads all of them.
    """
    items = torch.linspace(0, len(explored) - 1, min(PROBES, len(explored))).long()
    seen = digest(explored.source.labels.cpu(), to_pixels(explored.images(items.tolist())))
    return sha256(f"{explored.source.concepts}, {seen}".encode()).hexdigest()[:16]


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
        text = unpacker.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), MOST_UNPACKED)
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
