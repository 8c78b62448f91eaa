"""Runs that something stops: killed, pre-empted, out of room. The same command goes on, to the same end."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from omegaconf import OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, Dataset

from iin_lightning.errors import Preempted, ResourceError, StoppedByUser
from iin_lightning.runs import train
from iin_lightning.runs.train import explained

GAME = (
    "model.adversarial={_target_: iin_lightning.losses.adversarial.Adversarial, _partial_: true, start: 10,"
    " discriminator: {_target_: iin_lightning.encoders.discriminator.PatchDiscriminator, _partial_: true, width: 4}}"
)
STEPS, VALIDATE = 80, 20
LONGER = (f"model.steps={STEPS}", f"model.val_every={VALIDATE}")


def state(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def outcome(run):
    return json.loads((run / "results.json").read_text())


def assert_same_end(one, other):
    a, b = state(one), state(other)
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    for mine, theirs in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for parameter, moments in mine["state"].items():
            assert all(torch.equal(value, theirs["state"][parameter][name]) for name, value in moments.items())
    assert a["lr_schedulers"] == b["lr_schedulers"]
    models = [(run / "model" / "model.safetensors").read_bytes() for run in (one, other)]
    assert models[0] == models[1]
    for key in ("metrics", "validation"):
        assert outcome(one)[key] == outcome(other)[key]


@pytest.fixture(scope="module", params=["autoencoder with discriminator", "translator"])
def whole(request, command, tiny, tmp_path_factory):
    """A run that nothing stops, its arguments, and how long it took."""
    folder = tmp_path_factory.mktemp("whole")
    if request.param == "translator":
        arguments = [*tiny("model.steps", "model.val_every"), *LONGER, "model=sup"]
    else:
        arguments = [*tiny("+", "flow", "model.steps", "model.val_every"), *LONGER, "model=autoencoder", GAME]
        arguments.append("callbacks=ema")

    def start(place, **options):
        # Its own store and cache: what comes before the run is stopped, too.
        places = (f"paths.{name}={place}/{name}" for name in ("models", "cache"))
        return command(*arguments, *places, f"hydra.run.dir={place}/run", **options)

    began = time.monotonic()
    start(folder)
    return folder / "run", start, time.monotonic() - began


@pytest.mark.commands
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGKILL, {-9}), (signal.SIGTERM, {75, -15})], ids=["-9", "-15"])
def test_however_often_it_is_stopped_the_same_command_goes_on_to_the_same_end(whole, tmp_path, number, codes):
    undisturbed, start, length = whole
    moments = random.Random(number)
    for _ in range(3):
        stopped = start(tmp_path, send=(number, moments.uniform(0.2, 0.9) * length), ok=None)
        assert stopped.returncode in {0, *codes}, stopped.stderr
        if stopped.returncode == 75:
            assert f"resume={tmp_path}" in stopped.stderr
    start(tmp_path)
    assert_same_end(undisturbed, tmp_path / "run")
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.commands
def test_what_is_finished_is_not_done_again(whole):
    undisturbed, start, _ = whole
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    again = start(undisturbed.parent)
    assert "results" in again.stdout, "what was found is shown"
    assert {path: path.stat().st_mtime_ns for path in before if path.name != "run.log"} == {
        path: seen for path, seen in before.items() if path.name != "run.log"
    }


@pytest.mark.commands
def test_what_was_continued_with_other_values_is_another_run(whole, tmp_path):
    undisturbed, start, _ = whole
    run = tmp_path / "run"
    run.mkdir()
    places = f"models: {tmp_path}/models, cache: {tmp_path}/cache"
    config = OmegaConf.load(undisturbed / "config.yaml")
    config.paths = OmegaConf.merge(config.paths, OmegaConf.create(f"{{{places}}}"))
    OmegaConf.save(config, run / "config.yaml")
    config.model.steps, config.resume = STEPS + 20, str(run)
    OmegaConf.save(config, run / "config.resumed.yaml")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    refused = start(tmp_path, ok=False)
    assert f"is the folder of another run: go on with it (resume={run})" in refused.stderr


@pytest.mark.commands
def test_two_jobs_are_never_in_one_folder(whole):
    undisturbed, start, _ = whole
    results = undisturbed / "results.json"
    found = results.read_text()
    results.unlink()  # so that there is something to do
    try:
        with FileLock(undisturbed / train.LOCK):
            refused = start(undisturbed.parent, ok=False)
        assert "Another process is at work in" in refused.stderr
    finally:
        results.write_text(found)


@pytest.mark.commands
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know the names of open files")
def test_a_full_disk_is_said_and_the_run_goes_on_after_it(whole, tmp_path):
    undisturbed, start, _ = whole
    refused = start(tmp_path, ok=False, full="last.ckpt.part")
    assert refused.returncode == 2
    assert "No space left on device" in refused.stderr
    assert "Traceback" not in refused.stderr
    start(tmp_path)
    assert_same_end(undisturbed, tmp_path / "run")


class Mortal(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, item):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_said(tmp_path):
    with (
        pytest.raises(ResourceError, match=r"process that loads batches was ended .*data\.num_workers=0"),
        explained(tmp_path),
    ):
        next(iter(DataLoader(Mortal(), num_workers=1)))


def test_too_little_memory_is_said(tmp_path):
    with (
        pytest.raises(ResourceError, match=r"not enough of main memory .*Lower model\.batch_size"),
        explained(tmp_path),
    ):
        torch.empty(1 << 62, dtype=torch.uint8)
    with pytest.raises(ResourceError, match="not enough of the GPU"), explained(tmp_path):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")


def test_too_little_memory_that_cuda_itself_says_is_said(tmp_path):
    with pytest.raises(ResourceError, match="not enough of the GPU"), explained(tmp_path):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ...")


def test_other_errors_are_left_alone(tmp_path):
    for error in (OSError(2, "No such file"), RuntimeError("shapes"), KeyError("key")):
        with pytest.raises(type(error)) as seen, explained(tmp_path):
            raise error
        assert seen.value is error


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """What SLURM would be asked: the arguments, in a file."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return asked


@pytest.mark.commands
@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "77"}, "77"),
        ({"SLURM_JOB_ID": "79", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "2"}, "77_2"),
    ],
)
def test_slurm_is_asked_to_start_again_what_it_warned_of_its_end(scontrol, monkeypatch, environment, job):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stopped = train._stopped(Preempted("Saved.", signal.SIGUSR1), Path("outputs/mine"))
    assert scontrol.read_text().split() == ["requeue", job]
    assert str(stopped).endswith(f"SLURM will start job {job} again.")
    assert stopped.exit_code == 75


@pytest.mark.parametrize("number", train.PREEMPTION)
def test_a_scheduler_is_heard_outside_of_training_steps_too(scontrol, monkeypatch, number):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    before = signal.getsignal(number)
    with pytest.raises(SIGTERMException) as ended, train._preemptible():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
    stopped = train._stopped(ended.value, Path("outputs/mine"))
    assert (stopped.exit_code, stopped.signal) == (75, number)
    assert scontrol.exists() == (number == signal.SIGUSR1)


def test_lightning_itself_says_no_signal_when_it_ends_a_test():
    assert train._stopped(SIGTERMException(), Path("outputs/mine")).exit_code == 75


def test_a_sweeps_own_handlers_stay():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with train._preemptible():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("stop", [StoppedByUser("Saved."), Preempted("Saved.", signal.SIGTERM)])
def test_slurm_is_not_asked_otherwise(scontrol, monkeypatch, stop):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert "resume=outputs/mine" in str(train._stopped(stop, Path("outputs/mine")))
    assert not scontrol.exists()
