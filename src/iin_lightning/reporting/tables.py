"""What a report writes about a run: its numbers with their conditions, its model, where it comes from."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from iin_lightning.disk import in_units
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.frozen import Frozen
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.results import TRANSFER, measured, section, transfer_rows, transfer_scores
from iin_lightning.reporting.data_card import Rows
from iin_lightning.reporting.page import Table
from iin_lightning.serialization import CHECKSUM, WEIGHTS, describe, fingerprint, read_structure

LIKELIHOOD = "negative log-likelihood of latents in nats per dimension, constant included: lower is better"
OF_IMAGES = "negative log-likelihood of an image given its latent, in nats"
MEANINGS = {
    r".*nll(_of_factor/.*)?": LIKELIHOOD,
    r".*round_trip_error": "largest |T⁻¹(T(z)) − z|: what the translator loses, which should be rounding alone",
    r".*round_trip_error_of_edits": "the same of latents after swaps, and of samples twice as wide as N(0, 1)",
    r".*accuracy": "share of images whose class is named right",
}
UNITS = {"class": "share read right ↑", "color": "RGB difference ↓"}
BOUNDS = {
    "reconstruction": "nothing: reconstructions, the bound",
    "images": "nothing: the images themselves",
    "chance": "chance",
}
ERRORS = "Behind ± stands the standard error over test images."
HEAD = ("number", "value", "what it says")
ELSEWHERE = ("name", "stage", "figures", "factors", "metrics", "validation", "evaluation", "analysis")
"""Keys of ``results.json`` with a place of their own on the page."""


def test_tables(outcome: Mapping[str, Any], kinds: Mapping[str, str]) -> list[Table]:
    """Lay out what was measured after training; ``kinds`` maps a concept to its kind, where the data are known."""
    metrics, tables = section(outcome, "metrics"), []
    latents = outcome.get("stage", "interpret") == "interpret"
    plain = [
        [name.removeprefix("test/"), _number(value), _meaning(name, latents=latents)]
        for name, value in metrics.items()
        if not name.startswith(TRANSFER)
    ]
    if plain:
        text = "Test images, on which neither the network nor the translator was trained; the weights that were kept."
        tables.append(Table(HEAD, plain, "Test split", f"{text} {ERRORS}"))
    if scores := transfer_scores(metrics):
        (first, *concepts), rows = transfer_rows(scores)
        units = [f"{name}: {UNITS[kinds[name]]}" if kinds.get(name) in UNITS else name for name in concepts]
        text = (
            "A factor is taken from a second test image, all others are kept, and the result is decoded. "
            "Independent readings, which know nothing of the model, compare it with what it should show: in the row of "
            f"its own factor a concept should be the source's, in all others still the target's. {ERRORS}"
        )
        rows = [[BOUNDS.get(case, case), *values] for case, *values in rows]
        tables.append(Table([first, *units], rows, "After swapping a factor between test images", text))
    validation = section(outcome, "validation").items()
    if rows := [[name, value, _meaning(name, latents=latents)] for name, value in validation]:
        tables.append(Table(HEAD, rows, "Validation split", "Of the weights that were kept."))
    return tables


def evaluation_tables(outcome: Mapping[str, Any]) -> list[Table]:
    """Lay out a table for each metric of ``python -m iin_lightning.evaluate``, with what each number is of."""
    tables = []
    for metric, numbers in section(outcome, "evaluation").items():
        rows = []
        for name, entry in numbers.items():
            if isinstance(entry, Mapping) and "value" in entry:
                rest = {key: value for key, value in entry.items() if key not in ("value", "error")}
                rows.append([name, _number(entry), conditions(rest) or _meaning(name)])
            elif name != "of":
                rows += [[key, value, _meaning(key)] for key, value in flat(entry, name)]
        of = f"Of {conditions(numbers['of'])}." if "of" in numbers else ""
        tables.append(Table(["number", "value", "taken how"], rows, metric, of))
    return tables


def analysis_tables(numbers: Mapping[str, Any]) -> list[Table]:
    """Lay out what an analysis found; names with the same numbers stand side by side."""
    nested = {name: entry for name, entry in numbers.items() if isinstance(entry, Mapping) and entry}
    deep = {name: entry for name, entry in nested.items() if all(isinstance(e, Mapping) for e in entry.values())}
    shallow = {name: entry for name, entry in nested.items() if name not in deep}
    plain = {name: entry for name, entry in numbers.items() if name not in nested and name != "of"}
    tables = [Table(["number", "value"], [list(row) for row in flat(plain)])] if plain else []
    tables += [_side_by_side(entry, name.replace("_", " ")) for name, entry in deep.items()]
    tables += [_side_by_side(shallow)] if shallow else []
    of = numbers.get("of", "")
    return [replace(tables[0], text=f"Of {of}."), *tables[1:]] if of and tables else tables


def _side_by_side(columns: Mapping[str, Any], title: str = "") -> Table:
    values = {name: dict(flat(entry)) for name, entry in columns.items()}
    names = dict.fromkeys(name for column in values.values() for name in column)
    return Table(
        ["", *values], [[name, *(column.get(name, "") for column in values.values())] for name in names], title
    )


def other_rows(outcome: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rest of ``results.json``: seed, steps, seconds."""
    rest = {name: value for name, value in outcome.items() if name not in ELSEWHERE}
    return [[name.replace("_", " "), value] for name, value in flat(rest)]


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values as rows, their names joined; lists of plain values stay whole.

    Example:
        >>> list(flat({"a": {"b": 1, "c": [1, 2]}, "d": [[1, 2], [3, 4]], "e": {}}))
        [('a/b', 1), ('a/c', [1, 2]), ('d/1', [1, 2]), ('d/2', [3, 4]), ('e', 'none')]
    """
    nested = isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(entry, Mapping | list) for entry in value)
    )
    if value in ({}, []):
        yield name, "none"
    elif not nested:
        yield name, value
    else:
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value, 1):
            yield from flat(entry, f"{name}/{key}" if name else str(key))


def conditions(value: Any) -> str:
    """Say in a line how a number was taken.

    Example:
        >>> conditions({"extractor": "inception", "count": 10000, "images": {"real": 5}})
        'extractor inception, count 10000, images/real 5'
    """
    return ", ".join(
        f"{name} {entry if isinstance(entry, str) else json.dumps(entry)}".strip() for name, entry in flat(value)
    )


def _number(entry: Any) -> Any:
    """Return a number with its error, if it has one; anything else as it is."""
    return measured({"": entry}).get("", entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry)


def _meaning(name: str, *, latents: bool = True) -> str:
    """Say what a number means; the likelihood of an autoencoder is that of images, not of latents."""
    meaning = next((text for pattern, text in MEANINGS.items() if re.fullmatch(pattern, name)), "")
    return meaning if latents or "nll" not in name else OF_IMAGES


def explained(network: nn.Module) -> nn.Module:
    """Return the network itself, without its wrappers."""
    encoder = network.encoder if isinstance(network, Interpreter) else network
    return encoder.encoder if isinstance(encoder, Frozen) else encoder


def kind(network: nn.Module) -> str:
    """Return the name of a network in a sentence, such as Classifier or resnet50."""
    inner = explained(network)
    inner = inner.network if isinstance(inner, Cut) else inner
    return str(getattr(inner, "name", type(inner).__name__))


def lead(network: nn.Module, title: str | None) -> str:
    """Say in a sentence or two what is shown; ``title`` is that of the data, if they are known."""
    name, images = kind(network), f" The images: {title.rstrip('.')}." if title else ""
    if not isinstance(network, Interpreter):
        ends = {"image": "decodes them again", "logits": "tells classes from them", "values": "reads values from them"}
        end = ends.get(getattr(network, "output", ""), "goes on from them")
        return f"A network, {name}, that encodes images to latents and {end}; nothing has interpreted it yet.{images}"
    into = "standard normal ones, of which new latents can be drawn"
    if concepts := network.factors.concepts:
        into = (
            f"factors: one for each concept ({', '.join(concepts)}) and a residual for all else. A factor can be "
            "exchanged, walked or drawn anew without the others"
        )
    return (
        f"An invertible network translates the latents of a frozen network, {name}, into {into}; the network itself is "
        f"unchanged.{images}"
    )


def model_rows(network: nn.Module, folder: Path) -> Rows:
    """Return the card of a model and of its folder."""
    inner = explained(network)
    rows: Rows = [("network", _call(describe(inner)))]
    if isinstance(inner, Encoder):
        rows += [("latent dimensions", f"{inner.latent_dim}"), ("gives", inner.output)]
    rows += _counted(inner, "network")
    if isinstance(network, Interpreter):
        rows.append(("factors", ", ".join(f"{name} {dim}" for name, dim in network.factors.items())))
        rows.append(("translator", _call(describe(network.translator))))
        rows += _counted(network.translator, "translator")
    if (weights := folder / WEIGHTS).is_file():
        rows.append(("file", f"{WEIGHTS}, {in_units(weights.stat().st_size)}"))
    if checksum := read_structure(folder).get(CHECKSUM):
        rows.append(("SHA-256 of the file", str(checksum)))
    return rows


def _counted(network: nn.Module, name: str) -> Rows:
    count = sum(parameter.numel() for parameter in network.parameters())
    return [(f"parameters of the {name}", f"{count:,}"), (f"fingerprint of the {name}", fingerprint(network))]


def _call(description: Mapping[str, Any]) -> str:
    """Write a description as a line of Python."""
    arguments = []
    for name, value in description["arguments"].items():
        nested = isinstance(value, Mapping) and set(value) == {"class", "arguments"}
        arguments.append(f"{name}={_call(value) if nested else value!r}")
    return f"{description['class'].rpartition(':')[2]}({', '.join(arguments)})"


def provenance_rows(record: Mapping[str, Any]) -> list[list[Any]]:
    """Return what ``provenance.json`` says of the beginning, and of each time that the run went on."""
    first = {name: value for name, value in record.items() if name != "resumed"}
    sessions = {"": first} | {f"went on ({n}): ": later for n, later in enumerate(record.get("resumed", []), 1)}
    return [
        [f"{prefix}{name.replace('_', ' ')}", value]
        for prefix, session in sessions.items()
        for name, value in flat({**session, "versions": conditions(session.get("versions", ""))})
        if value not in (None, "")
    ]
