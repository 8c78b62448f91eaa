"""What a user reads before anything runs: help, the list of commands, completion, and what was probably meant."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from iin_lightning import __main__, progress
from iin_lightning.cli.compose import group_choices, is_group
from iin_lightning.cli.paths import conf_folder
from iin_lightning.printing import show_files

COMMANDS = tuple(__main__.COMMANDS)
IIN = "import sys; sys.argv[0] = 'iin'; from iin_lightning.__main__ import main; main()"
TYPED = {
    "train": {
        "dta=celeba": "did you mean data?",
        "data=celba": "There is no data=celba; .*did you mean celeba?",
        "data=3": "There is no data=3",
        "modle=sup": "did you mean model?",
        "model.lrr=1": "in model allowed are: .*did you mean lr?",
        "+experment=tab1_dimensions": "did you mean experiment?",
        "trainer.max_step=3": "did you mean max_steps?",
        "lr=1": r"did you mean model\.lr?",
        "max_steps=1": r"did you mean model\.steps?",
        "model.optimizer.lr=1": r"did you mean optimizer\.lr?",
        "judge.model.steps=3": r"\+judge\.model\.steps=<value> adds it",
        "encoder=torchvison/resnet18": "did you mean torchvision/resnet18?",
        "encoder=torchvision/resnet81": "did you mean resnet18?",
        "data=sketch data/stylizer=modul": "There is no data/stylizer=modul; .*did you mean module?",
        "data@data.bse=mnist": "in data allowed are: ",
        "model sup": "'model' has no equals sign: model=sup",
        "celeba": "'celeba' has no equals sign: data=celeba",
        "data= celeba": "data=celeba",
        "swep joblib": "sweep=joblib",
        "nothing_like_it": "--help lists the keys",
        "--data celeba": "There is no --data: .*data=celeba",
        "--dat=celeba": "data=celeba",
        "--epochs 5": r"There is no --epochs: .*model\.steps=<value>",
        "--lr 1": r"model\.lr=1",
        "-epochs 5": r"There is no -epochs: .*model\.steps",
        "-lr 0.1": r"There is no -lr: .*model\.lr=0\.1?",
        "-lr=0.1": r"model\.lr=0\.1?",
        "-model=sup": "There is no -model: .*model=sup",
        "-help": "There is no -help: did you mean --help?",
        "--multirn seed=0,1": "did you mean --multirun?",
        "-c jobb": "invalid choice: 'jobb'",
        "--config-dir": "expected one argument",
        "--config-dir nowhere": "--config-dir nowhere is no folder",
        "data/celeba": "data=celeba?",
        "data =celeba": "'data' has no equals sign: data=celeba?",
        "=3": "'=3' has no key",
        "data=": "There is no data=; allowed are: ",
        "data==celeba": "data==celeba cannot be read: data=celeba?",
        "data=gray data.base=celbea": r"There is no data\.base=celbea; .*did you mean celeba?",
        "data=gray data.base=3": r"There is no data\.base=3; allowed are: ",
        "data.base celeba": r"'data\.base' has no equals sign: data\.base=celeba?",
        "+data=celeba": "data has more than one choice",
        "data=celeba,mnist": r"add -m to go through them",
        "seed=many": "seed=many: Value 'many' .* Integer",
        "data.=3": r"'data\.' is no key",
        "model.factors={residual: 32": "does a bracket lack?",
    },
    "evaluate": {
        "run=x metric=[qualty]": "did you mean quality?",
        "conf": "run=conf",
        "rn=x": "did you mean run?",
        "--metric quality": "metric=quality",
        "metric=[likelihood, transfer]": r"metric=\[likelihood, cannot be read: does a bracket lack?",
        "run=seed=3": r"""put quotes round the value, too, 'run="seed=3"'""",
    },
    "analyse": {
        "analysis=wlk": "There is no analysis=wlk; .*did you mean walk?",
        "--run x": "run=x",
        "./out": r"'\./out' has no .*: run=\./out?",
    },
    "look": {"dta=mnist": "did you mean data?", "encoder=tim/resnet18": "did you mean timm/resnet18?"},
    "convert": {"--kind checkpoint": "kind=checkpoint", "sorce=x": "did you mean source?"},
    "explore": {
        "galery=3": "did you mean gallery?",
        "data=mnst": "There is no data=mnst; .*did you mean",
        "/abs": "run=/abs?",
    },
    "report": {
        "outputs/first/2026-01-01_00-00-00": "no equals sign: run=outputs/first/2026-01-01_00-00-00?",
        "..": r"'\.\.' has no equals sign: run=\.\.?",
        "run x": "'run' has no equals sign: run=x",
        "--project mine": "project=mine",
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_says_what_matters(run_command, tmp_path, command):
    process = run_command(f"iin_lightning.{command}", "--help", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert not [line for line in lines if len(line) > 100]
    assert len(lines) < 75
    assert "$" not in process.stdout.replace('"$(iin', "")
    options = lines[lines.index("Options (key=value) that matter most") :]
    assert 9 <= len([line for line in options if re.match(r"  [\w.]+=", line)]) <= 10
    examples = [line for line in lines if line.startswith(f"  python -m iin_lightning.{command} ")]
    assert len(examples) >= 5 + 3  # and the ways to more
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_keys_and_groups_that_exist(command):
    template = OmegaConf.load(conf_folder() / f"{command}.yaml").hydra.help.template
    paragraphs = {part.split()[0]: part for part in template.split("\n\n") if part.startswith("$")}
    assert all(is_group(name) for name in paragraphs.get("$GROUPS", "$GROUPS").split()[1:])
    assert 9 <= len(paragraphs["$OPTIONS"].splitlines()[1:]) <= 10


def examples():
    """All commands in the examples of all help, without what is said behind them."""
    for command in COMMANDS:
        template = OmegaConf.load(conf_folder() / f"{command}.yaml").hydra.help.template
        lines = re.sub(r"\s*\\\n\s*", " ", template.partition("Examples\n")[2]).splitlines()
        yield from (re.split(r"\s{2,}", line.strip())[0] for line in lines if line.strip().startswith("python"))


@pytest.mark.parametrize("example", list(examples()))
def test_examples_in_help_compose_and_are_quoted_as_any_shell_needs(example, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs" / "_scripts")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # the command sets it
    monkeypatch.setattr("sys.argv", [])  # and this
    if "sweep=joblib" in example:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")  # of an extra
    shell, compose = import_module("shell"), import_module("compose")
    filled = shell.PLACEHOLDER.sub(r"\1", example.replace(" ... ", " "))
    assert shlex.join(shlex.split(filled)) == filled, "zsh reads [ and * itself"
    module, arguments = shell.ours(filled)
    assert compose.compose(module, arguments) is None


def test_values_in_help_are_those_of_the_command_line(run_command, tmp_path):
    said = [run_command("iin_lightning.train", "--help", *more, cwd=tmp_path) for more in ((), ("model=autoencoder",))]
    assert "[sup]" in said[0].stdout
    assert "model.factors=null" in said[0].stdout
    assert "[autoencoder] autoencoder_adversarial" in said[1].stdout
    assert "model.factors" not in said[1].stdout, "an autoencoder has none"
    every = run_command("iin_lightning.look", "-h", "all", "seed=7", cwd=tmp_path).stdout
    assert "out=outputs/look/color_mnist_mini" in every
    assert every.splitlines()[-2].startswith("seed: 7") or "\nseed: 7\n" in every
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [mnist]\nlimit: 77\n")
    mine = run_command("iin_lightning.look", "data=mine", "--config-dir", "conf", "--help", cwd=tmp_path)
    assert "[mine]" in mine.stdout
    assert "data.limit=77" in mine.stdout
    wrong = run_command("iin_lightning.train", "--help", "dta=celeba", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean data?" in wrong.stderr


@pytest.mark.parametrize(("command", "typed"), [(name, typed) for name, cases in TYPED.items() for typed in cases])
def test_what_was_meant_is_said(monkeypatch, tmp_path, capsys, command, typed):
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # the command sets it
    monkeypatch.setattr("sys.argv", [command, *typed.split()])
    with pytest.raises(SystemExit) as end:
        import_module(f"iin_lightning.{command}").main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert re.search(TYPED[command][typed].replace("?", r"\?"), said), said
    assert "Config search path" not in said


def test_what_is_hydras_stays_hydras(run_command, tmp_path):
    for arguments in (["-c", "job"], ["--hydra-help"], ["--cf", "job"]):
        process = run_command("iin_lightning.convert", *arguments, cwd=tmp_path)
        assert process.returncode == 0, process.stderr


def test_flags_may_stand_between_values(run_command, tmp_path):
    arguments = ("seed=3", "--cfg", "job", "images=5", "--resolve", "pairs=2")
    process = run_command("iin_lightning.look", *arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    found = OmegaConf.create(process.stdout)
    assert (found.seed, found.images, found.pairs) == (3, 5, 2)


def test_keys_of_the_users_folder_are_known(run_command, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [mnist]\nstripes: 7\n")
    typed = ("--config-dir", "conf", "data=mine", "data.strpes=3")
    assert "did you mean stripes?" in run_command("iin_lightning.train", *typed, cwd=tmp_path).stderr


def test_no_path_is_a_group():
    assert not any(map(is_group, ("/tmp", "..", ".", "", "../conf/data", "data/")))


def test_choices_of_the_users_folder_are_listed(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").touch()
    for arguments in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"], ["-cd", str(tmp_path)]):
        monkeypatch.setattr("sys.argv", ["train", *arguments])
        assert {"mine", "celeba"} <= set(group_choices("data"))
    monkeypatch.setattr("sys.argv", ["train"])
    assert "mine" not in group_choices("data")


def test_the_package_lists_its_commands(run_command, tmp_path):
    process = run_command("iin_lightning", cwd=tmp_path)
    assert all(f"\n  {name} " in process.stdout for name in COMMANDS)
    package = Path(__main__.__file__).parent
    assert {path.stem for path in package.glob("*.py") if "import command" in path.read_text()} == set(COMMANDS)
    wrong = run_command("iin_lightning", "tran", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean train?" in wrong.stderr
    here, there = (
        run_command(*start, "data=mnist", "--cfg", "job", cwd=tmp_path)
        for start in (("iin_lightning", "look"), ("iin_lightning.look",))
    )
    assert here.stdout == there.stdout != ""


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_a_shell_completes_what_is_typed(tmp_path):
    """As Hydra's completion does behind Tab: the script that is installed, and a line of which the end is asked for."""
    program = tmp_path / "iin"
    program.write_text(f'#!/bin/bash\nexec "{sys.executable}" -m iin_lightning "$@"\n')
    program.chmod(0o755)
    (tmp_path / "outputs").mkdir()
    asked = {
        "iin ev": "evaluate",
        "iin train data=ce": "data=celeba",
        "iin train model.st": "model.stage= model.steps=",
        "iin analyse analysis=wa": "analysis=walk",
        "iin explore run=./ou": "run=./outputs",
    }
    script = """eval "$(iin -sc install=bash)"; complete -p iin > /dev/null || exit 1
        while IFS= read -r COMP_LINE; do
            COMP_POINT=${#COMP_LINE}; read -ra words <<< "$COMP_LINE"; COMP_CWORD=$((${#words[@]} - 1)); COMPREPLY=()
            hydra_bash_completion < /dev/null; echo "${COMPREPLY[*]}"
        done"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    process = subprocess.run(["/bin/bash", "-c", script], check=True, input="\n".join([*asked, ""]), **options)
    assert process.stdout.splitlines() == list(asked.values()), process.stderr


def test_the_program_iin_is_the_package():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'iin = "iin_lightning.__main__:main"' in project
    for entry in entry_points(group="console_scripts", name="iin"):
        assert entry.load() is __main__.main


def test_files_are_links_where_a_terminal_can_open_them_and_can_be_copied_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [("picture", tmp_path / ("long" * 40) / "a b.png"), ("model", "/elsewhere/model")]
    show_files(files)
    assert capsys.readouterr().out == f"picture  {'long' * 40}/a b.png\nmodel    /elsewhere/model\n"
    show_files(files, Console(force_terminal=True, _environ={}, legacy_windows=False))
    out = capsys.readouterr().out
    assert f"{(tmp_path / ('long' * 40)).as_uri()}/a%20b.png" in out
    assert "file:///elsewhere/model" in out


def test_what_takes_long_says_so_in_a_log_and_draws_on_a_terminal(monkeypatch, capsys):
    assert list(progress.track(range(3), "Counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", ""), "it was quick, and this is no terminal"
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert list(progress.track(iter("abc"), "Counting", 3)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == "", "stdout is for results"
    assert re.match(r"Counting: 1/3, .*/s, 0:00:0\d left\nCounting: 2/3", err), err
    assert list(progress.track("abc", "Counting", quiet=True)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    list(progress.track("ab", "After"))
    assert "After" in capsys.readouterr().err


@pytest.mark.parametrize("how", [["-m", "iin_lightning"], ["-m", "iin_lightning.train"], ["-c", IIN]], ids=str)
def test_ctrl_c_while_a_command_is_imported_is_a_line(how, tmp_path):
    (tmp_path / "hydra.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run(
        [sys.executable, *how, "train"], capture_output=True, text=True, env=environment, check=False
    )
    assert (ended.returncode, ended.stderr.strip()) == (130, "Stopped.")
