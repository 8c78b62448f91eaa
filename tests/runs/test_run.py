"""One run of each kind in this process: what it leaves, that it goes on exactly, and what is made of it next."""

import json
from pathlib import Path

import pytest
import torch

from iin_lightning.cli.compose import compose_train
from iin_lightning.interpreter import Interpreter
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.run import run, show
from iin_lightning.runs.store import Store

SMALL = (
    *("trainer=cpu", "data.views=1", "data.limit=60", "encoder.width=4", "encoder.latent_dim=8", "flow.n_blocks=1"),
    *("flow.hidden=8", "model.steps=4", "model.val_every=2", "model.batch_size=16", "+first_stage.model.steps=2"),
    *("+judge.model.steps=2", "+judge.encoder.width=4", "name=mine"),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")

    def compose(*more):
        folders = (f"paths.{name}={place}/{name}" for name in ("models", "cache", "outputs"))
        return compose_train(*SMALL, *more, *folders)

    return compose


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(Recipe.of(config()), folder)


def test_a_run_leaves_everything_in_its_folder(whole, config):
    folder, outcome = whole
    for name in ("config.yaml", "provenance.json", "metrics.csv", "checkpoints/last.ckpt", "model/model.safetensors"):
        assert (folder / name).is_file(), name
    assert {path.name for path in (folder / "figures").glob("*.png")} >= {"swap.png", "samples.png"}
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert found["finished"]
    assert (outcome["steps"], outcome["factors"]) == (4, {"residual": 4, "digit": 2, "color": 2})
    assert {"test/nll", "test/transfer/digit/digit"} <= set(outcome["metrics"])
    assert Interpreter.from_pretrained(folder / "model").factors.concepts
    recipe = Recipe.of(config())
    store = Store(Path(recipe.config.paths.models), pytest.fail, seed=0)
    assert all(store.is_complete(store.folder(needed)) for needed in (recipe.encoder, recipe.judge("digit")))


def test_a_run_goes_on_to_the_same_bits_and_other_seeds_to_others(whole, config, tmp_path):
    folder, _ = whole
    run(Recipe.of(config("model.steps=2", "scheduler.steps=4")), tmp_path / "stopped")
    run(Recipe.of(config()), tmp_path / "stopped")
    run(Recipe.of(config("seed=1", "+first_stage.seed=0", "+judge.seed=0")), tmp_path / "other")
    models = [(place / "model" / "model.safetensors").read_bytes() for place in (folder, tmp_path / "stopped")]
    assert models[0] == models[1] != (tmp_path / "other" / "model" / "model.safetensors").read_bytes()
    states = [
        torch.load(place / "checkpoints/last.ckpt", weights_only=True) for place in (folder, tmp_path / "stopped")
    ]
    assert all(torch.equal(value, states[1]["state_dict"][name]) for name, value in states[0]["state_dict"].items())


def test_the_title_of_the_numbers_is_one_line(tmp_path, capsys):
    show({"name": "quickstart/encoder", "metrics": {"test/l1": 0.5}}, tmp_path)
    assert capsys.readouterr().out.startswith("quickstart/encoder: test split")
