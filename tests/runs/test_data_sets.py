"""Every data set, as a user trains on it: ``trainer=smoke`` on fake files of real names and layouts."""

import json

import pytest
from tests.data import fakes

from iin_lightning.interpreter import Interpreter

ONCE = "trainer.val_check_interval=4"  # validated, and drawn
FILES = ("data.size=16", "data.num_workers=0")


def where(root):
    return [f"paths.data={root}"]


def write_mnists(root):
    """MNIST and Fashion-MNIST, each in its folder."""
    (fakes.write_fashion_mnist(root) / "FashionMNIST").rename(root / "MNIST")
    return fakes.write_fashion_mnist(root)


# Arguments, of which a sweep makes variants: how their files are written, what is said about them, and the concepts of
# each variant. Variants share a process, which takes as long to start as one of them to train.
DATA = {
    "data=color_mnist_mini": (lambda root: [], (), ["digit color"]),
    "data=mnist,fashion_mnist,color_mnist": (
        lambda root: where(write_mnists(root)),
        ("data.val_fraction=0.3",),
        ["digit", "garment", "digit color"],
    ),
    "data=cifar10": (lambda root: where(fakes.write_cifar10_batches(root)), (), ["object"]),
    "data=celeba data.attributes=[Smiling,Male,Eyeglasses],[Male,identity]": (
        lambda root: where(fakes.write_celeba(root)),
        FILES,
        ["Smiling Male Eyeglasses", "Male identity"],
    ),
    "data=animal_faces data.partition=shared,official": (
        lambda root: where(fakes.write_animal_faces(root)),
        FILES,
        ["animal", "animal"],
    ),
    "data=deep_fashion": (lambda root: where(fakes.write_deep_fashion(root)), FILES, ["appearance"]),
    "data=image_folder": (lambda root: [f"data.root={fakes.write_image_folder(root)}"], FILES, ["class"]),
    "data=pairs_csv": (lambda root: [f"data.table={fakes.write_pairs_csv(root)}"], FILES, ["shape material"]),
}


@pytest.fixture
def train(tmp_path, run_command, small):
    def run(*arguments):
        return run_command("iin_lightning.train", "-m", "trainer=smoke", ONCE, *small, *arguments, cwd=tmp_path)

    return run


@pytest.mark.commands
@pytest.mark.parametrize("data", DATA)
def test_every_data_set_trains_and_one_of_them_every_model(data, train, tmp_path):
    write, options, concepts = DATA[data]
    models = ("autoencoder", "unsup", "sup") if data == "data=color_mnist_mini" else ("sup",)
    files = write(tmp_path / "files")
    process = train(*data.split(), *files, *options, f"model={','.join(models)}", "hydra.sweep.dir=runs")
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    runs = [tmp_path / "runs" / str(job) for job in range(len(models) * len(concepts))]
    for run in runs:
        results = json.loads((run / "results.json").read_text())
        assert results["steps"] == 4
        assert results["metrics"]
        assert results["broken_images"] == dict.fromkeys(results["broken_images"], 0)
    supervised = runs[len(models) - 1 :: len(models)]
    learned = [Interpreter.from_pretrained(run / "model").factors.concepts for run in supervised]
    assert [" ".join(names) for names in learned] == concepts
    for run in supervised:
        assert (run / "figures" / "swap.png").is_file()


@pytest.mark.commands
def test_images_without_classes_train_what_needs_none(train, tmp_path):
    folder = fakes.write_flat_folder(tmp_path / "files")
    fakes.damage(folder / "3.png")
    options = ("data=image_folder", f"data.root={folder}", *FILES)
    process = train(*options, "data.max_broken=0.1", "model=autoencoder,unsup", "hydra.sweep.dir=runs")
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    assert sum(json.loads((tmp_path / "runs/1/results.json").read_text())["broken_images"].values()) == 1
    # Each in a folder of its own: those that are named after the second may be the same.
    process = train(*options, "data.max_broken=0.1", "model=sup", "hydra.sweep.dir=unlabelled")
    assert process.returncode == 2
    assert "have no concepts to learn from pairs: train without (model=unsup)" in process.stderr
    process = train(*options, "model=unsup", "hydra.sweep.dir=broken")
    assert process.returncode == 2
    assert "more than data.max_broken=0.01 allows" in process.stderr
    assert "Traceback" not in process.stderr
