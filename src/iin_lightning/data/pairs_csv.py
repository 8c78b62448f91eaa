"""A user's own pairs of images: a table that says of each pair which concepts both share."""

import csv
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, csgraph
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.files import Listing
from iin_lightning.data.limit import choose
from iin_lightning.data.splits import SPLITS, Records, check_fraction, split_groups
from iin_lightning.data.tables import found_in
from iin_lightning.errors import ConfigError, DataNotFoundError
from iin_lightning.seeding import FIXED

PATHS = ("path_a", "path_b")
SPLIT = "split"
# An unknown concept is learned from no less than a different one: a pair teaches by what it surely shares.
SHARED = {"same": True, "1": True, "different": False, "0": False, "unknown": False, "": False}


class Rows(NamedTuple):
    """The R pairs of a table.

    Attributes:
        concepts: names of the K concepts.
        paths: (path_a, path_b) of each pair, absolute.
        shared: bool (R, K); False where the table says different or unknown.
        split: the split of each pair, or nothing where the table has no such column.
        lines: of the file, from which the pairs come.
    """

    concepts: tuple[str, ...]
    paths: list[tuple[str, str]]
    shared: Tensor
    split: list[Split]
    lines: list[int]


def read_pairs(table: Path, root: Path) -> Rows:
    """Read a table with the columns path_a, path_b, perhaps split, and one more a concept.

    Args:
        table: a .csv file with a header, comma-separated.
        root: folder that relative paths start from.

    Raises:
        ConfigError: the header or a row is malformed; the text says in which line.
        DataNotFoundError: there is no such file.
    """
    if not table.is_file():
        raise DataNotFoundError(
            f"There is no table {table}; {found_in(table.parent)}. Point data.table to a .csv file with the columns "
            f"path_a, path_b and one a concept, whose cells are same, different or unknown."
        )
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        concepts = _concepts(table, header)
        rows = Rows(concepts, [], torch.empty(0), [], [])
        shared = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = _row(table, reader.line_num, header, cells)
            rows.paths.append((os.path.normpath(root / row["path_a"]), os.path.normpath(root / row["path_b"])))
            shared.append([SHARED[row[name].lower()] for name in concepts])
            if SPLIT in header:
                rows.split.append(next(name for name in SPLITS if name == row[SPLIT].lower()))
            rows.lines.append(reader.line_num)
    if not shared:
        raise ConfigError(f"{table} has a header, but no pair.")
    return rows._replace(shared=torch.tensor(shared))


class PairsCSV(FileModule):
    """Pairs of images, and of each concept whether it is the same in both.

    * a table with the columns path_a, path_b, one a concept (same, different or unknown; also 1, 0 or nothing), and
      perhaps split (train, val or test)
    * each row is two items of its own, 2i and 2i+1: an image that shares a concept shares it with the one that the row
      names, and with no other; the images of a row that shares nothing meet any others, as pairs that share nothing
    * unknown counts as not shared, as different does
    * splits that the column does not name are taken from the training rows by seed; rows that have an image in common,
      directly or over others, stay together

    Args:
        table: the .csv file.
        root: folder that relative paths start from; None: that of the table.
        test_fraction: part for test where no row says it, in (0, 1); like ``val_fraction`` of the groups of rows that
            have no image in common.
        split_seed: of splits that are drawn; see ``ImageFolder``.
        **options: see ``FileModule``.

    Raises:
        ConfigError: test_fraction is out of its range; when the data are first used: a row is malformed, or an image
            is in two splits.
        DataNotFoundError: when the data are first used: there is no table.
    """

    title: ClassVar[str] = "Pairs of images, as a table says"
    license: ClassVar[str] = "that of the images"
    terms: ClassVar[str] = "Those of the images."
    classes: Mapping[str, Sequence[str]] = {}

    def __init__(
        self,
        table: str | Path,
        *,
        root: str | Path | None = None,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        **options: Any,
    ) -> None:
        check_fraction("test_fraction", test_fraction)
        super().__init__(**options)
        self.table = Path(table).absolute()
        self.root = self.table.parent if root is None else Path(root).absolute()
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    @property
    def concepts(self) -> tuple[str, ...]:  # type: ignore[override]  # read at first use
        """The names of the table's columns."""
        return self._rows.concepts

    @property
    def kinds(self) -> dict[str, str]:  # type: ignore[override]
        """A label only says which two are the same."""
        return dict.fromkeys(self.concepts, "identity")

    def listing(self, split: Split) -> Listing:
        """The images of a split's rows, both of a row side by side."""
        found = self._records.listing(split)
        if self.limit is None or len(found.paths) <= self.limit:
            return found
        rows = choose(found.labels[::2], max(1, self.limit // 2), FIXED)  # both images of a row, or none
        return found.take(torch.stack([2 * rows, 2 * rows + 1], 1).flatten())

    @cached_property
    def _rows(self) -> Rows:
        return read_pairs(self.table, self.root)

    @cached_property
    def _records(self) -> Records:
        rows = self._rows
        labels = torch.arange(2 * len(rows.paths))[:, None].repeat(1, len(rows.concepts))
        labels[1::2] -= rows.shared.long()
        files = [path for pair in rows.paths for path in pair]
        return Records(files, labels, self._splits(rows).repeat_interleave(2))

    def _splits(self, rows: Rows) -> Tensor:
        _, image = np.unique(np.array(rows.paths), return_inverse=True)
        a, b = image.reshape(-1, 2).T
        links = coo_array((np.ones(len(a)), (a, b)), shape=(len(a) + len(b),) * 2)
        linked = torch.from_numpy(csgraph.connected_components(links)[1][a]).long()
        if not rows.split:
            return split_groups(linked, self.val_fraction, self.test_fraction, self.split_seed)
        seen: dict[str, int] = {}
        for number, pair in enumerate(rows.paths):
            for path in pair:
                first = seen.setdefault(path, number)
                if rows.split[first] != rows.split[number]:
                    raise ConfigError(
                        f"{self.table}: {path} is in the {rows.split[first]} split in line {rows.lines[first]} and in "
                        f"the {rows.split[number]} split in line {rows.lines[number]}; an image belongs to one."
                    )
        split = torch.tensor([SPLITS.index(name) for name in rows.split])
        train = split == 0
        val_fraction = 0 if "val" in rows.split else self.val_fraction
        test_fraction = 0 if "test" in rows.split else self.test_fraction
        split[train] = split_groups(linked[train], val_fraction, test_fraction, self.split_seed)
        return split


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
        allowed = [] if name in PATHS else list(SPLITS) if name == SPLIT else list(SHARED)
        if (allowed and cell.lower() not in allowed) or (not allowed and not cell):
            what = ", ".join(value or "nothing" for value in allowed) or "the path of an image"
            raise ConfigError(f"{table}, line {line}, column {name}: {cell!r} is none of what is allowed: {what}.")
    return row
