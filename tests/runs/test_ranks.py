"""How processes of a job agree before a trainer knows them: who trains what is missing, and in which folder."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from iin_lightning import distributed as ranks
from iin_lightning.cli.paths import new_folder
from iin_lightning.errors import ConfigError
from iin_lightning.runs import store
from iin_lightning.runs.store import Store

NOW = "2026-01-01_10-00-00"
SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "2", "SLURM_NTASKS": "4"}
SUBMITIT = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "31", "SUBMITIT_FOLDER": "f"}


@pytest.fixture
def variables(monkeypatch):
    """Set variables of the environment for the test."""

    def put(more):
        for name, value in more.items():
            monkeypatch.setenv(name, value)

    for name in (ranks.JOB, "LOCAL_RANK", *SRUN, *SUBMITIT):
        monkeypatch.delenv(name, raising=False)
    return put


@pytest.fixture
def another(variables):
    """This is a second process that Lightning has started; the name of its job."""
    name = ranks.job_name()
    variables({"LOCAL_RANK": "1"})
    assert ranks.job_name() == name, "it keeps what it was given"
    return name


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "POLL", 0.01)
    return Store(tmp_path, pytest.fail, seed=0)


def finish(folder):
    (folder / "model").mkdir(parents=True)
    (folder / "model" / store.STRUCTURE).write_text("{}")


def test_another_process_waits_for_a_model_that_another_job_trains(models, another, tmp_path):
    # One file is of a job that was killed, or of the one at work.
    (tmp_path / "m.trainer").write_text("12 abc")
    timer = threading.Timer(0.1, finish, [tmp_path / "m"])
    timer.start()
    path = models.made(tmp_path / "m", lambda: pytest.fail("it trains alone, and would wait forever"))
    timer.join()
    assert path == tmp_path / "m" / "model"


def test_another_process_trains_along_once_the_first_one_does(models, another, tmp_path):
    timer = threading.Timer(0.1, (tmp_path / "m.trainer").write_text, [another])
    timer.start()
    trained = []
    models.made(tmp_path / "m", lambda: trained.append("m"))
    timer.join()
    assert trained == ["m"]


def test_another_process_ends_with_the_one_that_started_it(models, another, tmp_path, monkeypatch):
    parents = iter([5, 5, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    with pytest.raises(SystemExit, match="gone"):
        models.made(tmp_path / "m", pytest.fail)


def test_the_first_process_says_that_it_trains_and_cleans_up(models, variables, tmp_path):
    said = []

    def train():
        said.append((tmp_path / "m.trainer").read_text())
        finish(tmp_path / "m")

    models.made(tmp_path / "m", train)
    assert said == [ranks.job_name()]
    assert not (tmp_path / "m.trainer").exists()
    with pytest.raises(ZeroDivisionError):
        models.made(tmp_path / "n", lambda: 1 / 0)
    assert not (tmp_path / "n.trainer").exists()


def test_a_process_that_is_started_by_another_one_is_a_job_of_its_own(variables, monkeypatch):
    own = ranks.job_name()
    assert ranks.job_name() == own
    monkeypatch.setattr(os, "getpid", lambda: 1)  # it has the variables of the other
    assert ranks.job_name() not in ("", own)


def test_a_process_among_several_that_nobody_counts_is_refused_with_the_way_out(variables):
    variables({"NODE_RANK": "1"})
    with pytest.raises(ConfigError, match="let torchrun or srun start them"):
        ranks.job_name()


def test_each_attempt_of_a_slurm_job_has_a_name_of_its_own(variables):
    names = set()
    for more in ({}, {"SLURM_STEP_ID": "3"}, {"SLURM_RESTART_COUNT": "1"}):
        variables({**SRUN, **more})
        names.add(ranks.job_name())
    assert len(names) == 3


@pytest.mark.parametrize(
    ("started", "trainer", "says"),
    [
        (SRUN, {"devices": 2, "num_nodes": 1}, "srun has started 4 processes, but trainer.devices=2"),
        (SUBMITIT | {"SUBMITIT_LOCAL_NTASKS": "2"}, {"devices": 1, "num_nodes": 1}, "submitit has started 2"),
        (SRUN, {"devices": 2, "num_nodes": 2}, None),
        (SRUN, {"devices": "auto", "num_nodes": 1}, None),
        (SUBMITIT | {"SUBMITIT_LOCAL_NTASKS": "1"}, {"devices": 1, "num_nodes": 1}, None),
        ({}, {"devices": 8, "num_nodes": 1}, None),
    ],
)
def test_a_trainer_for_another_number_of_processes_is_refused(variables, started, trainer, says):
    variables(started)
    if says is None:
        ranks.join(**trainer)
        return
    with pytest.raises(ConfigError, match=says):
        ranks.join(**trainer)


def test_a_second_task_of_submitit_is_not_the_main_process(variables):
    assert ranks.is_main_process()
    variables({"SUBMITIT_LOCAL_GLOBALID": "1"})
    assert not ranks.is_main_process()


def test_runs_of_the_same_second_have_folders_of_their_own(variables, tmp_path):
    folders = [new_folder(str(tmp_path / "runs"), NOW) for _ in range(3)]
    assert folders == [str(tmp_path / "runs" / f"{NOW}{end}") for end in ("", "_2", "_3")]
    assert sorted(map(str, (tmp_path / "runs").iterdir())) == folders


def test_processes_and_attempts_of_a_slurm_step_have_one_folder(variables, tmp_path):
    variables(SRUN)
    assert {new_folder(str(tmp_path), now) for now in (NOW, "later")} == {f"{tmp_path}/job-7.2"}


@pytest.mark.parametrize("terminal", [True, False])
def test_each_command_in_a_shell_that_srun_has_opened_has_a_folder_of_its_own(
    variables, tmp_path, monkeypatch, terminal
):
    variables(SRUN if terminal else {**SRUN, "SLURM_JOB_NAME": "bash"})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: terminal))
    assert len({new_folder(str(tmp_path), NOW) for _ in range(2)}) == 2


@pytest.mark.parametrize("shown", [["--cfg", "all"], ["--cfg=hydra"], ["-c", "job"], ["--info"]])
def test_no_folder_is_made_where_a_configuration_is_shown(variables, tmp_path, monkeypatch, shown):
    monkeypatch.setattr(sys, "argv", ["train", *shown])
    assert new_folder(str(tmp_path / "runs"), NOW) == f"{tmp_path}/runs/{NOW}"
    assert not (tmp_path / "runs").exists()


def test_a_place_where_no_folder_can_be_made_is_named(variables, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/runs/.*cannot be made .*paths.outputs"):
        new_folder(str(tmp_path / "file" / "runs"), NOW)
