import itertools
from pathlib import Path

import pytest
import torch
from tests.data import fakes

from iin_lightning.data.pairs_csv import PairsCSV
from iin_lightning.data.stream import ConceptPairs
from iin_lightning.errors import ConfigError, DataNotFoundError
from iin_lightning.factors import Factors
from iin_lightning.seeding import generator

SPLITS = ("train", "val", "test")


def pairs_csv(table, **options) -> PairsCSV:
    return PairsCSV(table, **{"cache": "none", "num_workers": 0, **options})


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def table_of(path: Path, *rows: str) -> str:
    """A table with the concepts shape and material; paths are without their .png."""
    cells = [row.split(",") for row in rows]
    lines = [",".join((f"{a}.png", f"{b}.png", *rest)) for a, b, *rest in cells]
    return write(path, "\n".join(["path_a,path_b,shape,material" + ",split" * (len(cells[0]) > 4), *lines]) + "\n")


def all_for_training(table: str) -> str:
    """The same table, all of whose images train; two others validate, and two test."""
    head, *rows = Path(table).read_text(encoding="utf-8").splitlines()
    others = ["y.png,Y.png,0,0,val", "z.png,Z.png,0,0,test"]
    return write(Path(table), "\n".join([f"{head},split", *(f"{row},train" for row in rows), *others]))


def sides_of(data: PairsCSV) -> dict[str, str]:
    """Name of an image -> its split, each image once."""
    found = [(path.stem, side) for side in SPLITS for path in data.listing(side).paths]
    assert len(dict(found)) == len(found)
    return dict(found)


def shared(data: PairsCSV, concept: str) -> set[str]:
    """All two images that share a concept, such as "ab"."""
    column = data.concepts.index(concept)
    listings = [data.listing(side) for side in SPLITS]
    label = {path.stem: row[column] for found in listings for path, row in zip(found.paths, found.labels.tolist())}
    return {a + b for a, b in itertools.combinations(sorted(label), 2) if label[a] == label[b]}


@pytest.fixture
def world(tmp_path) -> str:
    """a, b, c, d have one shape, over b and c; e and f, and again a and g one material; h shares nothing."""
    return table_of(
        tmp_path / "world.csv",
        "a,b,same,different",
        "d,c,1,unknown",
        "c,b,same,",
        "e,f,unknown,same",
        "e,a,different,unknown",
        "g,a,0,1",
        "h,a,unknown,different",
        "a,b,unknown,different",
    )


def test_the_same_passes_from_image_to_image_and_nothing_else_does(world):
    data = pairs_csv(all_for_training(world))
    assert data.concepts == ("shape", "material")
    assert data.kinds == {"shape": "identity", "material": "identity"}
    assert set(sides_of(data)) == set("abcdefghyYzZ")
    assert shared(data, "shape") == {"ab", "ac", "ad", "bc", "bd", "cd"}
    assert shared(data, "material") == {"ag", "ef"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a,d,different,same", r"line 10, column shape: a.png and d.png .*\(a.png = b.png = c.png = d.png\)"),
        ("b,a,0,unknown", r"line 10, column shape: b.png and a.png .*\(b.png = a.png\)"),
        ("f,e,same,different", r"line 10, column material: f.png and e.png .*\(f.png = e.png\)"),
    ],
)
def test_what_is_the_same_over_others_cannot_be_different(world, row, expected):
    a, b, *cells = row.split(",")
    with open(world, "a", encoding="utf-8") as file:
        file.write(f"{a}.png,./{b}.png,{','.join(cells)}\n")
    with pytest.raises(ConfigError, match=rf"world.csv, {expected}\. Correct the row .*write unknown"):
        pairs_csv(world).source("train")


def test_images_meet_whom_they_share_with_and_those_that_share_nothing_anybody_but_themselves(world):
    data = pairs_csv(all_for_training(world))
    source = data.source("train")
    pairs = ConceptPairs(source, Factors({"residual": 1, "shape": 1, "material": 1}, 3))
    names = [path.stem for path in data.listing("train").paths]
    met: dict[str, set[str]] = {name: set() for name in names}
    for trial in range(100):
        for a, b in enumerate(pairs.partners(torch.arange(len(source)), generator(trial)).tolist()):
            met[names[a]].add(names[b])
    assert met == {
        "a": set("bcdg"),
        "b": set("acd"),
        "c": set("abd"),
        "d": set("abc"),
        "e": {"f"},
        "f": {"e"},
        "g": {"a"},
        "h": set("abcdefg"),
    }


def test_the_column_says_the_split(tmp_path):
    sides = sides_of(pairs_csv(fakes.write_pairs_csv(tmp_path, split=True)))
    expected = ("train", "train", "train", "train", "val", "test")
    assert sides == {f"{i}{side}": expected[i % 6] for i in range(30) for side in "ab"}


def test_images_that_rows_link_stay_together_whatever_the_rows_say(tmp_path):
    names = "abcdefghijkl"
    kinds = ("same,same", "different,0", "unknown,")
    chains = [f"{x}{i},./{x}{i + 1},{kinds[i]}" for x in names for i in range(3)]  # a0-a1-a2-a3, ...
    table = table_of(tmp_path / "t.csv", *chains)
    for seed in range(5):
        sides = sides_of(pairs_csv(table, split_seed=seed))
        assert len(sides) == 48
        assert len({(name[0], side) for name, side in sides.items()}) == 12
        counts = [len({name[0] for name in sides if sides[name] == side}) for side in ("val", "test")]
        assert 2 <= min(counts) <= max(counts) <= 4


@pytest.mark.parametrize("seed", range(5))
def test_a_group_that_has_most_of_the_images_trains(tmp_path, seed):
    rows = [f"n{i},n{i + 1},same,0" for i in range(499)] + [f"p{i},q{i},same,0" for i in range(12)]
    sides = sides_of(pairs_csv(table_of(tmp_path / "t.csv", *rows), split_seed=seed))
    assert {sides[name] for name in sides if name[0] == "n"} == {"train"}
    for side in ("val", "test"):
        assert 4 <= list(sides.values()).count(side) <= 8  # two to four of the lone pairs


@pytest.mark.parametrize(
    ("rows", "split", "expected"),
    [
        ([f"n{i},n{i + 1},0,1" for i in range(7)], "val and the test", "8 of 8"),
        (["a,b,1,1", "b,c,1,1", "d,e,1,1"], "val and the test", "3 of 5"),
        (["a,b,1,1,train", "b,c,1,1,train", "y,z,1,1,test"], "val", "3 of 3"),
    ],
)
def test_a_split_that_is_left_without_a_group_says_why(tmp_path, rows, split, expected):
    with pytest.raises(
        ConfigError,
        match=rf"t.csv leaves no image for the {split} split: {expected} images are linked .*Add a column split",
    ):
        pairs_csv(table_of(tmp_path / "t.csv", *rows)).source("train")


def test_a_row_that_enlarges_a_group_seldom_moves_it_and_one_that_links_two_moves_one(tmp_path):
    rows = [f"m{group}_{i},m{group}_{i + 1},same,0" for group in range(100) for i in range(9)]
    more = [f"m{group}_9,{'az'[group % 2]}{group},same,0" for group in range(100)]  # names before and after all others
    links = [f"m{group}_0,m{group + 1}_0,same,0" for group in range(0, 100, 2)]
    options = {"val_fraction": 0.3, "test_fraction": 0.3}
    before, enlarged, linked = (
        sides_of(pairs_csv(table_of(tmp_path / f"{number}.csv", *rows, *added), **options))
        for number, added in enumerate(([], more, links))
    )
    moved, also = (
        [after[f"m{group}_0"] != before[f"m{group}_0"] for group in range(100)] for after in (enlarged, linked)
    )
    assert 0 < sum(moved) <= 100 / 11 * 2  # some of the one in eleven that a new image names
    assert not any(one and other for one, other in zip(also[::2], also[1::2]))


def test_no_image_changes_sides_as_rows_come_and_go_or_the_folder_moves(tmp_path):
    rows = [f"images/{i}a,images/{i}b,same,0" for i in range(200)]
    options = {"val_fraction": 0.2, "test_fraction": 0.2}
    grown = sides_of(pairs_csv(table_of(tmp_path / "t.csv", *rows), **options))
    part = sides_of(pairs_csv(table_of(tmp_path / "elsewhere" / "part.csv", *rows[::-2]), **options))
    assert len(part) == 200
    assert part.items() <= grown.items()
    outside = [row.replace("images/", "../images/") for row in rows]
    there, moved = (
        sides_of(pairs_csv(table_of(tmp_path / folder / "tables" / "t.csv", *outside), **options))
        for folder in ("one", "two/three")
    )
    assert there == moved
    absolute = [row.replace("images/", f"{tmp_path}/images/") for row in rows]
    assert sides_of(pairs_csv(table_of(tmp_path / "absolute.csv", *absolute), **options)) == grown


def test_paths_are_relative_to_the_table_or_to_a_root(tmp_path):
    table = fakes.write_pairs_csv(tmp_path / "a")
    assert all(path.is_file() for path in pairs_csv(table).listing("train").paths)
    moved = table.rename(tmp_path / "moved.csv")
    assert all(path.is_file() for path in pairs_csv(moved, root=tmp_path / "a").listing("train").paths)


def test_a_limit_takes_the_images_of_whole_rows(tmp_path):
    rows = [f"{x}{i},{x}{j},same,0" for x in "abcdef" for i, j in itertools.combinations(range(4), 2)]
    table = all_for_training(table_of(tmp_path / "t.csv", *rows))
    whole = set(sides_of(pairs_csv(table)))
    for limit in (2, 7, 23):
        data = pairs_csv(table, limit=limit)
        sides = sides_of(data)
        train = [name for name in sides if sides[name] == "train"]
        assert limit // 2 <= len(train) <= limit
        assert set(sides) <= whole
        assert all(any(a != b and a[0] == b[0] for b in train) for a in train)  # each with one of a row of its own
        assert {name for name in sides if sides[name] != "train"} == set("yYzZ")
    assert set(sides_of(pairs_csv(table, limit=24))) == whole
    assert len(pairs_csv(fakes.write_pairs_csv(tmp_path / "files"), limit=9).source("train")) == 8


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
    "an unclosed quote": (HEAD + 'a,b,same,train\n"c,d,same,train\n' + "e,f,1,train\n" * 20_000, r"line 3, is no CSV"),
    "an unclosed quote in the last line": (HEAD + 'a,b,same,"train\n', r"line 2, is no CSV .*close every quote"),
    "another encoding": (
        (HEAD + "a,b,same,train\nfür,d,1,train\n").encode("cp1252"),
        r"line 3\. Save it as CSV in UTF",
    ),
    "an image with itself": (
        HEAD + "a,b,0,train\nc/d.png,c/./d.png,same,train\n",
        r"line 3, pairs c/d.png with itself",
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG)
def test_a_malformed_table_is_refused_with_line_column_and_value(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=rf"wrong.csv.*{expected}"):
        pairs_csv(write(tmp_path / "wrong.csv", text)).source("train")


def test_cells_may_be_in_any_case_and_of_excel(tmp_path):
    table = write(tmp_path / "t.csv", "\ufeffpath_a, path_b, c\r\n" + "".join(f"{i},{i}b, SAME \r\n" for i in range(9)))
    assert shared(pairs_csv(table), "c") == {f"{i}{i}b" for i in range(9)}


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
    with pytest.raises(ConfigError, match=r"val_fraction=0\.5 must lie between 0 and 1/3"):
        pairs_csv("nowhere.csv", val_fraction=0.5)
