from importlib import resources

import pytest
from tests.data import fakes
from torchvision.models import MobileNet_V2_Weights

from iin_lightning.data.animal_faces import AnimalFaces
from iin_lightning.errors import ConfigError, DataNotFoundError

SPLITS = ("train", "val", "test")


def animal_faces(root, **options) -> AnimalFaces:
    return AnimalFaces(root, **{"cache": "none", "num_workers": 0, **options})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fakes.write_animal_faces(tmp_path_factory.mktemp("data"))


def test_shared_classes_are_on_all_sides_two_images_at_least(root):
    data = animal_faces(root)
    assert data.classes == {"animal": fakes.ANIMALS}
    files = []
    for split, most in zip(SPLITS, (8, 4, 4)):
        listing = data.listing(split)
        assert all(2 <= n <= most for n in listing.labels[:, 0].bincount(minlength=5).tolist())
        assert [path.parent.name for path in listing.paths] == [fakes.SYNSETS[i] for i in listing.labels[:, 0]]
        files += listing.paths
    assert len(set(files)) == len(files) == 60


def test_names_are_those_of_imagenet_and_no_two_are_alike():
    table = resources.files("iin_lightning.data") / "assets" / "animal_names.txt"
    synsets, names = zip(*(line.split(" ", 1) for line in table.read_text().splitlines()))
    assert sorted(set(synsets)) == list(synsets)
    # Carnivores are classes 151 to 299 of the thousand, in the order of their synsets.
    assert list(names) == MobileNet_V2_Weights.DEFAULT.meta["categories"][151:300]
    assert len(set(names)) == 149


def test_official_classes_are_disjoint_and_have_no_names(root):
    data = animal_faces(root, partition="official")
    animals = [{path.parent.name for path in data.listing(split).paths} for split in SPLITS]
    assert animals == [set(fakes.SYNSETS[:3]), set(fakes.SYNSETS[:3]), set(fakes.SYNSETS[3:])]
    assert data.classes == {}
    assert data.kinds == {"animal": "identity"}


@pytest.mark.parametrize("folder", ["datasets/animals", "animals", "."])
def test_it_is_found_in_each_usual_layout(tmp_path, folder):
    data = animal_faces(fakes.write_animal_faces(tmp_path, lists=False, folder=folder))
    assert sum(len(data.listing(split).paths) for split in SPLITS) == 60


def test_lists_may_lie_beside_the_classes_as_in_funit(tmp_path):
    root = fakes.write_animal_faces(tmp_path, folder="datasets/animals")
    for side in ("train", "test"):
        name = f"animals_list_{side}.txt"
        (root / "datasets" / "animals" / name).rename(root / "datasets" / name)
    assert len(animal_faces(root, partition="official").listing("test").paths) == 24


def test_official_needs_the_lists_and_says_which(tmp_path):
    root = fakes.write_animal_faces(tmp_path, lists=False)
    with pytest.raises(DataNotFoundError, match=r"needs animals_list_train.txt.*partition=shared needs no list"):
        animal_faces(root, partition="official").source("train")


def test_whole_pictures_of_imagenet_are_not_taken_for_crops(tmp_path):
    fakes.write_image(tmp_path / "n02085620" / "n02085620_7.JPEG")
    with pytest.raises(DataNotFoundError, match=r"no crops of heads.*iin_lightning.convert kind=animal_faces"):
        animal_faces(tmp_path).source("train")


def test_what_is_missing_is_said_with_what_lies_there(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataNotFoundError, match=r"animal_faces.*image-net.org.*convert.*has cats/"):
        animal_faces(tmp_path).source("train")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"partition": "oficial"}, r"no partition 'oficial'.*did you mean official\?"),
        ({"test_fraction": 1.0}, r"test_fraction=1.0 must lie between"),
    ],
)
def test_what_is_not_offered_is_refused(options, expected):
    with pytest.raises(ConfigError, match=expected):
        animal_faces("nowhere", **options)


def test_heads_of_one_photo_stay_on_one_side_and_whole_photos_are_left_out(tmp_path):
    root = fakes.write_animal_faces(tmp_path, n=30)
    for folder in (root / "animal_faces").glob("n*"):
        for crop in list(folder.iterdir()):
            fakes.write_image(folder / f"{crop.name.partition('.JPEG_')[0]}.JPEG_0_0_9_9.jpg")
        fakes.write_image(folder / f"{folder.name}_3.JPEG.png")
    data = AnimalFaces(root, test_fraction=0.3, val_fraction=0.3)
    photos = [{path.name.partition(".JPEG_")[0] for path in data.listing(split).paths} for split in SPLITS]
    assert sum(map(len, photos)) == len(set.union(*photos)) == 30 * len(fakes.SYNSETS)
    assert sum(len(data.listing(split).paths) for split in SPLITS) == 2 * 30 * len(fakes.SYNSETS)


@pytest.mark.parametrize("partition", ["shared", "official"])
def test_no_photo_changes_sides_as_others_and_heads_come_and_go(tmp_path, partition):
    def add(synset, photos, head: int) -> None:
        folder = tmp_path / "animals" / synset
        folder.mkdir(parents=True, exist_ok=True)
        for photo in photos:
            (folder / f"{synset}_{photo}.JPEG_{head}_0_20_20.jpg").touch()
        # FUNIT's lists are of whole classes.
        listed = [path.relative_to(folder.parent).as_posix() for path in folder.parent.glob("*/*.jpg")]
        (tmp_path / "animals_list_train.txt").write_text("\n".join(listed))
        (tmp_path / "animals_list_test.txt").write_text("")

    def sides() -> dict[str, str]:
        data = animal_faces(tmp_path, partition=partition, val_fraction=0.2, test_fraction=0.2)
        paths = {side: data.listing(side).paths for side in SPLITS}
        return {path.name.partition(".JPEG_")[0]: side for side in SPLITS for path in paths[side]}

    add("n02099601", range(100, 200), 1)
    before = sides()
    assert len(before) == 100
    assert set(before.values()) == set(SPLITS if partition == "shared" else SPLITS[:2])
    add("n02099601", range(150), 0)
    add("n02085620", range(100), 0)
    grown = sides()
    assert len(grown) == 300
    assert before.items() <= grown.items()
    for photo in range(0, 200, 3):
        for path in (tmp_path / "animals" / "n02099601").glob(f"n02099601_{photo}.JPEG_*"):
            path.unlink()
    shrunk = sides()
    assert len(shrunk) == 300 - 67
    assert shrunk.items() <= grown.items()
