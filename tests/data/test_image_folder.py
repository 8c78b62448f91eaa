import pytest
import torch
from tests.data import fakes

from iin_lightning.data.image_folder import ImageFolder
from iin_lightning.errors import ConfigError, DataNotFoundError

SPLITS = ("train", "val", "test")


def image_folder(root, **options) -> ImageFolder:
    return ImageFolder(root, **{"cache": "none", "num_workers": 0, **options})


def sizes(data: ImageFolder) -> list[int]:
    return [len(data.listing(split).paths) for split in SPLITS]


def test_classes_are_folders_at_any_depth(tmp_path):
    data = image_folder(fakes.write_image_folder(tmp_path), concept="animal")
    assert data.concepts == ("animal",)
    assert data.kinds == {"animal": "class"}
    assert data.classes == {"animal": ("cat", "dog", "owl")}
    assert sizes(data) == [24, 6, 6]
    listing = data.listing("train")
    for path, (label,) in zip(listing.paths, listing.labels.tolist()):
        assert path.relative_to(tmp_path).parts[0] == ("cat", "dog", "owl")[label]
    assert any(path.parent.name == "indoors" for path in listing.paths)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), [36, 36, 36]),
        (("train", "valid", "test"), [36, 36, 36]),
        (("train", "validation"), [30, 36, 6]),
        (("train", "test"), [30, 6, 36]),
        (("train",), [24, 6, 6]),
        (("Train", "Val", "Test"), [36, 36, 36]),
        (("training", "dev", "TESTING"), [36, 36, 36]),
    ],
)
def test_splits_are_folders_and_what_is_absent_is_taken_from_training(tmp_path, folders, expected):
    data = image_folder(fakes.write_image_folder(tmp_path, folders))
    assert sizes(data) == expected
    files = [path for split in SPLITS for path in data.listing(split).paths]
    assert len(set(files)) == len(files) == 36 * len(folders)


def test_names_in_another_encoding_are_read(tmp_path):
    fakes.write_image_folder(tmp_path, ("train",))
    folder = tmp_path / "train" / "owl"
    for path in folder.iterdir():
        path.rename(folder / f"{path.stem}\udcfc{path.suffix}")
    folder.rename(folder.with_name("caf\udce9"))
    data = image_folder(tmp_path)
    assert "caf\ufffd" in data.classes["class"]
    assert sizes(data) == [24, 6, 6]
    assert data.source("test").draw(torch.arange(6), None).shape[0] == 6


def test_images_without_classes_have_no_concept(tmp_path):
    data = image_folder(fakes.write_flat_folder(tmp_path))
    assert data.concepts == ()
    assert data.kinds == {}
    assert data.classes == {}
    assert sum(sizes(data)) == 24
    assert min(sizes(data)) >= 2
    assert data.source("train").labels.shape == (sizes(data)[0], 0)


def test_a_class_that_only_a_held_out_folder_has_is_refused(tmp_path):
    root = fakes.write_image_folder(tmp_path, ("train", "test"))
    (root / "test" / "owl").rename(root / "test" / "fox")
    with pytest.raises(ConfigError, match=r"the test images have the classes 'fox'.*allowed are: 'cat', 'dog', 'owl'"):
        image_folder(root).source("train")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "__MACOSX", "indoors/.cache/small"])
def test_hidden_folders_inside_a_class_are_not_read(tmp_path, hidden):
    root = fakes.write_image_folder(tmp_path)
    before = {path for split in SPLITS for path in image_folder(root).listing(split).paths}
    for name in ("cat", "owl"):
        fakes.write_image(root / name / hidden / "0-checkpoint.png")
    assert {path for split in SPLITS for path in image_folder(root).listing(split).paths} == before


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("cat/self", "cat"),
        ("cat/indoors/up", "cat"),
        ("a", "cat"),
        ("dog/a", "dog/z"),
        ("cat/a", "a"),
        ("cat/to", "dog"),
    ],
)
def test_a_folder_that_links_lead_to_again_is_read_once_and_under_its_own_name(tmp_path, link, to):
    root = fakes.write_image_folder(tmp_path)
    fakes.write_image(root / "dog" / "z" / "1.png")
    before = {path for split in SPLITS for path in image_folder(root).listing(split).paths}
    (root / link).symlink_to(root / to)
    assert {path for split in SPLITS for path in image_folder(root).listing(split).paths} == before


def test_hidden_files_and_links(tmp_path):
    root = fakes.write_image_folder(tmp_path / "a")
    (root / "cat" / "._1.png").write_bytes(b"left by a Mac")
    (root / "__MACOSX").mkdir()
    (root / "empty").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "b" / name).symlink_to(root / name)
    assert sum(sizes(image_folder(root))) == 36
    data = image_folder(tmp_path / "b")
    assert data.classes == {"class": ("cat", "dog")}
    assert sum(sizes(data)) == 24


@pytest.mark.parametrize("make", [lambda root: root, lambda root: root / "nowhere"])
def test_an_empty_folder_is_an_error_that_says_what_to_put_where(tmp_path, make):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataNotFoundError, match=r"no images in .*(has notes.txt|does not exist).*<class>.*data.root"):
        image_folder(make(tmp_path)).source("train")


def test_no_image_changes_sides_as_the_folder_grows_shrinks_or_moves(tmp_path):
    def add(names, numbers) -> None:
        for name in names:
            (tmp_path / "a" / name).mkdir(parents=True, exist_ok=True)
            for number in numbers:
                (tmp_path / "a" / name / f"{number}.png").touch()

    def sides(root) -> dict[str, str]:
        data = image_folder(root, val_fraction=0.2, test_fraction=0.2)
        return {str(path.relative_to(root)): side for side in SPLITS for path in data.listing(side).paths}

    add(("cat", "dog"), range(100, 200))
    before = sides(tmp_path / "a")
    assert len(before) == 200
    add(("ape", "cat", "dog"), range(160))
    grown = sides(tmp_path / "a")
    assert len(grown) == 160 + 2 * 200
    assert before.items() <= grown.items()
    for number in range(0, 200, 3):
        (tmp_path / "a" / "cat" / f"{number}.png").unlink()
    shrunk = sides(tmp_path / "a")
    assert len(shrunk) == len(grown) - 67
    assert shrunk.items() <= grown.items()
    (tmp_path / "a").rename(tmp_path / "b")
    assert sides(tmp_path / "b") == shrunk


@pytest.mark.parametrize("folders", [("train", "bus"), ("test", "bus"), ("Testing", "bus"), ("train", "val", "dev")])
def test_a_split_beside_classes_is_an_error(tmp_path, folders):
    for name in folders:
        fakes.write_image(tmp_path / name / "cat" / "0.png")
    with pytest.raises(ConfigError, match="name splits, beside"):
        ImageFolder(tmp_path).listing("train")
