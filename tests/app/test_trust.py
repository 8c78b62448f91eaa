"""Run folders from elsewhere: a configuration calls nothing but what is harmless or trusted."""

import re
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from iin_lightning import serialization, trusted
from iin_lightning.app import trust
from iin_lightning.app.console.compose import compose_train
from iin_lightning.app.paths import conf_folder
from iin_lightning.encoders import Autoencoder
from iin_lightning.errors import CheckpointError

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
    "nested": ("{a: [{b: {_target_: os.system, command: touch evil}}]}", "names os.system, which"),
    "code": ("{_target_: builtins.eval}", "names builtins.eval"),
    "a stranger": ("{_target_: stranger.Guest}", r"names stranger.Guest.*trust=\[stranger\]"),
    "through a module of ours": ("{_target_: iin_lightning.app.command.os.system}", r"\((posix|nt)\.system\)"),
    "through a module of torch": ("{_target_: torch.nn.modules.module.functools.partial}", r"\(functools\.partial\)"),
    "torch, but not layers": ("{_target_: torch.hub.load}", "names torch.hub.load"),
    "torch's reader": ("{_target_: torch.load}", "names torch.load"),
    "Lightning's reader": (
        "{_target_: pytorch_lightning.LightningModule.load_from_checkpoint}",
        "load_from_checkpoint",
    ),
    "a function of ours": (
        "{_target_: iin_lightning.app.runs.run.require}",
        "names iin_lightning.app.runs.run.require",
    ),
    "what composes": ("{_target_: iin_lightning.app.console.compose.compose_train}", "compose_train"),
    "what trusts": ("{_target_: iin_lightning.serialization.trust}", "serialization.trust"),
    "what is no function": ("{_target_: iin_lightning.app.schema}", "app.schema"),
    "what is nowhere": ("{_target_: torch.nn.Nothing}", "cannot be imported"),
    "a name for another": ("{name: os.system, x: {_target_: '${name}'}}", r"must be named, not made up"),
    "a text that becomes one": ("{x: '${oc.create:\"{_target_: os.system}\"}'}", r"oc\.create could make up"),
    "a text that is decoded": ("{x: ['${oc.decode:\"{_target_: os.system}\"}']}", r"oc\.decode could make up"),
    "a resolver that is looked up": ("{n: create, x: 'a ${oc.${n}:\"{}\"}'}", r"could make up"),
    "a network by its name": ("{encoder: {network: {target: 'stranger:Net'}}}", "stranger is not among"),
    "a network by a name that is no word": ("{encoder: {target: 'stran-ger:Net'}}", "stran-ger is not among"),
    "a default that would be called": (
        "{x: '${oc.select:nothing,{_target_:stranger.Guest}}'}",
        "keys could name code",
    ),
    "one that is made up": ("{n: 'stranger:Net', encoder: {target: '${n}'}}", "must be named"),
    "by position": (
        "{_target_: iin_lightning.encoders.user_network.UserNetwork, _args_: ['stranger:Net']}",
        "by their position",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_trusted_is_refused_before_it_is_imported(case):
    text, said = REFUSED[case]
    Path("config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=said) as caught:
        trust.read(Path("config.yaml"))
    assert "config.yaml" in str(caught.value)
    assert not Path("was here").exists()
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    "path", sorted(conf_folder().rglob("*.yaml")), ids=lambda path: str(path.relative_to(path.parents[1]))
)
def test_what_this_project_configures_is_harmless(path):
    config = OmegaConf.load(path)
    config.pop("hydra", None)  # which no run folder has
    trust.check(config, path)


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.OneCycleLR",
        "torch.nn.GELU",
        "torchvision.transforms.v2.Compose",
        "torchvision.transforms.v2.functional.invert",
        "pytorch_lightning.callbacks.EarlyStopping",
        "pytorch_lightning.loggers.TensorBoardLogger",
        "pytorch_lightning.strategies.DDPStrategy",
        "iin_lightning.flows.Translator",
    ],
)
def test_what_users_choose_of_known_packages_is_harmless_too(target):
    trust.check(OmegaConf.create({"a": {"_target_": target}}), Path("config.yaml"))


def test_a_composed_run_is_harmless_once_it_is_stored():
    config = compose_train(
        "experiment=fig10_umap_walks", "encoder=module", "encoder.network.target=torchvision.ops:MLP"
    )
    OmegaConf.save(config, "config.yaml")
    assert trust.read(Path("config.yaml")) == config


def test_what_is_typed_is_trusted_and_no_more():
    config = compose_train(
        "encoder=module",
        "encoder.network.target=stranger.nets:Net",
        "+callbacks.guest._target_=guest.Guest",
        "trust=[mine]",
    )
    trust.take(config)
    assert trusted.trusted() == ("guest", "mine", "stranger")  # not torch, of which not all is harmless
    with pytest.raises(CheckpointError, match=r"torch\.hub"):
        trust.check(OmegaConf.create({"_target_": "torch.hub.load"}), Path("config.yaml"))
    trust.check(OmegaConf.create({"_target_": "stranger.Guest"}), Path("config.yaml"))


@pytest.mark.parametrize(
    "content", [b"a: [1, 2", b"\xff\xfe\xfa", b"- 1", b"a: {b: !!python/object/apply:os.getcwd []}"]
)
def test_a_damaged_configuration_is_named(content):
    Path("config.yaml").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.yaml is no configuration.*again"):
        trust.read(Path("config.yaml"))


def evil_run(folder):
    """A model that is sound, with a configuration that is not."""
    network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
    serialization.save(network, folder / "model", {"network": serialization.describe(network)})
    config = compose_train("data.limit=8")
    config.data = {"_target_": "os.system", "command": "touch evil"}
    config.trust = ["os"]  # which is for the command line alone to say
    OmegaConf.save(config, folder / "config.yaml")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("train", ["resume=theirs"]),
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


def test_commands_refuse_a_model_folder_that_would_run_code(run_command, tmp_path):
    serialization.save(torch.nn.Identity(), tmp_path / "model", {"network": {"class": "stranger:Net", "arguments": {}}})
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


def test_own_code_trains_and_is_evaluated_once_it_is_trusted_again(run_command, tmp_path):
    train = ["data.limit=48", "model=autoencoder", "trainer=smoke", "trainer.accelerator=cpu", "encoder.width=4"]
    own = "+callbacks.guest._target_=stranger.Guest"
    first = run_command("iin_lightning.train", *train, own, "deterministic=true", "hydra.run.dir=run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "deterministic").read_text() == "True"
    train_next, report_next = first.stdout.splitlines()[-2:]  # what to type next says it again
    assert train_next.endswith("'trust=[stranger]'")
    assert report_next == "  python -m iin_lightning.report run=run 'trust=[stranger]'"
    again = ["iin_lightning.analyse", "run=run", "analysis=reconstruct"]
    process = run_command(*again, cwd=tmp_path)
    assert process.returncode == 2
    assert "run/config.yaml names stranger.Guest" in process.stderr
    assert run_command(*again, "trust=[stranger]", cwd=tmp_path).stderr.find("stranger") == -1
