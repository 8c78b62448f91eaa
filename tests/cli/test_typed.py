"""What is typed and printed: values of any letters, ``~``, patterns, and readers that leave."""

import os
import shlex
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from iin_lightning.cli.arguments import expand_home, from_home
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.refusals import check_arguments
from iin_lightning.errors import ConfigError
from iin_lightning.printing import argument, command_line, pasted
from iin_lightning.runs.locate import find_runs, matching
from iin_lightning.serialization import STRUCTURE


def read(word):
    """The value of an argument, as a job gets it."""
    config = OmegaConf.create({"value": OverridesParser.create().parse_override(word).value()})
    expand_home(config)
    return config.value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "True",
        "1_0",
        "..",
        "outputs/mine",
        "cats, dogs=1",
        "/x/[2026] my, runs=x/r1",
        "{a:b}",
        "(a)",
        "/home/mädchen/日本",
        "o'b\\'c",
        'o"b\\"c',
        "/a b\\",
        "$HOME `ls` !x",
        "/a${b}",
        "/a\\${b}",
        "~/x",
        "~x",
        "-x",
        "a\tb\nc",
        "caf\udce9",
    ],
)
def test_what_is_printed_can_be_pasted(value, monkeypatch):
    line = command_line("train", argument("name", value))
    monkeypatch.setenv("HOME", "~")
    assert read(shlex.split(line)[-1]) == value
    assert shlex.split(pasted("name", value)) == shlex.split(line)[-1:]


@pytest.mark.parametrize("value", ["cats, dogs=1", "[2026] my, runs", "größe", "it's"])
def test_the_cure_of_what_cannot_be_read_can_be_read(value, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / value).mkdir()
    monkeypatch.setattr("sys.argv", ["train", f"run={value}"])
    with pytest.raises(ConfigError) as error:
        check_arguments("evaluate")
    assert pasted("run", value) in str(error.value)


@pytest.mark.parametrize("home", ["/home/ada", "/home/Jörg, it's me"])
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("paths.outputs=~/o", "{}/o"),
        ("data.root=~", "{}"),
        ('run="~/my runs"', "{}/my runs"),
        ("run=~/my\\ runs", "{}/my runs"),
        ("images=[~/a.png, '~/b.png']", ["{}/a.png", "{}/b.png"]),
        ('name="a/~/b"', "a/~/b"),
    ],
)
def test_the_home_folder_is_written_as_in_a_shell(home, typed, meant, monkeypatch):
    monkeypatch.setenv("HOME", home)
    value = read(from_home(typed))
    assert value == (meant.format(home) if isinstance(meant, str) else [one.format(home) for one in meant])


def test_the_home_folder_is_written_so_in_yaml_too(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "paths").mkdir()
    (tmp_path / "paths" / "mine.yaml").write_text("defaults: [default]\ndata: ~/data\n", encoding="utf-8")
    config = compose_train("paths=mine", "data=celeba", config_dir=str(tmp_path))
    assert config.paths.data == "/home/ada/data"
    assert config.data.root.startswith("/home/ada/data")
    assert from_home("--config-dir=~/conf") == "--config-dir=/home/ada/conf"


def test_a_path_that_is_there_is_no_pattern(tmp_path):
    folder = tmp_path / "[2026] my, runs=x"
    runs = [folder / name for name in ("r1", "r2", "r*")]
    for run in runs:
        run.mkdir(parents=True)
        (run / STRUCTURE).touch()
    assert find_runs(str(runs[0])) == runs[:1]
    assert find_runs(str(runs[2])) == runs[2:]  # and not all that it fits
    assert find_runs([f"{folder}/r?"]) == [runs[2], *runs[:2]]
    assert matching(f"{tmp_path}/?2026? my*") == [folder]
    assert matching(f"{tmp_path}/nowhere/*") == []


@pytest.mark.commands
@pytest.mark.parametrize("command", [["iin_lightning"], ["iin_lightning.train", "--help"]])
def test_a_reader_may_leave(command, environment):
    reader, writer = os.pipe()
    os.close(reader)
    variables = {**environment, "PYTHONUNBUFFERED": "1"}
    process = subprocess.run(
        [sys.executable, "-m", *command], stdout=writer, stderr=subprocess.PIPE, env=variables, text=True, check=False
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")
