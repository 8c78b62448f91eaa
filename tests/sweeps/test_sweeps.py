"""Sweeps: a job that fails does not end the others, all end in a table, and the same command does what is missing."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from math import nan

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from iin_lightning.cli.refusals import suggestion
from iin_lightning.errors import MissingExtraError, Preempted, StoppedByUser
from iin_lightning.progress import Screen
from iin_lightning.sweeps.guard import FAILURE, Guard, StoppedJob, SweepStopped
from iin_lightning.sweeps.table import Job, gather, groups, report, show, varied, write


def rows(folder):
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def in_sweep(tmp_path):
    """Makes of this process a job of a sweep under a launcher; gives its folder."""

    def begin(launcher="hydra._internal.core_plugins.basic_launcher.BasicLauncher"):
        folder = tmp_path / "3"
        folder.mkdir()
        watch = {"sweep": {"_target_": "iin_lightning.sweeps.guard.Watch"}}
        hydra = {
            "mode": RunMode.MULTIRUN,
            "callbacks": watch,
            "launcher": {"_target_": launcher},
            "runtime": {"output_dir": str(folder)},
            "sweep": {"dir": str(tmp_path)},
            "job": {"num": 3},
            "overrides": {"task": ["seed=3", "+hub.token=abc"]},
        }
        monkey.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))
        return folder

    with pytest.MonkeyPatch.context() as monkey:
        yield begin


def raising(error):
    def job(config):
        raise error

    return Guard(job)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MissingExtraError("lpips", "perceptual", "The loss"), 'pip install "iin-lightning[perceptual]"'),
        (RuntimeError("boom at db://me:abc@host"), "RuntimeError: boom at db://***@host"),
    ],
)
def test_a_failure_is_noted_without_secrets_and_forgotten_after_a_success(in_sweep, error, reason, caplog, capsys):
    caplog.set_level("INFO")
    folder = in_sweep()
    assert raising(error)(OmegaConf.create()) is None
    note = json.loads((folder / FAILURE).read_text())
    assert reason in note["reason"]
    assert note["error"] == type(error).__name__
    assert note["overrides"] == ["seed=3", "+hub.token=***"]
    assert "abc" not in caplog.text + capsys.readouterr().err
    assert Guard(lambda config: 0.5)(OmegaConf.create()) == 0.5
    assert not (folder / FAILURE).exists()


def test_a_search_never_gets_a_number_that_is_none(in_sweep):
    in_sweep()
    assert [Guard(lambda config, value=value: value)(OmegaConf.create()) for value in (nan, None)] == [None, None]


@pytest.mark.parametrize("error", [StoppedByUser("Stopped."), Preempted("Wanted back."), KeyboardInterrupt()])
def test_stopping_a_job_ends_the_sweep(in_sweep, error):
    folder = in_sweep()
    with pytest.raises(SweepStopped) as stop:
        raising(error)(OmegaConf.create())
    assert stop.value.reason.exit_code == getattr(error, "exit_code", 130)
    assert not (folder / FAILURE).exists()


def test_in_another_process_it_ends_a_search_once_the_others_are_done(in_sweep):
    in_sweep("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher")
    returned = raising(Preempted("Wanted back."))(OmegaConf.create())
    assert isinstance(returned, StoppedJob)
    with pytest.raises(SweepStopped, match=r"Wanted back\."):
        float(returned)


SEEDS = [
    Job("0", {"lr": "0.1", "seed": "0"}, "done", numbers={"val/nll": 1.0, "test/nll": 2.0}),
    Job("1", {"lr": "0.1", "seed": "1"}, "done", numbers={"val/nll": 3.0, "test/nll": 4.0}),
    Job("2", {"lr": "0.2", "seed": "0"}, "failed", "no room", numbers={"test/nll": 5.0}),
    Job("3", {"lr": "0.2", "seed": "1"}, "failed", "no room"),
]


def test_jobs_that_differ_in_their_seed_are_averaged(tmp_path, capsys):
    assert varied(SEEDS) == ["lr", "seed"]
    assert {key: [job.number for job in jobs] for key, jobs in groups(SEEDS).items()} == {
        ("0.1",): ["0", "1"],
        ("0.2",): ["2"],
    }
    show(SEEDS, "val/nll", Screen(width=200))
    printed = capsys.readouterr().out
    assert re.search(r"│ 0.1 +│ 2 +│ 2 ± 1.4 +│ 3 ± 1.4 +│", printed), printed
    assert re.search(r"│ 0.2 +│ 1 +│ +│ 5 +│", printed), "numbers of a job that failed later are not lost"
    assert "failed: job 2, 3: no room" in printed
    assert "lowest val/nll: 1, job 0 (lr=0.1 seed=0)" in printed
    write(SEEDS, tmp_path)
    assert [row["test/nll"] for row in rows(tmp_path)] == ["2.0", "4.0", "5.0", ""]


def test_what_cannot_be_written_is_on_the_screen(tmp_path, capsys):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / FAILURE).write_text(json.dumps({"reason": "no room", "overrides": ["seed=0"]}))
    (tmp_path / "sweep.csv").mkdir()
    assert report(tmp_path, 0) == 2
    printed = capsys.readouterr().out
    assert "failed: job 0: no room" in printed
    assert "The table could not be written" in printed


def test_what_folders_tell(tmp_path, capsys):
    def tell(number, **files):
        (tmp_path / number).mkdir()
        (tmp_path / number / "run.log").touch()
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / number / f"{name}.json").write_text(text)

    started = {"overrides": ["+model.lr=1e-3"]}
    quality = {"frechet/samples": {"value": 7.0, "count": 9}}
    result = {"metrics": {"test/nll": 1.5}, "validation": {"val/nll": 1.0}, "evaluation": {"quality": quality}}
    tell("10", provenance=started, results=result | {"finished": "now", "seconds": 3})
    tell("9", provenance=started, failure={"reason": "no room"}, results=result)
    tell("2", provenance=started, results="{")
    tell("11")
    (tmp_path / "wandb").mkdir()
    jobs, objective = gather(tmp_path)
    known = [("2", "unfinished"), ("9", "failed"), ("10", "done"), ("11", "not begun")]
    assert [(job.number, job.status) for job in jobs] == known
    assert objective == "val/nll"
    assert jobs[2].numbers == {"val/nll": 1.0, "test/nll": 1.5, "quality/frechet/samples": 7.0}
    assert report(tmp_path, 0) == 2
    printed = capsys.readouterr().out
    assert "failed: job 9: no room" in printed
    assert f"The same command with hydra.sweep.dir={tmp_path} does what is missing." in printed.replace("\n", "")


def test_a_plugin_that_is_missing_is_named():
    text = suggestion("In 'sweep/joblib': Could not find 'hydra/launcher/joblib'", "train")
    assert 'pip install "iin-lightning[sweeps]"' in text


@pytest.mark.commands
def test_a_sweep_does_what_is_missing(command, tiny, workplace, tmp_path):
    arguments = ["-m", *tiny(), "model=unsup", "seed=0,1", "+first_stage.seed=0", f"hydra.sweep.dir={tmp_path}/sweep"]
    arguments += [f"paths.data={tmp_path}/data", "data.download=false"]
    failed = command(*arguments, ok=False)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    assert "Error executing job" not in failed.stderr
    assert [row["status"] for row in rows(tmp_path / "sweep")] == ["failed"] * 2
    (tmp_path / "data").symlink_to(workplace / "data")
    done = command(*arguments)
    assert [(row["status"], row["seed"], row["reason"]) for row in rows(tmp_path / "sweep")] == [
        ("done", "0", ""),
        ("done", "1", ""),
    ]
    assert re.search(r"│ 2 +│ \d\.\d+ ± ", done.stdout), "mean and deviation of two seeds"
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("?/checkpoints/last.ckpt")}
    command(*arguments)
    assert len(written) == 2
    assert all(path.stat().st_mtime_ns == when for path, when in written.items()), "finished jobs are not done again"


@pytest.mark.commands
def test_workers_share_what_is_trained_first(command, tiny, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = command(
        *("-m", "sweep=joblib", *tiny(), "model=unsup", "logger=wandb", "model.lr=1e-3,2e-3,1e30,3e-3"),
        *(f"hydra.sweep.dir={tmp_path}/sweep", f"paths.models={tmp_path}/models", f"paths.cache={tmp_path}/cache"),
        ok=False,
    )
    assert process.returncode == 2, process.stderr
    found = rows(tmp_path / "sweep")
    assert [row["status"] for row in found] == ["done"] * 2 + ["failed", "done"], process.stderr
    assert "not finite" in found[2]["reason"]
    assert all(float(row["val/nll"]) for row in found if row["status"] == "done")
    (first_stage,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
    assert len(list(first_stage.glob("metrics*.csv"))) == 1, "a second training would keep those of the first"
    latents = [path for path in (tmp_path / "cache" / "latents").iterdir() if path.is_dir()]
    assert len(latents) == 3, "train, val and test, of one encoder"
    assert len(list((tmp_path / "sweep").glob("?/wandb/offline-run-*"))) == 4


@pytest.mark.system
def test_ctrl_c_lets_workers_write_their_state(environment, tiny, workplace, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = ["-m", "sweep=joblib", *tiny("model.steps", "model.val_every"), "model=unsup", "seed=0,1,2"]
    arguments += ["+first_stage.seed=0", "+first_stage.model.val_every=3", "model.steps=100000", "model.val_every=20"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "iin_lightning.train", *arguments, f"hydra.sweep.dir={tmp_path}/sweep"],
            cwd=workplace,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("sweep/?/checkpoints/last.ckpt"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 130, (tmp_path / "said").read_text()
    text = (tmp_path / "said").read_text()
    assert text.count("the state is in") == 2, text
    assert [row["status"] for row in rows(tmp_path / "sweep")] == ["unfinished"] * 2 + ["not begun"]
    assert "1 not begun. The same command with" in text


@pytest.mark.commands
def test_a_search_goes_on_with_its_study(command, tiny, tmp_path):
    optuna = pytest.importorskip("optuna")
    arguments = ["-m", "sweep=optuna", *tiny("flow.n_blocks"), "model=unsup", "flow.n_blocks=choice(0,1)"]
    arguments += [f"paths.outputs={tmp_path}", "hydra.sweeper.sampler.seed=0"]
    first = command(*arguments, "hydra.sweeper.n_trials=2", ok=False)
    assert first.returncode == 2, first.stderr
    (folder,) = (path for path in (tmp_path / "sweeps").iterdir() if path.is_dir())
    assert sorted(row["status"] for row in rows(folder)) == ["done", "failed"]
    assert "best of the study" in first.stdout
    assert "sqlite" not in first.stdout + first.stderr, "an address may hold a password"
    command(*arguments, "hydra.sweeper.n_trials=1", ok=False)
    storage = f"sqlite:///{tmp_path}/sweeps/optuna.db"
    (study,) = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 3
    assert study.best_trial.params == {"flow.n_blocks": 1}


@pytest.mark.commands
def test_a_search_whose_jobs_all_fail_says_why(command, tiny, tmp_path):
    pytest.importorskip("optuna")
    arguments = ["-m", "sweep=optuna", *tiny("flow.n_blocks"), "model=unsup", "flow.n_blocks=choice(0,-1)"]
    process = command(*arguments, "hydra.sweeper.n_trials=1", f"paths.outputs={tmp_path}", ok=False)
    assert process.returncode == 2
    assert "No job of the search has succeeded." in process.stderr
    assert "Traceback" not in process.stderr
    assert "at least 1 block" in process.stdout


@pytest.mark.system
def test_a_job_that_fails_under_submitit_is_noted(command, tiny, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = ["-m", "sweep=submitit_local", *tiny("flow.n_blocks"), "model=unsup", "flow.n_blocks=1,0"]
    assert command(*arguments, f"hydra.sweep.dir={tmp_path}", ok=False).returncode == 2
    assert [(row["status"], row["reason"]) for row in rows(tmp_path)] == [
        ("done", ""),
        ("failed", "A translator needs at least 1 block, got n_blocks=0."),
    ]
