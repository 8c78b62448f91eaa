"""The command ``look``: a true card and a sheet of every data set, on fake files of real names."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from tests.data import fakes
from torchvision.transforms.v2 import RandomInvert

from iin_lightning.cli.compose import register
from iin_lightning.cli.paths import conf_folder
from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.data.images import ImageTensor
from iin_lightning.errors import ConfigError, IINError
from iin_lightning.look import Look
from iin_lightning.reporting import look as looking

FEW = ("images=5", "pairs=3")


@pytest.fixture
def look(tmp_path, capsys):
    """Compose and look in this process; give back what was printed, and the sheet."""

    def run(*overrides):
        register()
        ConfigStore.instance().store("iin_lightning_look", Look)
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("look", [f"paths.outputs={tmp_path}", *FEW, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        path = looking.look(config)
        return re.sub(r"\s+", " ", capsys.readouterr().out), path

    return run


def mnist(root: Path) -> Path:
    (fakes.write_fashion_mnist(root) / "FashionMNIST").rename(root / "MNIST")
    return root


# The data set and its options: what writes it, and what its card says of it.
CARDS = {
    "mnist": (
        mnist,
        r"images 1x32x32 train 57 images val 3 images test 20 images concept digit 10 classes: 0 \(10.5%\)",
    ),
    "color_mnist": (mnist, "concept color color: 28 different ones, each in 8 to 9 training images"),
    "fashion_mnist": (fakes.write_fashion_mnist, r"concept garment 10 classes: T-shirt/top \(10.5%\), trouser"),
    "cifar10": (fakes.write_cifar10_folders, "test 30 images concept object 10 classes: airplane"),
    "celeba": (
        fakes.write_celeba,
        r"train 20 images val 10 images test 10 images concept Smiling 2 classes: not Smiling \(\d+.0%\), Smiling .*"
        r"Attributes of all training images .*0% 5_o_Clock_Shadow .*0% Young",
    ),
    "celeba data.attributes=[Male,identity]": (
        fakes.write_celeba,
        r"concept identity identity: 10 different ones, each in 2 training images .*"
        r"'data.attributes=\[Male,identity\]' model=sup",
    ),
    "animal_faces": (fakes.write_animal_faces, r"concept animal 5 classes: Chihuahua \(\d+.\d%\), .* Non-commercial"),
    "animal_faces data.partition=official": (fakes.write_animal_faces, "concept animal identity: 3 different ones"),
    "deep_fashion": (fakes.write_deep_fashion, "concept appearance identity: .* note "),
    "image_folder": (fakes.write_image_folder, "concept class 3 classes: cat"),
    "image_folder data.concept=pet": (fakes.write_image_folder, "concept pet 3 classes: cat"),
    "image_folder flat": (fakes.write_flat_folder, "concepts none .* model=unsup"),
    "pairs_csv": (fakes.write_pairs_csv, "concept shape identity: .* concept material identity: "),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_card_and_a_sheet_of_every_data_set(look, tmp_path, case):
    write, expected = CARDS[case]
    name, *options = case.removesuffix(" flat").split(" ")
    root = write(tmp_path / "data")
    key = "table" if name == "pairs_csv" else "root"
    printed, sheet = look(f"data={name}", f"data.{key}={root}", *options)
    assert re.search(expected, printed), printed
    assert re.search(r"licence \w.* terms \w", printed), printed
    assert f"python -m iin_lightning.train data={name} data.{key}={root}" in re.sub(r"paths.outputs=\S+ ", "", printed)
    assert sheet == tmp_path / "look" / name / "contact_train.png"
    assert str(sheet) in printed
    with Image.open(sheet) as picture:
        assert picture.width > 500
    assert not list(tmp_path.rglob("pixels")), "looking decodes no more than it shows"


def test_versions_of_images_are_shown_with_what_they_share_and_made_for_the_sheet_alone(look, tmp_path):
    root = fakes.write_celeba(tmp_path / "data")
    printed, _ = look("data=gray", "data@data.base=celeba", f"data.base.root={root}", f"paths.cache={tmp_path}/cache")
    assert "train 40 images" in printed
    assert "concept gray 2 classes: original (50.0%), gray (50.0%)" in printed
    assert f"train data=gray paths.outputs={tmp_path} data.base=celeba data.base.root={root}" in printed
    assert not (tmp_path / "cache").exists()


def test_versions_of_an_image_share_all_but_what_is_changed():
    changed = ChangedImages(ColorMNISTMini(views=1, limit=64), {"film": {"negative": RandomInvert(p=1.0)}})
    axes = looking.sheet(changed.source("test"), changed, "test", 4, 8, seed=0).axes[0]
    captions = [text.get_text() for text in axes.texts]
    assert sum(bool(re.fullmatch(r"\d, all else", caption)) for caption in captions) == 4
    assert sum(bool(re.fullmatch(r"\d", caption)) for caption in captions) == 4
    assert any("negative" in caption for caption in captions)


def test_broken_images_are_on_the_card(look, tmp_path):
    root = fakes.write_image_folder(tmp_path / "data", n=3)
    for path in (root / "dog").iterdir():
        fakes.damage(path)
    printed, _ = look("data=image_folder", f"data.root={root}", "data.max_broken=0.9", "images=9", "split=train")
    assert re.search(r"broken \d in train, of those looked at", printed), printed


def test_every_class_is_shown_as_often():
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 2)[:, None]
    shown = looking.evenly(labels, 8, torch.Generator().manual_seed(3))
    assert labels[shown, 0].bincount().tolist() == [3, 3, 2]
    assert shown.unique().numel() == 8
    assert looking.evenly(labels, 100, torch.Generator()).sort().values.tolist() == list(range(57))
    assert looking.evenly(labels[:, :0], 4, torch.Generator()).unique().numel() == 4


def test_a_pair_says_what_its_labels_share_and_every_kind_is_shown():
    labels = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.arange(2)).repeat(4, 1)
    source = ImageTensor(torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8), labels, ("a", "b", "c"))
    a, b = looking.pairs_of_every_kind(source, 12, seed=0)
    shared = labels[a] == labels[b]
    assert {tuple(row) for row in shared.tolist()} == {
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)
    }  # fmt: skip
    again = looking.pairs_of_every_kind(source, 12, seed=0)
    assert torch.equal(a, again[0])
    assert torch.equal(b, again[1])


class StandIns(ImageTensor):
    """Every image of the first class is broken, and one of the next class stands in for it."""

    def draw(self, indices, generator):
        return super().draw(self._present(indices), generator)

    def drawn_labels(self, indices):
        return self.labels[self._present(indices)]

    def _present(self, indices):
        return indices + (self.labels[indices, 0] == 0)


@pytest.mark.parametrize("kind", [ImageTensor, StandIns])
def test_a_caption_names_the_class_of_each_image_above_it(kind):
    labels = torch.arange(5).repeat(20)[:, None]
    pixels = (50 * labels).to(torch.uint8)[..., None, None].expand(-1, 1, 4, 4)
    grey = SimpleNamespace(classes={"grey": [str(50 * k) for k in range(5)]})
    axes = looking.sheet(kind(pixels, labels, ("grey",)), grey, "test", 10, 6, seed=0).axes[0]
    captions = [int(text.get_text()) for text in axes.texts if text.get_text().isdecimal()]
    shown = [255 * float(image.get_array()[0, 0, 0]) for image in axes.images]
    assert len(captions) == 16
    assert shown == pytest.approx(captions[:10] + [k for k in captions[10:] for _ in "ab"], abs=2)


def test_the_command_writes_the_sheet_and_nothing_else(mnist_root, tmp_path, run_command):
    asked = ("data=mnist", f"paths.data={mnist_root}", "split=test", *FEW)
    process = run_command("iin_lightning.look", *asked, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "sheet    outputs/look/mnist/contact_test.png" in process.stdout
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["contact_test.png"]


BAD = {
    "an unknown split": (["split=dev"], "no split=dev; allowed are: train, val, test"),
    "no images": (["images=0"], "images=0 must be at least 1"),
    "a missing folder": (["data=celeba", "paths.data=/nowhere"], "CelebA's images.*mmlab.*/nowhere does not exist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence_and_no_sheet(look, tmp_path, case):
    arguments, text = BAD[case]
    with pytest.raises(IINError, match=text):
        look(*arguments)
    assert not list(tmp_path.iterdir())


def test_a_misspelt_key_ends_the_command_with_those_that_exist(tmp_path, run_command):
    process = run_command("iin_lightning.look", "imags=3", "split=test", cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert re.search("allowed are: .*images.*did you mean images", process.stderr), process.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_to_train_with_has_all_that_was_typed_of_the_data(tmp_path, run_command):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [color_mnist_mini]\n")
    typed = ("data=mine", "++data.limit=40", "seed=3")
    process = run_command("iin_lightning.look", "--config-dir", "conf", *typed, *FEW, cwd=tmp_path)
    start = f"  python -m iin_lightning.train --config-dir conf {' '.join(typed)}"
    assert process.stdout.splitlines()[-2:] == [f"{start} model=autoencoder", f"{start} model=sup"], process.stderr


def test_help_loads_no_torch():
    code = (
        "import sys, runpy; sys.argv = ['look', '--help'];\n"
        "try: runpy.run_module('iin_lightning.look', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch loaded:', 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "data=celeba" in out
    assert out.rstrip().endswith("torch loaded: False")


def test_layers_of_a_network_are_listed_with_what_can_be_named(look):
    """In the order of call, without weights or data."""
    printed, sheet = look("encoder=torchvision/resnet18", "paths.data=/nowhere")
    assert sheet is None
    assert re.search(r"conv1 64x112x112 802,816 bn1 64x112x112", printed), printed
    assert re.search(r"layer1.0.conv1 64x56x56 200,704 bypassed", printed), printed
    assert re.search(r"layer1.0.relu 64x56x56 200,704 no place to cut: 2 calls", printed), printed
    assert re.search(r"avgpool 512x1x1 512 fc.latent 512 512 the default fc 1000 1,000", printed), printed
    assert "python -m iin_lightning.train data=color_mnist_mini encoder=torchvision/resnet18" in printed


def test_layers_are_of_networks_from_outside(look):
    with pytest.raises(ConfigError, match="no layers to choose from: look at encoder=torchvision/<name>"):
        look("encoder=autoencoder")
