import pytest
import torch
from tests.data import fakes

from iin_lightning.data.deep_fashion import DeepFashion
from iin_lightning.errors import DataNotFoundError

SPLITS = ("train", "val", "test")


def deep_fashion(root, **options) -> DeepFashion:
    return DeepFashion(root, **{"cache": "none", "num_workers": 0, "val_fraction": 0.2, **options})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fakes.write_deep_fashion(tmp_path_factory.mktemp("data"))


def test_two_share_an_appearance_where_gender_category_item_and_look_agree(root):
    listing = deep_fashion(root).listing("train")
    look = [(*path.parts[-4:-1], path.name.split("_")[0]) for path in listing.paths]
    label = listing.labels[:, 0].tolist()
    for i, one in enumerate(look):
        for j, other in enumerate(look):
            assert (label[i] == label[j]) == (one == other)
    assert len(set(look)) < len(look)


def test_no_item_is_on_two_sides(root):
    data = deep_fashion(root)
    items = [{path.parent.name for path in data.listing(split).paths} for split in SPLITS]
    train, val, test = map(len, items)
    assert test == 8
    assert 2 <= val <= 16 // 3
    assert train + val + test == len(set.union(*items)) == 24


def test_an_only_view_is_left_out_and_noted(root):
    data = deep_fashion(root)
    for split in SPLITS:
        assert data.listing(split).labels.unique(return_counts=True)[1].min() == 3
        assert not any(path.name == "04_1_front.jpg" for path in data.listing(split).paths)
    assert data.notes() == ["8 images are the only view of their appearance and are left out."]


@pytest.mark.parametrize(
    ("folder", "table"),
    [
        ("Img/img", "Eval/list_eval_partition.txt"),
        ("img", "list_eval_partition.txt"),
        ("Img/img_highres", "Eval/train_test_partition.txt"),
    ],
)
def test_every_layout_is_read(tmp_path, folder, table):
    fakes.write_deep_fashion(tmp_path / "deep_fashion", folder, table)
    listing = deep_fashion(tmp_path).listing("test")
    assert len(listing.paths) == 36
    assert all(path.is_file() for path in listing.paths)


def test_the_low_resolution_goes_first_and_the_high_one_may_be_asked_for(tmp_path):
    fakes.write_deep_fashion(tmp_path, "Img/img")
    fakes.write_deep_fashion(tmp_path, "Img/img_highres")
    paths = {kind: deep_fashion(tmp_path, resolution=kind).listing("test").paths[0] for kind in ("auto", "img_highres")}
    assert "Img/img/" in paths["auto"].as_posix()
    assert "Img/img_highres/" in paths["img_highres"].as_posix()


def test_what_is_not_square_is_padded_with_white(tmp_path):
    data = deep_fashion(fakes.write_deep_fashion(tmp_path, "Img/img_highres"))
    x = data.source("test").draw(torch.arange(3), None)  # 30 x 44
    assert (x[..., :8] == 1).all()
    assert (x[..., -8:] == 1).all()
    assert (x[..., 20:44] < 1).any()


def test_what_is_missing_is_said_with_where_it_is_asked_for(tmp_path):
    root = fakes.write_deep_fashion(tmp_path / "data")
    (root / "Img" / "img").rename(tmp_path / "gone")
    (root / "Img" / "img_highres.zip").write_bytes(b"")
    with pytest.raises(
        DataNotFoundError,
        match=r"images \(Img/img or Img/img_highres\).*Unpack .*img_highres.zip.*"
        r"projects/DeepFashion.html.*password.*has Eval/, Img/",
    ):
        deep_fashion(root).source("train")
    (root / "Eval").rename(tmp_path / "gone too")
    with pytest.raises(DataNotFoundError, match=r"partition \(Eval/list_eval_partition.txt\)"):
        deep_fashion(root).source("train")


@pytest.mark.parametrize(
    "row", ["img/WOMEN/Dresses/id_1/01_1_front.jpg train", "img/a.jpg id_1 valid", "a.jpg id_1 train"]
)
def test_another_benchmark_is_told_by_its_rows(tmp_path, row):
    root = fakes.write_deep_fashion(tmp_path)
    path = root / "Eval" / "list_eval_partition.txt"
    path.write_text(f"1\nimage_name evaluation_status\n{row}\n")
    with pytest.raises(DataNotFoundError, match=r"line 3, is .*train, query, gallery, as in the In-shop"):
        deep_fashion(root).source("train")
