"""What would make results meaningless is said of the data before anything is trained on them."""

from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data import fakes
from torchvision.transforms.v2 import Grayscale

from iin_lightning.cli.compose import compose_train
from iin_lightning.data.celeba import CelebA
from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.cifar10 import CIFAR10
from iin_lightning.data.image_folder import IMAGES, ImageFolder
from iin_lightning.data.images import ImageTensor, check_images
from iin_lightning.data.module import DataModule
from iin_lightning.data.pairs_csv import PairsCSV
from iin_lightning.errors import ConfigError, DataNotFoundError, RangeError
from iin_lightning.runs.build import build_factors
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.stages import classify

composed = cache(compose_train)
ROOT_TOO_HIGH = r"All \d+ training images have the same class.*let data.root name the folder that has several"


class Labelled(DataModule):
    """Black images, so that nobody looks at more than their labels."""

    title = license = terms = "None."
    concepts = ("shape", "look")
    kinds: ClassVar = {"shape": "class", "look": "identity"}
    classes: ClassVar = {"shape": ("disc", "bar", "ring")}
    image_shape = (3, 8, 8)

    def __init__(self, train, test=((0, 0), (1, 0), (2, 1)), **loading):
        super().__init__(**loading)
        self.by_split = {"train": torch.tensor(train), "val": torch.tensor(test), "test": torch.tensor(test)}

    def load(self, split):
        labels = self.by_split[split]
        return ImageTensor(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), labels, self.concepts)


def nested(tmp_path, folder, splits=("",)):
    for split in splits:
        fakes.write_image_folder(tmp_path / folder.format(split=split))
    return ImageFolder(tmp_path)


def csv(tmp_path, said):
    for name in "abcdef":
        fakes.write_image(tmp_path / f"{name}.png")
    rows = [f"a.png,b.png,{said},train", f"c.png,d.png,{said},val", f"e.png,f.png,{said},test"]
    (tmp_path / "pairs.csv").write_text("path_a,path_b,style,split\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return PairsCSV(tmp_path / "pairs.csv")


MEANINGLESS = {
    "one class, in the folder of a split": (lambda to: nested(to, "train/train"), "class", ROOT_TOO_HIGH),
    "one class, in any folder": (lambda to: nested(to, "pets/images"), "class", ROOT_TOO_HIGH),
    "one class, changed": (
        lambda to: ChangedImages(nested(to, "pets"), {"gray": {"gray": Grayscale(3)}}),
        "class",
        ROOT_TOO_HIGH,
    ),
    "a constant attribute": (
        lambda to: CelebA(fakes.write_celeba(to), attributes=["Bald"], limit=1),
        "Bald",
        r"All 1 training images have the same Bald \((not )?Bald\).*data.attributes\), or raise data.limit \(1\)",
    ),
    "a constant class": (lambda to: Labelled([[1, 0], [1, 0], [1, 1]]), "shape", r"the same shape \(bar\)"),
    "an identity that no two share": (
        lambda to: Labelled([[0, 0], [1, 1], [1, 2]]),
        "look",
        "No two of the 3 training images have the same look, so nothing can be learned of it",
    ),
    "a column that is always different": (lambda to: csv(to, "different"), "style", "No two of the 2 training images"),
}


@pytest.mark.parametrize("case", MEANINGLESS)
def test_a_concept_that_does_not_vary_is_refused_where_it_is_learned_and_said_elsewhere(tmp_path, case):
    make, concept, text = MEANINGLESS[case]
    data = make(tmp_path)
    said = data.unlearnable()[concept]
    assert said in data.warnings()
    with pytest.raises(ConfigError, match=text):
        build_factors(composed("model=sup"), 8, data)
    build_factors(composed("model=unsup"), 8, data)
    if concept in data.classes:
        config = compose_train("model=classifier", f"model.concept={concept}")
        with pytest.raises(ConfigError, match=text):
            classify(Recipe(config, data, "classify", config), None)


def test_a_concept_that_varies_is_not_refused_for_another(tmp_path):
    data = Labelled([[1, 0], [0, 1], [2, 2]])
    with pytest.raises(ConfigError, match="No two"):
        build_factors(composed("model=sup"), 8, data)
    data = Labelled([[1, 0], [0, 0], [1, 2]])
    build_factors(composed("model=sup"), 8, data)
    assert data.warnings() == ["No train image is of the class ring (shape), so no number tells of it."]


def test_a_class_without_a_test_image_is_said():
    data = Labelled([[0, 0], [1, 0], [2, 1], [0, 1]], test=[[0, 0], [2, 1]])
    assert data.warnings() == ["No test image is of the class bar (shape), so no number tells of it."]


@pytest.mark.parametrize(
    "make",
    [
        lambda to: ImageFolder(fakes.write_image_folder(to)),
        lambda to: ImageFolder(fakes.write_flat_folder(to)),
        lambda to: CIFAR10(fakes.write_cifar10_folders(to, n_train=30)),
        lambda to: CIFAR10(fakes.write_cifar10_batches(to)),
        lambda to: PairsCSV(fakes.write_pairs_csv(to)),
    ],
)
def test_where_all_is_well_nothing_is_said(tmp_path, make):
    assert make(tmp_path).warnings() == []


def test_every_kind_of_file_that_is_listed_is_read(tmp_path):
    image = Image.fromarray(fakes.pixels("x", 16, 16).numpy())
    modes, formats = {".pgm": "L", ".pbm": "1"}, {".jfif": "JPEG", ".jpe": "JPEG", ".apng": "PNG", ".pnm": "PPM"}
    (tmp_path / "a").mkdir()
    written = [suffix for suffix in IMAGES if suffix != ".psd"]  # which PIL does not write
    for suffix in written:
        image.convert(modes.get(suffix, "RGB")).save(tmp_path / "a" / f"{suffix[1:]}{suffix}", formats.get(suffix))
    data = ImageFolder(tmp_path, max_broken=0.0)
    sources = [data.source(split) for split in ("train", "val", "test")]
    assert sum(len(source.draw(torch.arange(len(source)), None)) for source in sources) == len(written)


def test_files_that_are_not_read_are_counted_and_said(tmp_path):
    root = fakes.write_image_folder(tmp_path)  # with one text among them
    few = ImageFolder(root)
    assert (few.warnings(), few.notes()) == ([], [f"Not read in {root} are 1 .txt."])
    for name in ("1.heic", "2.HEIC"):
        (root / "cat" / name).touch()
    fakes.write_image(root / "beside.png")
    many = ImageFolder(root)
    (said,) = many.warnings()
    assert said == f"Not read in {root} are 2 .heic, 1 .txt, 1 images beside the class folders."
    assert not many.notes()


def test_a_folder_of_files_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.heic").touch()
    with pytest.raises(DataNotFoundError, match=r"Not read are 1 \.heic: convert pictures to \.jpg or \.png, or put"):
        ImageFolder(tmp_path).listing("train")


DEPTHS = {
    "12 bits of 16": (np.uint16, 4095, [0, 4095]),
    "floating-point numbers": (np.float32, 1.0, [0, 1]),
    "16 bits": (np.uint16, 65_000, None),
    "masks": (np.uint8, 20, None),
    "8 bits": (np.uint8, 255, None),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_values_of_another_range_are_said_and_a_window_reads_them(tmp_path, case):
    dtype, high, window = DEPTHS[case]
    (tmp_path / "a").mkdir()
    ramp = np.linspace(0, high, 64).reshape(8, 8).astype(dtype)
    for number in range(20):
        Image.fromarray(ramp).save(tmp_path / "a" / f"{number}.tiff")
    said = [text for text in ImageFolder(tmp_path, concept="c").warnings() if "looked at" in text]
    if window is None:
        assert [text for text in said if "nearly black" in text] == (said if case == "masks" else [])
        assert bool(said) == (case == "masks")
        return
    assert said[0].endswith(f"say data.window=[{window[0]},{window[1]}].")
    data = ImageFolder(tmp_path, window=window, size=8, max_broken=0.0)
    assert not [text for text in data.warnings() if "looked at" in text]
    image = data.source("train").draw(torch.tensor([0]), None)
    expected = torch.from_numpy(ramp / window[1] * 2 - 1).float()
    torch.testing.assert_close(image[0, 0], expected, atol=0.01, rtol=0)


def test_pixels_that_are_no_numbers_do_not_hide_the_range_of_the_others(tmp_path):
    (tmp_path / "a").mkdir()
    masked = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    masked[0, :4] = np.nan
    for number in range(20):
        Image.fromarray(masked).save(tmp_path / "a" / f"{number}.tiff")
    assert any("say data.window=[0,1]" in text for text in ImageFolder(tmp_path, concept="c").warnings())


@pytest.mark.parametrize(("window", "text"), [([5, 5], r"window=\[5, 5\] must be"), ([1], r"must be \[black,white\]")])
def test_a_window_has_two_ends(window, text):
    with pytest.raises(ConfigError, match=text):
        ImageFolder("nowhere", window=window)


def test_images_of_a_users_own_class_are_in_range():
    with pytest.raises(RangeError, match=r"uint8.*float32"):
        ImageTensor(torch.rand(4, 3, 8, 8), torch.zeros(4, 1).long(), ("digit",))
    check_images(torch.zeros(0, 3, 8, 8))
