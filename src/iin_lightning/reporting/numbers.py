"""Everything that ``results.json`` holds, as tables with the conditions that numbers were taken under."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from iin_lightning.questions.results import TRANSFER, measured, section, transfer_rows, transfer_scores
from iin_lightning.reporting.page import Interval, Table

MEANINGS = {
    r".*nll(_of_factor/.*)?": "negative log-likelihood of latents in nats per dimension, constant included: lower is "
    "better",
    r".*round_trip_error": "largest |T⁻¹(T(z)) − z|: what the translator loses, which should be rounding alone",
    r".*round_trip_error_of_edits": "the same of latents after swaps, and of samples twice as wide as N(0, 1)",
    r".*accuracy": "share of images whose class is named right",
}
INTERPRET = "interpret"
"""The stage of runs that train a translator."""

UNITS = {"class": "share read right ↑", "color": "RGB difference ↓"}
BOUNDS = {
    "reconstruction": "nothing: reconstructions, the bound",
    "images": "nothing: the images themselves",
    "chance": "chance",
}
ERRORS = "Behind ± stands the standard error over test images."
SECTIONS = ("metrics", "validation", "evaluation", "analysis")
"""Keys of what has tables of its own, if it is what it should be."""

KNOWN = ("name", "stage", "figures", "factors")
"""Keys that stand elsewhere on the page: the rest are facts of the training."""


def test_tables(outcome: Mapping[str, Any], kinds: Mapping[str, str]) -> list[Table]:
    """What was measured after training, and the held-out loss of the weights that were kept.

    Args:
        outcome: what ``results.json`` holds.
        kinds: concept -> its kind, where the data are known.
    """
    metrics, tables = section(outcome, "metrics"), []
    said = partial(_meaning, latents=outcome.get("stage", INTERPRET) == INTERPRET)
    plain = [[name.removeprefix("test/"), _number(value), said(name)] for name, value in metrics.items()]
    plain = [row for row in plain if not row[0].startswith(TRANSFER.removeprefix("test/"))]
    text = (
        "Test images, which neither the network nor the translator was trained on; the weights that were kept. "
        f"{ERRORS}"
    )
    if plain:
        tables.append(Table(["number", "value", "what it says"], plain, "Test split", text))
    if scores := transfer_scores(metrics):
        (first, *concepts), rows = transfer_rows(scores)
        units = [
            f"{concept}: {UNITS[kinds[concept]]}" if kinds.get(concept) in UNITS else concept for concept in concepts
        ]
        shown = [[BOUNDS.get(case, case), *values] for case, *values in rows]
        text = (
            "One factor is taken from a second test image, all others are kept, and the result is decoded. "
            "Independent readings, which know nothing of the model, compare it with what it should show: in the row of "
            f"its own factor a concept should be the source's, in all others still the target's. {ERRORS}"
        )
        tables.append(Table([first, *units], shown, "After swapping a factor between test images", text))
    if validation := [[name, value, said(name)] for name, value in section(outcome, "validation").items()]:
        text = "Of the weights that were kept."
        tables.append(Table(["number", "value", "what it says"], validation, "Validation split", text))
    return tables


def evaluation_tables(outcome: Mapping[str, Any]) -> list[Table]:
    """A table a metric of ``python -m iin_lightning.evaluate``, with what each number is of."""
    tables = []
    for metric, numbers in section(outcome, "evaluation").items():
        if not isinstance(numbers, Mapping):
            tables.append(Table(["number", "value"], list(map(list, flat(numbers, metric))), metric))
            continue
        rows = []
        for name, entry in numbers.items():
            if name == "of":
                continue
            record = entry if isinstance(entry, Mapping) and "value" in entry else None
            if record is None:
                rows += [[key, value, _meaning(key)] for key, value in flat(entry, name)]
            else:
                rest = {key: value for key, value in record.items() if key not in ("value", "error")}
                rows.append([name, _number(record), conditions(rest) or _meaning(name)])
        of = conditions(numbers["of"]) if "of" in numbers else ""
        tables.append(Table(["number", "value", "taken how"], rows, metric, of and f"Of {of}."))
    return tables


def analysis_tables(numbers: Any) -> list[Table]:
    """What an analysis found, and of what: names that have the same things said of them stand side by side."""
    if not isinstance(numbers, Mapping):
        return [Table(["number", "value"], [["", numbers]])]
    nested = {name: entry for name, entry in numbers.items() if isinstance(entry, Mapping) and entry}
    deep = {name: entry for name, entry in nested.items() if all(isinstance(e, Mapping) for e in entry.values())}
    shallow = {name: entry for name, entry in nested.items() if name not in deep}
    rows = [
        list(row) for name, entry in numbers.items() if name not in nested and name != "of" for row in flat(entry, name)
    ]
    of = numbers.get("of", "")
    tables = [Table(["number", "value"], rows)] if rows else []
    tables += [_side_by_side(entry, name.replace("_", " ")) for name, entry in deep.items()]
    tables += [_side_by_side(shallow)] if shallow else []
    return [replace(tables[0], text=f"Of {of}."), *tables[1:]] if of and tables else tables


def _side_by_side(columns: Mapping[str, Any], title: str = "") -> Table:
    values = {name: _with_intervals(dict(flat(entry))) for name, entry in columns.items()}
    names = dict.fromkeys(name for column in values.values() for name in column)
    return Table(
        ["", *values], [[name, *(column.get(name, "") for column in values.values())] for name in names], title
    )


def _with_intervals(column: Mapping[str, Any]) -> dict[str, Any]:
    """Each number together with its bounds, which stand under a name of their own."""
    joined = dict(column)
    for interval, bounds in column.items():
        name = interval.removesuffix("_interval")
        if name != interval and name in column and isinstance(bounds, list) and len(bounds) == 2:
            joined[name] = Interval(column[name], *joined.pop(interval))
    return joined


def other_rows(outcome: Mapping[str, Any]) -> list[list[Any]]:
    """What else there is: seed, steps, seconds, and whatever a later version may write."""
    elsewhere = {*KNOWN, *(name for name in SECTIONS if isinstance(outcome.get(name) or {}, Mapping))}
    rest = {name: value for name, value in outcome.items() if name not in elsewhere}
    return [[name.replace("_", " "), value] for key, entry in rest.items() for name, value in flat(entry, key)]


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as rows, their names joined; lists of plain values stay whole.

    Example:
        >>> list(flat({"a": {"b": 1, "c": [1, 2]}, "d": [[1, 2], [3, 4]], "e": {}}))
        [('a/b', 1), ('a/c', [1, 2]), ('d/1', [1, 2]), ('d/2', [3, 4]), ('e', 'none')]
    """
    if not value and isinstance(value, Mapping | list):
        yield name, "none"
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from flat(entry, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(entry, Mapping | list) for entry in value):
        for place, entry in enumerate(value, 1):
            yield from flat(entry, f"{name}/{place}" if name else str(place))
    else:
        yield name, value


def conditions(value: Any) -> str:
    """What a number was taken under, in a line.

    Example:
        >>> conditions({"extractor": "inception", "count": 10000, "images": {"real": 5}})
        'extractor inception, count 10000, images/real 5'
    """
    return ", ".join(
        f"{name} {entry if isinstance(entry, str) else json.dumps(entry)}".strip() for name, entry in flat(value)
    )


def _number(entry: Any) -> Any:
    """A number with its error, where it has one; anything else as it is."""
    return measured({"": entry}).get("", entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry)


def _meaning(name: str, *, latents: bool = True) -> str:
    """What a number says; the likelihood of an autoencoder is that of images, not of latents."""
    found = next((said for pattern, said in MEANINGS.items() if re.fullmatch(pattern, name)), "")
    return found if latents or "nll" not in name else "negative log-likelihood of an image given its latent, in nats"
