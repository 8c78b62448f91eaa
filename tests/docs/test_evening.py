"""The reading path is an evening: its files exist, are few, and are short."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reading_path_is_an_evening():
    text = (ROOT / "docs" / "evening.md").read_text(encoding="utf-8")
    numbers, paths = zip(*re.findall(r"^(\d+)\. `(\S+\.py)`: ", text, re.MULTILINE))
    assert [int(number) for number in numbers] == list(range(1, len(paths) + 1))
    assert len(set(paths)) == len(paths) <= 20
    lines = {path: len((ROOT / "src/iin_lightning" / path).read_text(encoding="utf-8").splitlines()) for path in paths}
    assert sum(lines.values()) <= 3000, lines


def test_the_files_that_a_command_runs_through_exist():
    text = (ROOT / "docs" / "evening.md").read_text(encoding="utf-8").partition("{ #command }")[2]
    paths = re.findall(r"[a-z_/]+\.py", text)
    assert len(paths) > 8
    assert all((ROOT / "src/iin_lightning" / path).is_file() for path in paths), paths
