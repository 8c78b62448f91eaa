"""What the page says of the server's folders: nothing that tells where they lie."""

import tempfile
from pathlib import Path

import pytest

from iin_lightning.explorer.folders import know, without_folders


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Folders as those of a server, with blanks: where it was started, and one of somebody's own."""
    home = tmp_path / "home" / "a b"
    (home / "my work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(home / "my work")
    return home


def test_paths_begin_where_the_server_was_started(server):
    assert without_folders(f"run={server}/my work/outputs/x y: {server}/my work") == "run=outputs/x y: ."
    assert without_folders(f"No {server}/my work.") == "No .."
    assert without_folders("outputs/x and ../data/y stay") == "outputs/x and ../data/y stay"


def test_known_folders_are_shown_by_their_names(server):
    know(server / "my data", "paths.data")
    know(Path("..", "other runs", "a"), "sup/a")
    assert without_folders(f"{server}/my data/celeba, '{server}/other runs/a'") == "<paths.data>/celeba, '<sup/a>'"
    assert without_folders(f"{server}/my data 2") == "<paths.data> 2"
    assert without_folders(f"file://{server}/my database/x") == "file://<home>/my database/x"
    assert without_folders(f"{server}2/x is empty") == "a b2/x is empty"  # nobody knows it


def test_other_paths_keep_their_last_names():
    assert without_folders("/srv/someone/outputs/run holds no model") == "run holds no model"
    assert without_folders("https://a.org/b and c/d") == "https://a.org/b and c/d"
