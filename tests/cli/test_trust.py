"""Run folders from elsewhere: what was trained is taken, not how, and nothing is called but what is harmless."""

import inspect
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tests.foreign import make_foreign

from iin_lightning import serialization, trusted
from iin_lightning.cli import trust
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.paths import check_links, conf_folder
from iin_lightning.data.cifar10 import CIFAR10
from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.mnist import MNIST
from iin_lightning.encoders import Autoencoder
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.runs.folder import read_config

STRANGER = """
from pathlib import Path
from pytorch_lightning import Callback
Path("was here").touch()
class Guest(Callback):
    def on_train_end(self, trainer, pl_module):
        import torch
        Path("deterministic").write_text(str(torch.are_deterministic_algorithms_enabled()))
"""


@pytest.fixture(autouse=True)
def stranger(tmp_path, monkeypatch):
    """A package in the working folder that leaves a file there when it is imported."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trusted, "_trusted", set())
    monkeypatch.delenv(trusted.VARIABLE, raising=False)
    yield
    sys.modules.pop("stranger", None)


REFUSED = {
    "a program": ("{_target_: os.system, command: touch evil}", "names os.system, which"),
    "a stranger": ("{_target_: stranger.Guest}", r"names stranger.Guest.*trust=\[stranger\]"),
    "through a module of ours": ("{_target_: iin_lightning.command.os.system}", r"\((posix|nt)\.system\)"),
    "through a module of torch": ("{_target_: torch.nn.modules.module.functools.partial}", r"\(functools\.partial\)"),
    "torch, but not layers": ("{_target_: torch.hub.load}", "names torch.hub.load"),
    "Lightning's reader": (
        "{_target_: pytorch_lightning.LightningModule.load_from_checkpoint}",
        "load_from_checkpoint",
    ),
    "what writes": (
        "{_target_: pytorch_lightning.callbacks.ModelCheckpoint, dirpath: evil}",
        "names pytorch_lightning",
    ),
    "what sends": (
        "{_target_: iin_lightning.runs.loggers.Wandb, project: x}",
        "names iin_lightning.runs.loggers.Wandb",
    ),
    "a function of ours": (
        "{_target_: iin_lightning.runs.run.run}",
        "names iin_lightning.runs.run.run",
    ),
    "what composes": ("{_target_: iin_lightning.cli.compose.compose_train}", "compose_train"),
    "what trusts": ("{_target_: iin_lightning.serialization.trust}", "serialization.trust"),
    "what is nowhere": ("{_target_: torch.nn.Nothing}", "cannot be imported"),
    "a name for another": ("{name: os.system, x: {_target_: '${name}'}}", r"must be named, not made up"),
    "a text that becomes one": ("{x: '${oc.create:\"{_target_: os.system}\"}'}", "refer to keys"),
    "a resolver that is looked up": ("{n: create, x: 'a ${oc.${n}:\"{}\"}'}", "refer to keys"),
    "a network by its name": ("{encoder: {network: {target: 'stranger:Net'}}}", "stranger is not among"),
    "a default that would be called": (
        "{x: '${oc.select:nothing,{_target_:stranger.Guest}}'}",
        "refer to keys",
    ),
    "one that is made up": ("{n: 'stranger:Net', encoder: {target: '${n}'}}", "must be named"),
    "by position": (
        "{_target_: iin_lightning.encoders.user_network.UserNetwork, _args_: ['stranger:Net']}",
        "by their position",
    ),
    "a secret": ("{title: 'my ${oc.env:SECRET_X}'}", "such as the environment"),
    "a key that leads elsewhere": ("{'../../x': 1}", "which is no name"),
    "a key that writes on the terminal": ('{"a\\e[2J": 1}', "which is no name"),
    "a recipe that is a path": ("{recipe: ../../evil}", "must be a choice of conf/model"),
    "a recipe that is written elsewhere": ("'${data.x}'", "must be a choice of conf/model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_trusted_is_refused_before_it_is_imported(case):
    text, said = REFUSED[case]
    key = "judge" if "recipe" in case else "data"
    Path("config.yaml").write_text(f"{key}: {text}", encoding="utf-8")
    config, own = trust.load(Path("config.yaml"))
    assert not own
    with pytest.raises(CheckpointError, match=said) as caught:
        trust.adopted(config, OmegaConf.create(), Path("config.yaml"))
    assert "config.yaml" in str(caught.value)
    assert not Path("was here").exists()
    assert not Path("evil").exists()


YAMLS = sorted(path for group in trust.GROUPS for path in (conf_folder() / group).rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(path.parents[1])))
def test_what_this_project_configures_is_harmless(path):
    said = OmegaConf.to_container(OmegaConf.load(path))
    said.pop("defaults", None)  # which no run folder has
    trust.check({"data": said}, path)


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.OneCycleLR",
        "torch.nn.GELU",
        "torchvision.transforms.v2.Compose",
        "torchvision.transforms.v2.functional.invert",
        "iin_lightning.flows.Translator",
    ],
)
def test_what_users_choose_of_known_packages_is_harmless_too(target):
    trust.check({"data": {"a": {"_target_": target}}}, Path("config.yaml"))


def test_a_run_from_elsewhere_trains_what_its_own_machine_trained():
    asked = ("experiment=fig10_umap_walks", "encoder=module", "encoder.network.target=torchvision.ops:MLP")
    config = compose_train(*asked, "logger=wandb", "callbacks=histograms", "paths.models=theirs", "seed=3")
    OmegaConf.save(config, "config.yaml")
    taken = read_config(Path("config.yaml"))
    own = compose_train()
    assert {key: taken[key] for key in trust.WHAT} == {key: config[key] for key in trust.WHAT}
    assert {key: taken[key] for key in own if key not in trust.WHAT} == {
        key: own[key] for key in own if key not in trust.WHAT
    }


@pytest.mark.parametrize("kind", [MNIST, ColorMNIST, CIFAR10])
def test_only_who_says_so_downloads(kind):
    """A configuration from elsewhere that names a folder and no download writes nothing there."""
    assert inspect.signature(kind).parameters["download"].default is False


def test_what_is_typed_is_trusted_and_no_more():
    config = compose_train(
        "encoder=module",
        "encoder.network.target=stranger.nets:Net",
        "+callbacks.guest._target_=guest.Guest",
        "trust=[mine,os/]",
    )
    trust.take(config)
    assert trusted.trusted() == ("guest", "mine", "stranger")  # not torch, of which not all is harmless
    assert trust.trusts(config, Path("os").absolute())
    assert not trust.trusts(config, Path("mine"))
    with pytest.raises(CheckpointError, match=r"torch\.hub"):
        trust.check({"_target_": "torch.hub.load"}, Path("config.yaml"))
    trust.check({"_target_": "stranger.Guest"}, Path("config.yaml"))


BOMB = "a: &a [1]\n" + "\n".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdef", "bcdefg")
)


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1, 2",
        b"\xff\xfe\xfa",
        b"- 1",
        b"a: {b: !!python/object/apply:os.getcwd []}",
        b"a: " + b"[" * 50_000,
        BOMB.encode(),
    ],
    ids=["cut", "no text", "a list", "an object", "deep", "aliases"],
)
def test_a_damaged_configuration_is_named(content):
    Path("config.yaml").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.yaml is no configuration.*again"):
        trust.load(Path("config.yaml"))


@pytest.mark.parametrize("name", ["run.log", "figures", "analysis", "metrics.csv", "gone.png", "pipe"])
def test_nothing_is_written_through_a_run_folder(name, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (run / "wandb" / "run").mkdir(parents=True)
    (run / "wandb" / "latest").symlink_to("run")
    (run / "wandb" / "run" / "debug.log").symlink_to(tmp_path / "stranger.py")  # which W&B does itself
    (run / "model.json").symlink_to(tmp_path / "stranger.py")  # as the cache of a hub does; is never written through
    elsewhere.mkdir()
    (elsewhere / "run.log").touch()
    check_links(run)
    if name == "pipe":
        os.mkfifo(run / name)
    else:
        (run / name).symlink_to(elsewhere / name if "." in name else elsewhere)
    with pytest.raises(ConfigError, match=rf"run/{name} is (a link to .*elsewhere|no regular file)"):
        check_links(run)


def evil_run(folder):
    """A model that is sound, with a configuration that is not."""
    network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
    serialization.save(network, folder / "model", {"network": serialization.describe(network)})
    config = compose_train("data.limit=8")
    config.data = {"_target_": "os.system", "command": "touch evil"}
    config.trust = ["os"]  # which is for the command line alone to say
    OmegaConf.save(config, folder / "config.yaml")


@pytest.mark.commands
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("train", ["resume=theirs", "trust=[theirs/]"]),
        ("evaluate", ["run=theirs", "metric=[likelihood]"]),
        ("analyse", ["run=theirs", "analysis=reconstruct"]),
    ],
)
def test_commands_refuse_a_run_folder_that_would_run_code(module, arguments, run_command, tmp_path):
    evil_run(tmp_path / "theirs")
    process = run_command(f"iin_lightning.{module}", *arguments, cwd=tmp_path)
    assert process.returncode == 2, process.stdout + process.stderr
    assert re.search(r"theirs/config\.yaml names os\.system.*trust=\[os\]", process.stderr)
    assert not (tmp_path / "evil").exists()


@pytest.mark.commands
def test_commands_refuse_a_model_folder_that_would_run_code(run_command, tmp_path):
    serialization.save(torch.nn.Identity(), tmp_path / "model", {"network": {"class": "stranger:Net", "arguments": {}}})
    make_foreign(tmp_path / "model")
    for module, *arguments in (
        ("train", "encoder=interpreter", "first_stage.path=model", "model=unsup"),
        ("evaluate", "run=model", "data=color_mnist_mini"),
    ):
        process = run_command(f"iin_lightning.{module}", *arguments, cwd=tmp_path)
        assert process.returncode == 2, process.stdout + process.stderr
        assert "model/model.json names stranger:Net" in process.stderr
    assert not (tmp_path / "was here").exists()
    said = run_command("iin_lightning.evaluate", "run=model", "data=color_mnist_mini", "trust=[stranger]", cwd=tmp_path)
    assert "has no attribute 'Net'" in said.stderr, "it was imported"
    assert (tmp_path / "was here").exists()


TINY = ("data.limit=48", "model=autoencoder", "trainer=smoke", "trainer.accelerator=cpu", "encoder.width=4")


@pytest.mark.commands
def test_own_code_is_asked_for_only_where_it_is_another_users(run_command, tmp_path):
    own = "+callbacks.guest._target_=stranger.Guest"
    first = run_command("iin_lightning.train", *TINY, own, "deterministic=true", "hydra.run.dir=run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "deterministic").read_text(encoding="utf-8") == "True"
    assert "trust=" not in first.stdout
    shutil.move(tmp_path / "run", tmp_path / "moved")
    (tmp_path / "deterministic").unlink()
    again = run_command("iin_lightning.train", "resume=moved", "trainer.max_steps=6", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "deterministic").exists(), "its callback was there, too"


@pytest.mark.commands
def test_a_run_from_elsewhere_sends_nothing_writes_nowhere_and_is_asked_for_once(run_command, tmp_path):
    first = run_command("iin_lightning.train", *TINY, "hydra.run.dir=theirs", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    config = OmegaConf.load(tmp_path / "theirs" / "config.yaml")
    config.logger.wandb = {
        "_target_": "iin_lightning.runs.loggers.Wandb",
        "_partial_": True,
        "project": "x",
        "notes": "${oc.env:PATH}",
    }
    config.callbacks.evil = {
        "_target_": "pytorch_lightning.callbacks.ModelCheckpoint",
        "dirpath": str(tmp_path / "evil"),
    }
    config.paths = dict.fromkeys(config.paths, str(tmp_path / "evil"))
    changes = {key: config[key] for key in ("logger", "callbacks", "paths")}
    config.judge = {"recipe": "classifier", **changes}
    config.evaluation = {"metric": None, "out": str(tmp_path / "evil"), "paths": config.paths}
    OmegaConf.save(config, tmp_path / "theirs" / "config.yaml")
    config.data.cache_dir = str(tmp_path / "evil")  # which these data do not know
    OmegaConf.save(config, tmp_path / "config.yaml")
    taken = OmegaConf.to_container(read_config(tmp_path / "config.yaml"))
    assert "evil" not in json.dumps(taken)
    assert "oc.env" not in json.dumps(taken)

    going_on = ("iin_lightning.train", "resume=theirs")
    asked = run_command(*going_on, "model.steps=6", cwd=tmp_path)
    assert asked.returncode == 2
    assert re.search(r"theirs was not made by you.*add 'trust=\[theirs/\]'", asked.stderr)
    typed = ("trust=[theirs/]", "model.steps=6", "trainer=smoke", "trainer.accelerator=cpu")
    for arguments in (typed, ("model.steps=8",)):
        process = run_command(*going_on, *arguments, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "theirs" / "wandb").exists()
    assert not any(
        os.environ["PATH"].encode() in path.read_bytes() for path in (tmp_path / "theirs").rglob("*") if path.is_file()
    )
