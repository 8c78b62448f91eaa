"""Every data set under every model, as a user runs it: ``trainer=smoke`` on fake files of real names and layouts."""

import json
import subprocess
import sys

import pytest
from tests.data import fakes

from iin_lightning.interpreter import Interpreter

SMALL = (
    "encoder.width=4",
    "encoder.latent_dim=12",
    "flow.n_blocks=1",
    "flow.hidden=8",
    "model.batch_size=8",
    "+judge.encoder.width=4",
)
FILES = ("data.size=16", "data.num_workers=0")


def where(root):
    return [f"paths.data={root}"]


# Name: how its files are written, and what is said about them.
DATA = {
    "color_mnist_mini": (lambda root: [], ()),
    "fashion_mnist": (lambda root: where(fakes.write_fashion_mnist(root)), ("data.val_fraction=0.3",)),
    "cifar10": (lambda root: where(fakes.write_cifar10_batches(root)), ()),
    "celeba": (lambda root: where(fakes.write_celeba(root)), FILES),
    "animal_faces": (lambda root: where(fakes.write_animal_faces(root)), FILES),
    "deep_fashion": (lambda root: where(fakes.write_deep_fashion(root)), FILES),
    "image_folder": (lambda root: [f"data.root={fakes.write_image_folder(root)}"], FILES),
    "pairs_csv": (lambda root: [f"data.table={fakes.write_pairs_csv(root)}"], FILES),
}


@pytest.fixture
def train(tmp_path, environment):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "iin_lightning.train", "-m", "trainer=smoke", *SMALL, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("name", DATA)
def test_every_model_trains_on_every_data_set(name, train, tmp_path):
    write, options = DATA[name]
    process = train(
        f"data={name}", *write(tmp_path / "files"), *options, "model=autoencoder,unsup,sup", "hydra.sweep.dir=runs"
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    for job in "012":
        results = json.loads((tmp_path / "runs" / job / "results.json").read_text())
        assert results["steps"] == 4
        assert results["metrics"]
        assert results["broken_images"] == dict.fromkeys(results["broken_images"], 0)
    interpreter = Interpreter.from_pretrained(tmp_path / "runs" / "2" / "model")
    assert interpreter.factors.concepts
    assert (tmp_path / "runs" / "2" / "figures" / "swap.png").is_file()


def test_images_without_classes_train_what_needs_none(train, tmp_path):
    folder = fakes.write_flat_folder(tmp_path / "files")
    fakes.damage(folder / "3.png")
    options = ("data=image_folder", f"data.root={folder}", *FILES)
    process = train(*options, "data.max_broken=0.1", "model=autoencoder,unsup", "hydra.sweep.dir=runs")
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    assert sum(json.loads((tmp_path / "runs/1/results.json").read_text())["broken_images"].values()) == 1
    process = train(*options, "data.max_broken=0.1", "model=sup")
    assert process.returncode == 2
    assert "have no concepts to learn from pairs: train without (model=unsup)" in process.stderr
    process = train(*options, "model=unsup")
    assert process.returncode == 2
    assert "more than data.max_broken=0.01 allows" in process.stderr
    assert "Traceback" not in process.stderr
