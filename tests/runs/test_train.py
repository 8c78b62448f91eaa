"""The command ``train``: what it leaves behind, what it reuses, what it refuses, and that stopping loses nothing."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from iin_lightning.interpreter import Interpreter
from iin_lightning.seeding import generator

STORE = "paths.models=trained"  # its own, so that it is empty whichever tests were run before


def outcome(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def supervised(command, tiny, workplace):
    """One supervised run from nothing: first stage, judge, translator."""
    process = command(*tiny(), "model=sup", STORE, "hydra.run.dir=runs/sup", own_process=True)  # as a user's, once
    return workplace / "runs" / "sup", process.stdout


@pytest.mark.commands
def test_a_run_leaves_everything_in_its_folder(supervised):
    folder, printed = supervised
    for name in (
        "config.yaml",
        "results.json",
        "metrics.csv",
        "run.log",
        "checkpoints/last.ckpt",
        "model/model.safetensors",
    ):
        assert (folder / name).is_file(), name
    pictures = {path.name for path in (folder / "figures").glob("*.png")}
    assert pictures == {"swap.png", "reconstructions.png", "samples.png", "interpolations.png"}
    assert "swap.png" in printed
    assert "swapped factor" in printed
    start, run = "python -m iin_lightning", "run=runs/sup"
    following = [f"  {start}.explore {run}", f"  {start}.analyse {run} analysis=swap", f"  {start}.report {run}"]
    assert printed.splitlines()[-4:] == ["What next", *following]
    result = outcome(folder)
    assert result["steps"] == 6
    assert result["factors"] == {"residual": 4, "digit": 2, "color": 2}
    expected = {
        f"test/transfer/{c}/{f}"
        for c in ("digit", "color", "slant", "ink")
        for f in ("residual", "digit", "color", "reconstruction", "images", "chance")
    }
    assert expected | {"test/nll", "test/round_trip_error", "test/round_trip_error_of_edits"} == set(result["metrics"])
    assert all(result["metrics"][name]["error"] > 0 for name in ("test/nll", "test/transfer/color/color"))
    assert result["metrics"]["test/round_trip_error"] < 1e-4


@pytest.mark.commands
def test_what_to_type_next_takes_the_same_data(command, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [color_mnist_mini]\nviews: 3\n")
    few = ["trainer=smoke", "trainer.accelerator=cpu", "encoder.width=4", "model=autoencoder"]
    typed = ["--config-dir", "conf", "data=mine", "++data.limit=32", "seed=3"]
    said = command(*typed, *few, "hydra.run.dir=run", folder=tmp_path).stdout
    (line,) = (line for line in said.splitlines() if "iin_lightning.train" in line)
    arguments = shlex.split(line.partition("iin_lightning.train ")[2])
    assert "first_stage.path=run/model" in arguments
    composed = OmegaConf.create(command("--cfg", "job", *arguments, folder=tmp_path).stdout)
    assert (composed.data.views, composed.data.limit, composed.seed, composed.encoder) == (3, 32, 3, None)


@pytest.mark.commands
def test_the_first_stage_is_trained_once(supervised, command, tiny, workplace):
    _, first = supervised
    assert "Training the encoder first" in first
    assert "Training the judge of digit first" in first
    second = command(*tiny(), "model=unsup", STORE, "hydra.run.dir=runs/unsup").stdout
    assert "first" not in second
    assert outcome(workplace / "runs/unsup")["encoder"] == outcome(workplace / "runs/sup")["encoder"]
    assert not any("transfer" in name for name in outcome(workplace / "runs/unsup")["metrics"])


@pytest.mark.commands
def test_an_average_is_the_translators_own_and_resumes_exactly(supervised, command, tiny, workplace):
    """Its encoder is the one that all runs have."""
    arguments = [*tiny(), "model=unsup", "callbacks=ema", STORE]
    assert "first" not in command(*arguments, "hydra.run.dir=runs/ema").stdout
    command(*arguments, "model.steps=4", "scheduler.steps=6", "hydra.run.dir=runs/ema_resumed")
    command("resume=runs/ema_resumed", "model.steps=6")
    folders = [workplace / "runs" / name for name in ("ema", "ema_resumed")]
    whole, resumed = (Interpreter.from_pretrained(folder / "model").state_dict() for folder in folders)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    states = [torch.load(f / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["EMA"] for f in folders]
    assert [state["steps"] for state in states] == [6, 6]
    assert all(torch.equal(value, states[1]["average"][key]) for key, value in states[0]["average"].items())


@pytest.mark.commands
def test_a_classifier_is_explained_by_its_own_predictions(command, tiny, workplace):
    command(*tiny(), "model=sup", "encoder=classifier", "hydra.run.dir=runs/clf")
    metrics = outcome(workplace / "runs/clf")["metrics"]
    assert "test/transfer/digit/color" in metrics
    assert not any(name.startswith("test/transfer/color") for name in metrics)
    assert not (workplace / "runs/clf/figures").exists()


@pytest.mark.commands
def test_latents_can_be_encoded_at_every_step(command, tiny, workplace):
    command(*tiny(), "model=sup", "latents=online", "hydra.run.dir=runs/online")
    assert outcome(workplace / "runs/online")["steps"] == 6


@pytest.mark.commands
@pytest.mark.parametrize("model", ["autoencoder", "classifier"])
def test_a_network_to_be_explained_is_trained_alone_and_reused(command, tiny, workplace, model, tmp_path):
    arguments = tiny("+", "encoder.latent_dim", "flow")
    command(*arguments, f"model={model}", f"paths.models={tmp_path}", f"hydra.run.dir={tmp_path}/run")
    assert (tmp_path / "run" / "model" / "model.json").is_file()
    second = command(
        *arguments,
        f"encoder={model}",
        "model=unsup",
        *(f"+first_stage.{same}" for same in ("model.steps=6", "model.val_every=6", "model.batch_size=16")),
        "flow.hidden=8",
        "flow.n_blocks=1",
        f"paths.models={tmp_path}",
    )
    assert "first" not in second.stdout


@pytest.mark.commands
def test_the_adversarial_game_runs(command, tiny, workplace, tmp_path):
    game = (
        "model.adversarial={_target_: iin_lightning.losses.adversarial.Adversarial, _partial_: true, start: 2,"
        " discriminator: {_target_: iin_lightning.encoders.discriminator.PatchDiscriminator, _partial_: true,"
        " width: 4}}"
    )
    command(
        *tiny("+", "flow"),
        "model=autoencoder",
        game,
        "trainer.log_every_n_steps=1",
        f"paths.models={tmp_path}",
        f"hydra.run.dir={tmp_path}/run",
    )
    assert outcome(tmp_path / "run")["steps"] == 6
    assert "train/adversarial_weight" in (tmp_path / "run" / "metrics.csv").read_text()


@pytest.mark.commands
def test_wandb_takes_scalars_and_pictures_without_network(command, tiny, workplace, tmp_path):
    command(*tiny(), "model=sup", "logger=wandb", f"hydra.run.dir={tmp_path}/run")
    media = {path.name.rsplit("_", 2)[0] for path in (tmp_path / "run").rglob("media/images/figures/*.png")}
    assert {"swap", "samples"} <= media
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.commands
def test_a_sweep_is_one_command_and_one_folder_a_job(command, tiny, workplace, tmp_path):
    command("-m", *tiny(), "model=unsup", "seed=0,1", f"hydra.sweep.dir={tmp_path}", "+first_stage.seed=0")
    assert [outcome(tmp_path / job)["seed"] for job in "01"] == [0, 1]


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_state(a, b):
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key
    for one, other in zip(a["optimizer_states"], b["optimizer_states"]):
        for parameter, state in one["state"].items():
            for key, value in state.items():
                assert torch.equal(value, other["state"][parameter][key]), (parameter, key)
    assert a["lr_schedulers"] == b["lr_schedulers"]


@pytest.mark.commands
@pytest.mark.parametrize("model", ["sup", "autoencoder"])
def test_ctrl_c_and_resume_give_the_weights_of_an_uninterrupted_run(
    command, environment, tiny, workplace, tmp_path, model
):
    """Of other signals test_faults.py tells, in forks."""
    arguments = [f"model={model}", "model.steps=200", "model.val_every=50", *tiny("model.steps", "model.val_every")]
    if model == "autoencoder":
        arguments = [a for a in arguments if not a.startswith("+")] + [f"paths.models={tmp_path}/models"]
    command(*arguments, f"hydra.run.dir={tmp_path}/whole")
    stopped = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", "iin_lightning.train", *arguments, f"hydra.run.dir={stopped}"],
        cwd=workplace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The first validation writes a checkpoint: training is then well under way.
    deadline = time.monotonic() + 120
    while not (stopped / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert f"resume={stopped}" in error
    step = weights(stopped)["global_step"]
    assert 0 < step < 200, "the run was over before it could be stopped"
    command(f"resume={stopped}")
    assert_same_state(weights(tmp_path / "whole"), weights(stopped))
    assert outcome(stopped)["metrics"] == outcome(tmp_path / "whole")["metrics"]
    assert (stopped / "metrics.1.csv").is_file(), "what was logged before is kept"


BAD = {
    "processes within a sweep": (["-m", "trainer=ddp_cpu"], "run the jobs one by one without -m"),
    "what only the user knows": (["data=image_folder"], r"data\.root .*add data\.root=<value>"),
    "an unknown group": (["data=celebba"], "There is no data=celebba; .*color_mnist.*did you mean celeba"),
    "an unknown key": (
        ["data.evalbatchsize=3"],
        r"'data.evalbatchsize'.*allowed are: .*eval_batch_size.*did you mean eval_batch_size",
    ),
    "an unknown key at the root": (["sed=1"], "allowed are: .*did you mean seed"),
    "an unknown key of the first stage": (["+first_stage.model.stebs=3"], "stebs"),
    "factors that do not sum": (
        ["model.factors={residual: 9, digit: 9}"],
        "sum to 18, but the latent has 64.*model.factors.residual=55",
    ),
    "a factor that the data do not know": (
        ["model.factors={residual: 60, smile: 4}"],
        "no concept 'smile'.*digit, color",
    ),
    "a text where steps are counted": (["model=unsup", "model.steps=many"], "model.steps=many must be a whole number"),
    "steps without an end": (
        ["model=unsup", "model.steps=inf"],
        "model.steps=inf must be .* from 1 on, such as 100",
    ),
    "no number of steps": (["model=unsup", "model.steps=true"], "model.steps=True must be a whole number"),
    "a part of a step": (["model=unsup", "model.val_every=0.5"], "model.val_every=0.5 must be a whole number"),
    "a text for a rate": (["model=unsup", "model.lr=fast"], "model.lr=fast must be a number"),
    "a text in another recipe": (["model=sup", "+judge.model.steps=many"], "judge.model.steps=many must be a whole"),
    "a missing data folder": (
        ["data=color_mnist", "paths.data=/nowhere", "data.download=false"],
        "/nowhere.*train-images-idx3-ubyte",
    ),
    "a classifier's recipe with an autoencoder": (
        ["model=classifier", "encoder=autoencoder"],
        "choose encoder=classifier",
    ),
    "a recipe of what comes first that is none": (["first_stage.recipe=xyz"], "There is no first_stage.recipe=xyz"),
    "a recipe that trains no judge": (["judge.recipe=autoencoder"], "judge.recipe=autoencoder does not train"),
    "a mistyped key of a recipe": (["+judge.model.stepz=3"], r"no judge.model.stepz; .*did you mean steps"),
    "a run folder that is none": (["resume=nowhere"], "nowhere is no run folder"),
    "a model folder that is none": (["first_stage.path=nowhere"], "nowhere is no model folder"),
}


@pytest.mark.commands
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence_before_any_training(command, tiny, workplace, case, tmp_path):
    arguments, text = BAD[case]
    process = command(*arguments, f"hydra.run.dir={tmp_path}/run", f"paths.models={tmp_path}/models", ok=False)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert "Training" not in process.stdout
    assert not (tmp_path / "models").exists()
    assert re.search(text, process.stderr.replace("\n", " ")), process.stderr


def paint(folder, *classes, seed=0):
    """Classes of bitmaps, all of which have one size in bytes."""
    for name in classes:
        for i in range(8):
            pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=generator("paint", seed, name, i))
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{i}.bmp")


@pytest.mark.commands
def test_networks_are_known_by_the_content_of_their_data(command, small, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    paint(first / "pics", "a", "b")
    paint(second / "pics", "a", "b", seed=1)
    shared = ("data=image_folder", "data.size=32", *small, "trainer=smoke", "trainer.accelerator=cpu", "model=sup")

    def trained(folder, *arguments):
        places = (f"paths.models={tmp_path}/models", f"hydra.run.dir={tmp_path}/runs/{time.time_ns()}")
        return re.findall(r"Training the (\w+)", command(*shared, *arguments, *places, folder=folder).stdout)

    both = ["encoder", "judge"]
    assert trained(first, "data.root=pics") == both
    assert trained(second, "data.root=pics") == both, "other images under the same name"
    (first / "pics").rename(first / "moved")
    assert trained(first, f"data.root={first}/moved", "data.cache=ram", "data.max_broken=0.1") == []
    image = first / "moved" / "a" / "3.bmp"
    status = image.stat()
    image.write_bytes(image.read_bytes()[:-1] + b"!")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert trained(first, "data.root=moved") == both, "one byte of an image"
    (first / "moved" / "a").rename(first / "moved" / "aa")
    assert trained(first, "data.root=moved")[-1] == "judge", "the name of a class"
    paint(first / "moved", "c")
    assert trained(first, "data.root=moved") == both, "another class"


@pytest.mark.commands
def test_resuming_keeps_the_groups(command, supervised):
    folder, _ = supervised
    process = command(f"resume={folder}", "flow=paper", ok=False)
    assert process.returncode == 2
    assert "keeps its groups, so flow=paper" in process.stderr


@pytest.mark.commands
def test_a_run_is_continued_for_more_steps_on_the_same_encoder(command, supervised, tmp_path):
    folder = shutil.copytree(supervised[0], tmp_path / "run")
    for steps in (8, 10):
        assert "first" not in command(f"resume={folder}", f"model.steps={steps}").stdout
        result = outcome(folder)
        assert result["steps"] == steps
        assert result["encoder"] == outcome(supervised[0])["encoder"]
    process = command(f"resume={folder}", "trainer.max_steps=9", ok=False)
    assert process.returncode == 2
    assert "has done 10 steps already, and trainer.max_steps=9 asks for fewer" in process.stderr


@pytest.mark.commands
def test_a_folder_is_that_of_one_run(command, tiny, supervised):
    process = command(*tiny(), "model=sup", "seed=1", "hydra.run.dir=runs/sup", ok=False)
    assert process.returncode == 2
    assert "runs/sup is the folder of another run: go on with it (resume=" in process.stderr


@pytest.mark.commands
def test_a_run_that_failed_before_its_first_step_leaves_its_folder_free(command, tmp_path):
    for case in ("a classifier's recipe with an autoencoder", "a model folder that is none"):
        arguments, text = BAD[case]
        process = command(*arguments, f"hydra.run.dir={tmp_path}/run", ok=False)
        assert re.search(text, process.stderr.replace("\n", " ")), process.stderr
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["overrides"][0] == arguments[0]
    assert "resumed" not in provenance


@pytest.mark.commands
def test_resuming_takes_values_alone(command, supervised):
    folder, _ = supervised
    process = command(f"resume={folder}", "+model.new=3", ok=False)
    assert process.returncode == 2
    assert "+model.new=3 cannot be changed" in process.stderr
