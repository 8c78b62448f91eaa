"""Two processes do what one does, number for number, whoever starts them: Lightning, torchrun, srun or submitit.

They start themselves again, so they must be real ones.
"""

import csv
import json
import socket
import subprocess
import sys

import pytest

# Neither of the batches divides its 30 or 24 images, and held-out batches of 5 cannot be halved.
SAME = (
    "encoder.norm=actnorm",  # batch norm is synchronised on GPUs only
    "+judge.encoder.norm=actnorm",
    "model.steps=20",
    "model.val_every=10",
    "data.eval_batch_size=5",
    "trainer.log_every_n_steps=1",
    "paths.data=data",
)
GAME = (
    "model=autoencoder",
    # As the authors have it. With the scale in closed form the game of so small a network multiplies rounding errors.
    "model.loss.pixel=l1",
    "model.loss.scale=learned",
    "model.adversarial={_target_: iin_lightning.losses.adversarial.Adversarial, _partial_: true, start: 3, "
    "discriminator: {_target_: iin_lightning.encoders.autoencoder.Trunk, _partial_: true, width: 4, n_down: 2}}",
)
# After training: the judge is not in the store, and who trains it alone must not wait for the other process.
QUESTIONS = (
    "+evaluation.metric=[likelihood]",
    "+analysis@analyses.walk=walk",
    "analyses.walk.walks=4",
    "analyses.walk.draws=3",
    "analyses.walk.steps=3",
)
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


@pytest.fixture
def arguments(tiny, tmp_path):
    """Of both runs; each trains what it needs first by itself."""

    def of(run, *more):
        stores = (f"paths.{kind}={tmp_path}/{run}/{kind}" for kind in ("models", "cache"))
        trainer = ("trainer=cpu",) if run == "one" else ("trainer=ddp_cpu",)
        without = ("trainer", "model.steps", "model.val_every", *(("flow", "+") if more == GAME else ()))
        return (*tiny(*without), *SAME, *more, *stores, *trainer)

    return of


@pytest.fixture
def alone(command, arguments, tmp_path):
    """One process; its folder."""

    def run(*more):
        command(*arguments("one", *more), f"hydra.run.dir={tmp_path}/alone")
        return tmp_path / "alone"

    return run


@pytest.fixture
def start(environment, workplace):
    """Start processes, each with more variables; what they say once all have ended well."""

    def run(*command, variables=None):
        options = {"cwd": workplace, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes = [
            subprocess.Popen([sys.executable, "-m", *command], env={**environment, **more}, **options)
            for more in variables or [{}]
        ]
        said = [process.communicate(timeout=150)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
        return said

    return run


def logged(folder):
    """Name -> step -> number, of training, validation and tests."""
    numbers = {}
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and "/" in name:
                    numbers.setdefault(name, {})[int(row["step"])] = float(value)
    return numbers


def assert_same_numbers(together, alone):
    together, alone = logged(together), logged(alone)
    assert {name: list(steps) for name, steps in together.items()} == {
        name: list(steps) for name, steps in alone.items()
    }
    assert {name.partition("/")[0] for name in alone} >= {"train", "test"}
    for name, steps in alone.items():
        # The losses of images are sums over thousands of pixels in float32: what is 1e-5 of 1 is 1e-5 of themselves.
        # An error of rounding is compared with what it rounds.
        # Adam makes whole steps along gradients that are nothing but rounding, as that of the last rotation is where
        # the factors have no names: no likelihood knows of it, but a walk turns with it.
        floor = 1e-5 if "round_trip" in name else 0
        near = 0.05 if name.startswith("analysis/walk") else 1e-4
        assert list(together[name].values()) == pytest.approx(list(steps.values()), rel=near, abs=floor), name


@pytest.mark.commands
def test_pairs_of_cached_latents_under_torchrun(start, alone, arguments, tmp_path):
    command = (*TORCHRUN, "iin_lightning.train", *arguments("two", "model=sup"), f"hydra.run.dir={tmp_path}/run")
    (said,) = start(*command)
    assert said.count("Training the encoder first") == 1, "the first process speaks for both"
    models = {folder.name: folder for folder in (tmp_path / "two" / "models").iterdir() if folder.is_dir()}
    assert len(list((tmp_path / "run").glob("metrics*.csv"))) == 1
    assert [len(logged(tmp_path / "run")[f"{stage}/nll"]) for stage in ("train", "val", "test")] == [20, 2, 1]
    assert_same_numbers(tmp_path / "run", alone("model=sup"))
    assert len(models) == 2, "the encoder and the judge"
    for name, folder in models.items():
        assert_same_numbers(folder, tmp_path / "one" / "models" / name)
    assert not list((tmp_path / "two" / "models").glob("*.trainer"))


@pytest.mark.system
def test_the_adversarial_game_under_srun(start, alone, arguments, tmp_path):
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    ranks = [{**step, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    start("iin_lightning.train", *arguments("two", *GAME), f"paths.outputs={tmp_path}", variables=ranks)
    together = tmp_path / "color_mnist_autoencoder" / "job-7.0"
    assert [path.name for path in together.parent.iterdir()] == ["job-7.0"]
    assert "train/adversarial_weight" in logged(together)
    assert_same_numbers(together, alone(*GAME))


@pytest.mark.commands
def test_single_cached_latents_and_questions_about_them_on_two_processes(start, alone, arguments, tmp_path):
    start("iin_lightning.train", *arguments("two", "model=unsup", *QUESTIONS), f"paths.outputs={tmp_path}/out")
    (together,) = tmp_path.glob("out/*/*")
    assert_same_numbers(together, alone("model=unsup", *QUESTIONS))
    results = json.loads((together / "results.json").read_text())
    assert set(results["evaluation"]) == {"likelihood"}
    assert results["analysis"]["walk"]["factors"]["residual"]
    (judge,) = (tmp_path / "two" / "models").glob("*-classify-*/results.json")
    assert judge.stat().st_mtime > (together / "model" / "model.safetensors").stat().st_mtime


@pytest.mark.system
def test_latents_encoded_at_each_step_in_a_job_of_submitit(start, alone, arguments, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    online = ("model=sup", "latents=online")
    submitit = ("-m", "hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2")
    start("iin_lightning.train", *submitit, *arguments("two", *online), f"hydra.sweep.dir={tmp_path}/sweep")
    assert_same_numbers(tmp_path / "sweep" / "0", alone(*online))
