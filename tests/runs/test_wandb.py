"""What W&B gets of a run, read back from what it stores without network."""

import json
import subprocess

import pytest
from omegaconf import OmegaConf
from tests.wandb_records import stored

from iin_lightning.cli.secrets import mask, plain, refuse_within
from iin_lightning.errors import ConfigError, MissingExtraError
from iin_lightning.reporting.workspace import SWEPT, layout, logged
from iin_lightning.runs.loggers import Wandb

# Of wandb_workspaces.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")
commands = pytest.mark.commands

ENVIRONMENT, REMOTE = "planted0", "planted1"


@pytest.fixture(scope="module")
def sweep(command, tiny, workplace, tmp_path_factory):
    """A job that logs all that there is to log and one that fails, in a repository whose remote has a password."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "data").symlink_to(workplace / "data")
    for line in ("init", f"remote add origin https://me:{REMOTE}@host.org/repository.git"):
        subprocess.run(["git", *line.split()], cwd=folder, check=True, capture_output=True)
    process = command(
        "-m",
        *tiny("model.val_every"),
        "model=sup",
        "model.val_every=6",
        "model.lr=6e-3,1e38",
        "model.warmup=0",
        "callbacks=[ema,histograms]",
        "callbacks.histograms.every=2",
        "trainer.log_every_n_steps=2",
        "logger=wandb",
        "logger.wandb.tags=[tried]",
        "logger.wandb.log_model=true",
        "+evaluation.metric=[likelihood,leakage]",
        "+analysis@analyses.dimensions=dimensions",
        "+evaluation.weights=https://me:${oc.env:PLACE}@host.org/weights",
        f"+hydra.job.env_set.PLACE={ENVIRONMENT}",
        "paths.outputs=${oc.env:PLACE}",
        "hydra.sweep.dir=jobs/night",
        folder=folder,
        ok=False,
    )
    assert (folder / "jobs" / "night" / "0" / "results.json").is_file(), process.stdout + process.stderr
    return folder


@pytest.fixture(scope="module")
def first(sweep):
    [found] = stored(sweep / "jobs" / "night" / "0")
    return found


@commands
def test_each_job_of_a_sweep_is_a_run_of_its_own_in_the_group_of_the_sweep_closed_as_it_ended(sweep, first):
    [second] = stored(sweep / "jobs" / "night" / "1")
    assert first.run.display_name == "color_mnist_sup model.lr=0.006"
    assert second.run.display_name == "color_mnist_sup model.lr=1e+38"
    assert {first.run.run_group, second.run.run_group} == {"night"}
    assert first.run.run_id != second.run.run_id
    assert (first.run.job_type, list(first.run.tags), first.run.project) == ("interpret", ["tried"], "iin-lightning")
    assert (first.exit_code, second.exit_code) == (0, 1)  # which W&B shows as finished and failed


@commands
def test_what_is_trained_first_has_runs_of_its_own_that_are_closed_before(sweep, first):
    found = [one for folder in (sweep / "models").iterdir() if folder.is_dir() for one in stored(folder)]
    assert sorted(one.run.job_type for one in found) == ["autoencode", "classify"]
    assert all(one.exit_code == 0 for one in found)
    assert {one.run.run_id for one in found}.isdisjoint({first.run.run_id})
    assert {"train/loss", "train/accuracy", "figures/reconstructions._type"} <= {n for one in found for n in one.names}
    assert not first.names & {"train/loss", "train/accuracy"}


@commands
def test_all_is_logged_under_its_name_and_step_and_losses_keep_their_least(first):
    assert first.steps("train/nll") == [1, 3, 5]
    assert first.steps("val/nll") == [5]
    assert first.steps("test/nll") == first.steps("evaluation/likelihood/nll") == [6]
    assert first.steps("latents/digit/std") == first.steps("latents/digit/stds._type")
    assert first.steps("figures/swap._type") == [6, 6]
    block = "gradients/interpreter.translator.blocks.1"
    assert first.steps(f"{block}/norm") == first.steps(f"{block}._type") == [0, 2, 4]
    groups = {name.partition("/")[0] for name in first.names if not name.startswith(("_", "lr"))}
    known = {"train", "val", "test", "figures", "evaluation", "analysis", "gradients", "latents", "tables"}
    assert groups == known | {"trainer", "epoch"}
    assert first.metrics["*"].step_metric == "trainer/global_step"
    least = first.metrics["val/nll"]
    assert (least.step_metric, least.summary.min, least.summary.last) == ("trainer/global_step", True, True)
    assert first.metrics["epoch"].options.hidden


@commands
def test_histograms_tables_and_the_model_are_there(sweep, first):
    types = {name: row[name] for row in first.history for name in row if name.endswith("._type")}
    assert types["latents/color/kurtoses._type"] == "histogram"
    assert {types["tables/transfer._type"], types["tables/evaluation._type"]} == {"table-file"}
    table = next((sweep / "jobs" / "night" / "0" / "wandb").rglob("transfer_*.table.json"))
    table, read = json.loads(table.read_text()), ("digit", "color", "slant", "ink")
    assert table["columns"] == ["swapped factor", *read, *(f"{name}/error" for name in read)]
    assert [row[0] for row in table["data"]] == ["residual", "digit", "color", "reconstruction", "images", "chance"]
    [model] = first.artifacts["model"]  # and Lightning adds none of checkpoints/
    assert {entry.path for entry in model.manifest.contents} == {
        path.name for path in (sweep / "jobs" / "night" / "0" / "model").iterdir()
    }
    assert json.loads(model.metadata)["factors"] == {"residual": 4, "digit": 2, "color": 2}


@commands
def test_no_secret_is_in_what_w_and_b_stores(sweep, first):
    assert first.config["paths"]["outputs"] == "${oc.env:PLACE}"
    assert first.config["evaluation"]["weights"] == "https://me:${oc.env:PLACE}@host.org/weights"
    assert first.config["model"]["loss"]["rho"] == 0.975  # what is no secret is there
    assert any("host.org/repository.git" in one.git.remote_url for one in (first.run, *first.environment))
    assert REMOTE not in first.text
    for file in (sweep / "jobs" / "night" / "0" / "wandb").rglob("*"):
        assert not file.is_file() or REMOTE.encode() not in file.read_bytes(), file


@commands
def test_a_resumed_run_is_the_same_one(sweep, first, command):
    folder = sweep / "jobs" / "night" / "0"
    command(f"resume={folder}", "model.steps=9", "name=${oc.env:HOME}", folder=sweep)
    went_on = OmegaConf.to_container(OmegaConf.load(folder / "config.resumed.yaml"))
    assert went_on["name"] == "${oc.env:HOME}", "what comes from the environment is not written down"
    after = stored(folder)[-1]
    assert (after.run.run_id, after.run.project) == (first.run.run_id, first.run.project)
    assert after.run.resume
    assert after.run.display_name == ""  # it may have been renamed by hand
    assert after.steps("train/nll") == [7]
    assert after.steps("test/nll") == [9]
    assert after.config["model"]["steps"] == 9


@commands
def test_an_analysis_goes_into_the_run_of_its_folder(sweep, first, run_command):
    asked = ("run=jobs/night/0", "analysis=dimensions", "name=again", "logger=wandb")
    process = run_command("iin_lightning.analyse", *asked, cwd=sweep)
    assert process.returncode == 0, process.stderr
    after = stored(sweep / "jobs" / "night" / "0")[-1]
    assert (after.run.run_id, after.run.display_name, after.run.job_type) == (first.run.run_id, "", "")
    assert {"analysis/again/dimensions/covariance/digit", "analysis/again._type"} <= after.names
    assert after.steps("analysis/again._type")
    assert not after.config  # that of the training remains


def test_only_a_model_can_be_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="log_model=all is neither true"):
        Wandb(str(tmp_path), "project", log_model="all")


@commands
def test_the_panels_of_a_workspace_show_what_is_logged_and_the_axes_of_sweeps_are_known(sweep, first):
    pytest.importorskip("wandb_workspaces")
    folder = sweep / "jobs" / "night" / "0"
    workspace = layout(logged(folder), "project", "team", "title")
    panels = [panel for section in workspace.sections for panel in section.panels]
    names = {name.removesuffix("._type") for opening in stored(folder) for name in opening.names}
    wanted = set()
    for panel in panels:
        for kind in ("y", "metrics", "media_keys"):
            wanted |= {getattr(name, "name", name) for name in getattr(panel, kind, ())}
        wanted |= {panel.table_name} if hasattr(panel, "table_name") else set()
    assert wanted <= names, wanted - names
    assert {"val/nll", "test/transfer/digit/digit", "evaluation/leakage/digit/own", "figures/swap"} <= wanted
    assert "tables/transfer" in wanted
    kinds = {type(panel).__name__: panel for panel in panels}
    assert {"ParallelCoordinatesPlot", "ParameterImportancePlot", "MediaBrowser", "LinePlot", "BarPlot"} <= set(kinds)
    config = OmegaConf.create(first.config)
    assert all(OmegaConf.select(config, key) is not None for key in SWEPT)
    outcomes = ["val/nll.min", "evaluation/likelihood/nll", "test/nll"]
    assert [column.metric.name for column in kinds["ParallelCoordinatesPlot"].columns] == [*SWEPT, *outcomes]


@commands
def test_a_workspace_is_written_as_a_file_without_network(sweep, run_command):
    pytest.importorskip("wandb_workspaces")
    process = run_command(
        "iin_lightning.report", "to=wandb", "run=jobs/night/*", "project=faces", "out=laid/out.json", cwd=sweep
    )
    assert process.returncode == 0, process.stderr
    view = json.loads((sweep / "laid" / "out.json").read_text())
    assert "Swap grids and pictures" in json.dumps(view)


@commands
def test_without_a_login_a_workspace_says_how_to_log_in(run_command, tmp_path):
    pytest.importorskip("wandb_workspaces")
    process = run_command("iin_lightning.report", "to=wandb", cwd=tmp_path)
    assert process.returncode == 2
    assert "wandb login" in process.stderr


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces", None)
    with pytest.raises(MissingExtraError, match=r"iin-lightning\[workspace\]"):
        layout([], "project", "team", "title")


@pytest.mark.parametrize(
    ("came", "left"),
    [
        ({"password": None, "token": "", "hfToken": "x"}, {"password": None, "token": "", "hfToken": "***"}),
        ({"author": "me", "n_tokens": 3, "keys": ["a"]}, {"author": "me", "n_tokens": 3, "keys": ["a"]}),
        (["git@host.org:me/code", "me@host.org"], ["git@host.org:me/code", "me@host.org"]),
        (("s3://key:se/cret@bucket", "x.api_key='a b' y=1"), ("s3://key:se/cret@bucket", "x.api_key=*** y=1")),
        (r"root=https\://me\:abc@host/x", "root=https\\://***@host/x"),
        ("postgresql://me:a@b@host/x", "postgresql://***@host/x"),
        ({"secret": {"a": 1}, "n": 2.5}, {"secret": "***", "n": 2.5}),
        (["a.token=${oc.env:A}", "{pwd: '${oc.env:A,null}'}"], ["a.token=${oc.env:A}", "{pwd: '${oc.env:A,null}'}"]),
        (["token=${oc.env:A,b}", "token=${oc.env:A}b"], ["token=***,b}", "token=***}b"]),
        ({"class_token": True, "token": "${a.b}"}, {"class_token": True, "token": "${a.b}"}),
        ("db://${oc.env:A}:${oc.env:B}@host/x", "db://${oc.env:A}:${oc.env:B}@host/x"),
        ("db://me:${oc.env:B,abc}@host/x", "db://***@host/x"),
    ],
)
def test_secrets_are_masked_and_nothing_else(came, left):
    assert mask(came) == left


@commands
@pytest.mark.parametrize(
    "arguments",
    [["+logger.wandb.settings.api_key=planted"], ["-m", "seed=0,1", "data.root=https://me:planted@host/x"]],
)
def test_a_secret_that_is_typed_is_refused_and_nothing_is_written(arguments, run_command, tmp_path):
    process = run_command("iin_lightning.train", "logger=wandb", *arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert "holds a secret" in process.stderr
    assert "${oc.env:NAME}" in process.stderr
    assert "planted" not in process.stdout + process.stderr
    assert not list(tmp_path.iterdir())


def test_a_secret_in_a_yaml_file_is_refused_by_its_key():
    with pytest.raises(ConfigError, match=r"^a\.1\.token=\*\*\* holds a secret"):
        refuse_within(OmegaConf.create({"seed": 1, "a": [0, {"token": "abc"}]}))
    refuse_within(OmegaConf.create({"a": {"token": "${oc.env:NAME}", "other": "???"}}))


def test_a_value_from_the_environment_is_not_read_whoever_refers_to_it(monkeypatch):
    monkeypatch.setenv("PLACE", ENVIRONMENT)
    config = OmegaConf.create({"a": "${oc.env:PLACE}", "b": ["x${a}", {"c": "${b.0}"}], "n": "${m}", "m": 2})
    assert plain(config) == {
        "a": "${oc.env:PLACE}",
        "b": ["x${oc.env:PLACE}", {"c": "x${oc.env:PLACE}"}],
        "n": 2,
        "m": 2,
    }
    assert config.a == ENVIRONMENT  # and the configuration itself is as it was
