"""A user's table of pairs of images: what it says of each pair, row by row."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.data.splits import SPLITS
from iin_lightning.data.tables import found_in, read_text
from iin_lightning.errors import ConfigError, DataNotFoundError

PATHS = ("path_a", "path_b")
SPLIT = "split"
# An unknown concept is learned from no less than a different one: a pair teaches by what it surely shares.
SAME, DIFFERENT, UNKNOWN = 1, 0, -1
CELLS = {"same": SAME, "1": SAME, "different": DIFFERENT, "0": DIFFERENT, "unknown": UNKNOWN, "": UNKNOWN}


class Rows(NamedTuple):
    """The R pairs of a table.

    Attributes:
        concepts: names of the K concepts.
        paths: (path_a, path_b) of each pair, absolute.
        said: long (R, K), SAME, DIFFERENT or UNKNOWN.
        split: the split of each pair, or nothing where the table has no such column.
        lines: of the file, from which the pairs come.
    """

    concepts: tuple[str, ...]
    paths: list[tuple[str, str]]
    said: Tensor
    split: list[Split]
    lines: list[int]


def read_pairs(table: Path, root: Path) -> Rows:
    """Read a table with the columns path_a, path_b, perhaps split, and one more a concept.

    Args:
        table: a .csv file with a header, comma-separated.
        root: folder that relative paths start from.

    Raises:
        ConfigError: the file is no CSV in UTF-8, its header or a row is malformed, or a row pairs an image with
            itself; the text says in which line.
        DataNotFoundError: there is no such file.
    """
    if not table.is_file():
        raise DataNotFoundError(
            f"There is no table {table}; {found_in(table.parent)}. Point data.table to a .csv file with the columns "
            f"path_a, path_b and one a concept, whose cells are same, different or unknown."
        )
    lines = _lines(table)
    header = [name.strip() for name in next(lines, (1, []))[1]]
    concepts = _concepts(table, header)
    rows = Rows(concepts, [], torch.empty(0), [], [])
    said = []
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = _row(table, line, header, cells)
        a, b = (os.path.normpath(root / row[name]) for name in PATHS)
        if a == b:
            raise ConfigError(
                f"{table}, line {line}, pairs {row['path_a']} with itself; a pair is two images: "
                "correct one of the paths, or delete the line."
            )
        rows.paths.append((a, b))
        said.append([CELLS[row[name].lower()] for name in concepts])
        if SPLIT in header:
            rows.split.append(next(name for name in SPLITS if name == row[SPLIT].lower()))
        rows.lines.append(line)
    if not said:
        raise ConfigError(f"{table} has a header, but no pair.")
    return rows._replace(said=torch.tensor(said))


def _lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line."""
    # Line by line, since a quote that is not closed would swallow the lines below it.
    for number, line in enumerate(io.StringIO(read_text(table, ConfigError, "Save it as CSV in UTF-8."), None), 1):
        try:
            yield number, next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            raise ConfigError(
                f'{table}, line {number}, is no CSV ({error}): close every quote (") in the line that opens it, with '
                "a comma or nothing after it, or save the table as CSV in UTF-8."
            ) from error


def _concepts(table: Path, header: Sequence[str]) -> tuple[str, ...]:
    concepts = tuple(name for name in header if name not in (*PATHS, SPLIT))
    if not concepts or "" in header or len(set(header)) < len(header) or not set(PATHS) <= set(header):
        raise ConfigError(
            f"{table} has the columns {', '.join(map(repr, header)) or 'of an empty file'}; expected are path_a, "
            "path_b, one or more concepts by name, and perhaps split, separated by commas and each once."
        )
    return concepts


def _row(table: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """The cells of a row by column."""
    if len(cells) != len(header):
        raise ConfigError(f"{table}, line {line}, has {len(cells)} cells for the {len(header)} columns of the header.")
    row = {name: cell.strip() for name, cell in zip(header, cells)}
    for name, cell in row.items():
        allowed = [] if name in PATHS else list(SPLITS) if name == SPLIT else list(CELLS)
        if (allowed and cell.lower() not in allowed) or (not allowed and not cell):
            what = ", ".join(value or "nothing" for value in allowed) or "the path of an image"
            raise ConfigError(f"{table}, line {line}, column {name}: {cell!r} is none of what is allowed: {what}.")
    return row
