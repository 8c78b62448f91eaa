"""A user's own images, and a table that says of pairs of them which concepts both share."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.sparse import csgraph, csr_array
from torch import Tensor

from iin_lightning.data.base import Split
from iin_lightning.data.downloads import found_in, read_text
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.splits import SPLITS, Records, check_fraction, choose, hashed, split_groups
from iin_lightning.errors import ConfigError, DataNotFoundError
from iin_lightning.seeding import FIXED

PATHS = ("path_a", "path_b")
SPLIT = "split"
# An unknown concept is learned from no less than a different one: a pair teaches by what it surely shares.
SAME, DIFFERENT, UNKNOWN = 1, 0, -1
CELLS = {"same": SAME, "1": SAME, "different": DIFFERENT, "0": DIFFERENT, "unknown": UNKNOWN, "": UNKNOWN}


class Rows(NamedTuple):
    """The R pairs of a table: absolute paths, what is said of K concepts (R, K), splits (if any), numbers of lines."""

    concepts: tuple[str, ...]
    paths: list[tuple[str, str]]
    said: Tensor
    split: list[Split]
    lines: list[int]


class PairsCSV(FileModule):
    """Images, and of pairs of them whether they share a concept.

    * a table with the columns path_a, path_b, one a concept (same, different or unknown; also 1, 0 or nothing), and
      perhaps split (train, val or test)
    * an item is an image, however many rows name it; two images share a concept if rows say that they are the same,
      directly or from image to image: a = b and b = c make a = c
    * unknown counts as not shared, as different does
    * images that share a concept meet each other, whichever rows name them; an image that shares nothing meets any
      other, as a pair that shares nothing
    * two images never share the residual, even where a row says that they differ in a single concept: what the columns
      do not name is unknown. Images of which only one concept was changed are versions, which data=transform makes
    * splits that the column does not name are taken from the training images by a hash of their paths below root; those
      that rows link, whatever the rows say, directly or over others, stay together, and train if they are too many
    * no image changes sides as others come and go; but a row that links two groups can move one of them, and a row
      that adds an image to a group of n can move that in less than one of n + 1 cases
    * a limit draws rows, and leaves the images of each of them

    Relative paths start from ``root``, by default the folder of the table. Fractions are about which part of the groups
    of linked images is held out; see ``split_groups``.
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
        **options: Any,
    ) -> None:
        check_fraction("test_fraction", test_fraction)
        super().__init__(**options)
        self.table = Path(table).absolute()
        self.root = self.table.parent if root is None else Path(root).absolute()
        self.test_fraction = test_fraction

    @property
    def concepts(self) -> tuple[str, ...]:  # type: ignore[override]  # read at first use
        """The names of the table's columns."""
        return self._rows.concepts

    @property
    def kinds(self) -> dict[str, str]:  # type: ignore[override]
        """A label only says which two are the same."""
        return dict.fromkeys(self.concepts, "identity")

    @cached_property
    def _rows(self) -> Rows:
        return read_pairs(self.table, self.root)

    @cached_property
    def _records(self) -> Records:
        rows = self._rows
        names = {path: self._name(path) for path in chain.from_iterable(rows.paths)}
        files = sorted(names, key=names.__getitem__)
        number = {path: item for item, path in enumerate(files)}
        pairs = torch.tensor([[number[path] for path in pair] for pair in rows.paths])
        in_order = [names[path] for path in files]
        labels = torch.stack([self._components(in_order, pairs, column) for column in range(len(rows.concepts))], 1)
        split = self._splits(in_order, pairs)
        return Records(files, labels, split if self.limit is None else _few(split, pairs, self.limit)).mixed()

    def _name(self, path: str) -> str:
        """Where an image is from the root on, as it is written on every platform."""
        # On Windows nothing leads from one drive to another.
        return Path(os.path.relpath(path, self.root) if Path(path).drive == self.root.drive else path).as_posix()

    def _components(self, names: Sequence[str], pairs: Tensor, column: int) -> Tensor:
        """The label long (n,) of each image for a concept."""
        said = self._rows.said[:, column]
        links = _links(pairs[said == SAME], len(names))
        label = torch.from_numpy(csgraph.connected_components(links, directed=False)[1]).long()
        a, b = label[pairs].T
        wrong = ((said == DIFFERENT) & (a == b)).nonzero()[:, 0].tolist()
        if wrong:
            first, last = pairs[wrong[0]].tolist()
            before = csgraph.breadth_first_order(links, first, directed=False)[1]
            path = [last]
            while path[-1] != first:
                path.append(int(before[path[-1]]))
            raise ConfigError(
                f"{self.table}, line {self._rows.lines[wrong[0]]}, column {self._rows.concepts[column]}: "
                f"{names[first]} and {names[last]} are different, but other rows make them the same "
                f"({' = '.join(names[item] for item in reversed(path))}). Correct the row that is wrong; "
                "where you do not know, write unknown."
            )
        return label

    def _splits(self, names: Sequence[str], pairs: Tensor) -> Tensor:
        """The split (n,) of each image."""
        rows = self._rows
        split = torch.zeros(len(names), dtype=torch.long)
        seen: dict[int, int] = {}
        for row, side in enumerate(rows.split):
            for item in pairs[row].tolist():
                first = seen.setdefault(item, row)
                if rows.split[first] != side:
                    raise ConfigError(
                        f"{self.table}: {names[item]} is in the {rows.split[first]} split in line {rows.lines[first]} "
                        f"and in the {side} split in line {rows.lines[row]}; an image belongs to one."
                    )
                split[item] = SPLITS.index(side)
        linked = csgraph.connected_components(_links(pairs, len(names)), directed=False)[1].tolist()
        # A group is called like a member by chance: a new one seldom takes the name over, and a hash of that name
        # is as likely for a large group to be small as for a small one.
        called: dict[int, str] = {}
        for group, name in sorted(zip(linked, names), key=lambda member: hashed(member[1], "name of a group")):
            called.setdefault(group, name)
        train = split == SPLITS.index("train")
        drawn = {"val": self.val_fraction, "test": self.test_fraction}
        drawn = {side: 0 if side in rows.split else fraction for side, fraction in drawn.items()}
        groups = [called[group] for group, inside in zip(linked, train.tolist()) if inside]
        split[train] = split_groups(groups, drawn["val"], drawn["test"], self.split_seed)
        empty = [side for side in SPLITS if drawn.get(side) and not (split == SPLITS.index(side)).any()]
        if groups and empty:
            largest = max(Counter(groups).values())
            raise ConfigError(
                f"{self.table} leaves no image for the {' and the '.join(empty)} split: {largest} of {len(groups)} "
                "images are linked by rows into one group, which stays on one side. Add a column split, pairs of other "
                "images, or rows that link fewer images."
            )
        return split


def _few(split: Tensor, pairs: Tensor, limit: int) -> Tensor:
    """The splits (n,) of images; one of more than ``limit`` keeps the images of some rows, and others are in none."""
    kept = torch.zeros_like(split, dtype=torch.bool)
    for side in split.unique().tolist():
        rows = pairs[split[pairs[:, 0]] == side]
        kept[rows if (split == side).sum() <= limit else rows[choose(rows, max(1, limit // 2), FIXED)]] = True
    return split.where(kept, -1)


def _links(pairs: Tensor, n: int) -> csr_array:
    """The pairs (R, 2) of n items as a graph."""
    return csr_array((np.ones(len(pairs)), tuple(pairs.T.numpy())), shape=(n, n))


def read_pairs(table: Path, root: Path) -> Rows:
    """Read a table with the columns path_a, path_b, perhaps split, and one more a concept.

    Relative paths start from ``root``.

    Raises:
        ConfigError: the file is no CSV in UTF-8, its header or a row is malformed, or a row pairs an image with
            itself; the text says in which line.
        DataNotFoundError: the file is absent.
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
