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

from iin_lightning import __main__
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
        "model.lrr=1": "in model allowed are: .*did you mean lr?",
        "+experment=tab1_dimensions": "did you mean experiment?",
        "lr=1": r"did you mean model\.lr?",
        "judge.model.steps=3": r"\+judge\.model\.steps=<value> adds it",
        "encoder=torchvison/resnet18": "did you mean torchvision/resnet18?",
        "encoder=torchvision/resnet81": "did you mean resnet18?",
        "data=sketch data/stylizer=modul": "There is no data/stylizer=modul; .*did you mean module?",
        "celeba": "'celeba' has no equals sign: data=celeba?",
        "modle sup": "'modle' has no equals sign: model=<value>?",
        "--data celeba": "There is no --data: .*data=<value>?",
        "-lr=0.1": r"There is no -lr: .*model\.lr=0\.1?",
        "-c jobb": "invalid choice: 'jobb'",
        "--config-dir nowhere": "nowhere' not found",
        "=3": "'=3' has no key",
        "data=": "There is no data=; allowed are: ",
        "data==celeba": "data==celeba cannot be read",
        "data=gray data.base=celbea": r"There is no data\.base=celbea; .*did you mean celeba?",
        "data=celeba data.base=mnist": r"leave out data\.base",
        "data=gray data.base.veiws=3": "did you mean views?",
        "+data=celeba": "data has more than one choice",
        "data=celeba,mnist": r"add -m to go through them",
        "seed=many": "seed=many: Value 'many' .* Integer",
    },
    "evaluate": {"conf": "run=conf", "metric=[likelihood, transfer]": r"metric=\[likelihood, cannot be read"},
    "analyse": {"analysis=wlk": "There is no analysis=wlk; .*did you mean walk?"},
    "look": {"encoder=tim/resnet18": "did you mean timm/resnet18?"},
    "convert": {"sorce=x": "did you mean source?"},
    "explore": {"/abs": "run=/abs?"},
    "report": {"data=mnst": "There is no data=mnst; .*did you mean"},
}


@pytest.fixture
def type_in(monkeypatch, tmp_path, capsys):
    """Type a command in an empty folder, in this process; gives back its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # the command sets it

    def run(module, *arguments):
        monkeypatch.setattr("sys.argv", [module, *arguments])
        try:
            import_module(f"iin_lightning.{module}").main()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_names_what_exists(type_in, tmp_path, command):
    code, out, err = type_in(command, "--help")
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) < 75
    assert "$" not in out.replace('"$(iin', "")
    options = lines[lines.index("Options (key=value) that matter most") :]
    assert 9 <= len([line for line in options if re.match(r"  [\w.]+=", line)]) <= 10
    assert len([line for line in lines if line.startswith(f"  python -m iin_lightning.{command} ")]) >= 5 + 3
    assert not list(tmp_path.iterdir())
    template = OmegaConf.load(conf_folder() / f"{command}.yaml").hydra.help.template
    paragraphs = {part.split()[0]: part for part in template.split("\n\n") if part.startswith("$")}
    assert all(is_group(name) for name in paragraphs.get("$GROUPS", "$GROUPS").split()[1:])


def examples():
    """All commands in the examples of all help, without what is said behind them."""
    for command in COMMANDS:
        template = OmegaConf.load(conf_folder() / f"{command}.yaml").hydra.help.template
        lines = re.sub(r"\s*\\\n\s*", " ", template.partition("Examples\n")[2]).splitlines()
        yield from (re.split(r"\s{2,}", line.strip())[0] for line in lines if line.strip().startswith("python"))


@pytest.mark.commands
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


def test_help_is_that_of_the_command_line_and_of_the_users_folder(type_in, tmp_path):
    _, out, _ = type_in("train", "--help", "model=autoencoder")
    assert "[autoencoder] autoencoder_adversarial" in out
    assert "model.factors" not in out, "an autoencoder has none"
    _, out, _ = type_in("look", "-h", "all", "seed=7")
    assert "out=outputs/look/color_mnist_mini" in out
    assert "\nseed: 7\n" in out
    for group, text in {"data": "defaults: [mnist]\nlimit: 77\n", "analysis": "# Ask what I ask. And more.\n"}.items():
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    _, out, _ = type_in("look", "data=mine", "--config-dir", "conf", "--help")
    assert "[mine]" in out
    assert "data.limit=77" in out
    _, out, _ = type_in("analyse", "--config-dir", "conf", "--help")
    assert re.search(r"\n  mine +Ask what I ask\n", out), "nothing is edited for an analysis of one's own"


@pytest.mark.parametrize(("command", "typed"), [(name, typed) for name, cases in TYPED.items() for typed in cases])
def test_what_was_meant_is_said(type_in, tmp_path, command, typed):
    (tmp_path / "conf").mkdir()
    code, _, err = type_in(command, *typed.split())
    assert code == 2
    assert re.search(TYPED[command][typed].replace("?", r"\?"), err), err
    assert "Config search path" not in err


def test_flags_may_stand_between_values(type_in):
    code, out, err = type_in("look", "seed=3", "--cfg", "job", "images=5", "--resolve", "pairs=2")
    assert code == 0, err
    found = OmegaConf.create(out)
    assert (found.seed, found.images, found.pairs) == (3, 5, 2)


def test_choices_of_the_users_folder_are_listed_and_no_path_is_a_group(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").touch()
    for arguments in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"], ["-cd", str(tmp_path)]):
        monkeypatch.setattr("sys.argv", ["train", *arguments])
        assert {"mine", "celeba"} <= set(group_choices("data"))
    monkeypatch.setattr("sys.argv", ["train"])
    assert "mine" not in group_choices("data")
    assert not any(map(is_group, ("/tmp", "..", ".", "", "../conf/data", "data/")))


def test_the_package_lists_its_commands(type_in):
    code, out, _ = type_in("__main__")
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    package = Path(__main__.__file__).parent
    assert {path.stem for path in package.glob("*.py") if "import command" in path.read_text()} == set(COMMANDS)
    code, _, err = type_in("__main__", "tran")
    assert code == 2
    assert "did you mean train?" in err
    assert type_in("__main__", "look", "data=mnist", "--cfg", "job") == type_in("look", "data=mnist", "--cfg", "job")


@pytest.mark.commands
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


@pytest.mark.commands
@pytest.mark.parametrize("how", [["-m", "iin_lightning"], ["-m", "iin_lightning.train"], ["-c", IIN]], ids=str)
def test_ctrl_c_while_a_command_is_imported_is_a_line(how, tmp_path):
    (tmp_path / "hydra.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run(
        [sys.executable, *how, "train"], capture_output=True, text=True, env=environment, check=False
    )
    assert (ended.returncode, ended.stderr.strip()) == (130, "Stopped.")
