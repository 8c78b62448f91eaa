import pytest
import torch
from tests.data import fakes

from iin_lightning.data.pairs_csv import PairsCSV
from iin_lightning.errors import ConfigError, DataNotFoundError

SPLITS = ("train", "val", "test")


def pairs_csv(table, **options) -> PairsCSV:
    return PairsCSV(table, **{"cache": "none", "num_workers": 0, **options})


def rows(data: PairsCSV, split: str) -> dict[str, list[bool]]:
    """Name of the first image -> whether each concept is shared, of every row of a split."""
    listing = data.listing(split)
    assert all(a.stem[:-1] == b.stem[:-1] for a, b in zip(listing.paths[::2], listing.paths[1::2]))
    shared = listing.labels[::2] == listing.labels[1::2]
    return {path.name: row for path, row in zip(listing.paths[::2], shared.tolist())}


def write(path, text) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("split", [False, True])
def test_a_label_is_shared_exactly_where_a_row_says_same(tmp_path, split):
    data = pairs_csv(fakes.write_pairs_csv(tmp_path, split=split))
    assert data.concepts == ("shape", "material")
    assert data.kinds == {"shape": "identity", "material": "identity"}
    found = {name: row for side in SPLITS for name, row in rows(data, side).items()}
    assert found == {f"{i}a.png": [i % 2 == 0, i % 4 == 0] for i in range(30)}
    labels = torch.cat([data.listing(side).labels for side in SPLITS])
    for column in labels.T:
        assert column.unique(return_counts=True)[1].max() <= 2  # no other row's


def test_the_column_says_the_split(tmp_path):
    data = pairs_csv(fakes.write_pairs_csv(tmp_path, split=True))
    assert [len(rows(data, side)) for side in SPLITS] == [20, 5, 5]
    assert set(rows(data, "test")) == {f"{i}a.png" for i in (5, 11, 17, 23, 29)}


def test_a_split_that_no_row_names_is_taken_from_training(tmp_path):
    table = fakes.write_pairs_csv(tmp_path, split=True)
    table.write_text(table.read_text().replace(",val", ",train"))
    assert [len(rows(pairs_csv(table), side)) for side in SPLITS] == [23, 2, 5]


def test_rows_that_are_linked_by_images_stay_together(tmp_path):
    names = "abcdefghijkl"
    chains = [(f"{x}{i}", f"{x}{i + 1}") for x in names for i in range(3)]  # a0-a1-a2-a3, ...
    table = write(tmp_path / "t.csv", "path_a,path_b,c\n" + "".join(f"./{a}.png,{b}.png,same\n" for a, b in chains))
    for seed in range(5):
        data = pairs_csv(table, split_seed=seed)
        sides = [{path.stem[0] for path in data.listing(side).paths} for side in SPLITS]
        assert [len(side) for side in sides] == [8, 2, 2]
        assert len(set.union(*sides)) == 12


def test_paths_are_relative_to_the_table_or_to_a_root(tmp_path):
    table = fakes.write_pairs_csv(tmp_path / "a")
    assert all(path.is_file() for path in pairs_csv(table).listing("train").paths)
    moved = table.rename(tmp_path / "moved.csv")
    assert all(path.is_file() for path in pairs_csv(moved, root=tmp_path / "a").listing("train").paths)


def test_a_limit_takes_whole_rows(tmp_path):
    table = fakes.write_pairs_csv(tmp_path)
    whole, part = pairs_csv(table), pairs_csv(table, limit=9)
    assert len(rows(part, "train")) == 4
    assert rows(part, "train").items() <= rows(whole, "train").items()
    assert len(part.source("train")) == 8


HEAD = "path_a,path_b,shape,split\n"
WRONG = {
    "a value": (HEAD + "a,b,same,train\nc,d,alike,train\n", r"line 3, column shape: 'alike' is none .*same, 1, diff"),
    "a split": (HEAD + "a,b,same,training\n", r"line 2, column split: 'training' .*: train, val, test\."),
    "no path": (HEAD + "a,,same,train\n", r"line 2, column path_b: '' .*the path of an image"),
    "too few cells": (HEAD + "a,b,same\n", r"line 2, has 3 cells for the 4 columns"),
    "an image in two splits": (
        HEAD + "a,b,1,train\nc,d,0,val\n\nd,a,1,test\n",
        r"[ad] is in the .* line [23] .*line 5",
    ),
    "no concept": ("path_a,path_b\na,b\n", r"columns 'path_a', 'path_b'; expected are path_a, path_b, one or more"),
    "other columns": ("left,right,shape\na,b,1\n", r"columns 'left', 'right', 'shape'"),
    "semicolons": ("path_a;path_b;shape\na;b;1\n", r"columns 'path_a;path_b;shape'.*separated by commas"),
    "a column twice": ("path_a,path_b,c,c\na,b,1,1\n", "each once"),
    "nothing": ("", "of an empty file"),
    "no rows": (HEAD, "no pair"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG)
def test_a_malformed_table_is_refused_with_line_column_and_value(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=rf"wrong.csv.*{expected}"):
        pairs_csv(write(tmp_path / "wrong.csv", text)).source("train")


def test_cells_may_be_in_any_case_and_of_excel(tmp_path):
    table = write(tmp_path / "t.csv", "\ufeffpath_a, path_b, c\r\n" + "".join(f"{i},{i}b, SAME \r\n" for i in range(9)))
    assert all(row == [True] for row in rows_of(pairs_csv(table)))


def rows_of(data: PairsCSV) -> list[list[bool]]:
    labels = data.listing("train").labels
    return (labels[::2] == labels[1::2]).tolist()


def test_a_missing_table_says_what_it_should_have(tmp_path):
    (tmp_path / "pair.csv").write_text("")
    with pytest.raises(
        DataNotFoundError, match=r"no table .*pairs.csv; .*has pair.csv.*data.table.*same, different or"
    ):
        pairs_csv(tmp_path / "pairs.csv").source("train")


def test_nothing_is_read_before_first_use():
    pairs_csv("nowhere.csv")
    with pytest.raises(ConfigError, match="test_fraction=0"):
        pairs_csv("nowhere.csv", test_fraction=0)
