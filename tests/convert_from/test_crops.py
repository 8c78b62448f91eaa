"""Cutting AnimalFaces out of a fake ImageNet, whose images are one colour in each quarter."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from PIL import Image

from iin_lightning.convert_from import animal_faces as crops
from iin_lightning.convert_from.animal_faces import Crop, cut, cut_all, find_coordinates, find_images, read_coordinates
from iin_lightning.data.animal_faces import AnimalFaces
from iin_lightning.errors import DataNotFoundError

SYNSETS = ("n02085620", "n02099601")
QUARTERS = {(0, 0): (200, 30, 30), (40, 0): (30, 200, 30), (0, 30): (30, 30, 200), (40, 30): (200, 200, 30)}


def write_photo(path: Path, mode: str = "RGB") -> None:
    """80x60 pixels."""
    image = Image.new("RGB", (80, 60))
    for (x, y), color in QUARTERS.items():
        image.paste(color, (x, y, x + 40, y + 30))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path, "JPEG")


@pytest.fixture
def imagenet(tmp_path):
    """Twelve photos of each class, the table beside them, one crop of each."""
    source = tmp_path / "imagenet"
    rows = []
    for synset in SYNSETS:
        for i in range(12):
            write_photo(source / "train" / synset / f"{synset}_{i}.JPEG")
            rows.append(f"{synset}/{synset}_{i}.JPEG {i} 2 {i + 40} 30")
    (source / "animalface_coordinates.txt").write_bytes(("\r\n".join(rows) + "\r\n").encode())
    return source


def test_a_crop_is_the_box_of_its_row(tmp_path):
    write_photo(tmp_path / "n02085620" / "n02085620_7.JPEG")
    crop = Crop("n02085620", "n02085620_7.JPEG", (44, 32, 78, 58))
    assert cut(crop, tmp_path, tmp_path / "out").status == "cut"
    with Image.open(tmp_path / "out" / "n02085620" / "n02085620_7.JPEG_44_32_78_58.jpg") as face:
        assert face.size == (34, 26)
        middle = face.getpixel((17, 13))
    assert max(abs(is_ - should) for is_, should in zip(middle, QUARTERS[40, 30])) < 12


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_photos_become_rgb(tmp_path, mode):
    write_photo(tmp_path / "n1" / "n1_1.JPEG", mode)
    assert cut(Crop("n1", "n1_1.JPEG", (0, 0, 20, 20)), tmp_path, tmp_path / "out").status == "cut"
    with Image.open(tmp_path / "out" / "n1" / "n1_1.JPEG_0_0_20_20.jpg") as face:
        assert face.mode == "RGB"


def test_a_box_is_clipped_to_the_image_and_keeps_its_name(tmp_path):
    write_photo(tmp_path / "n1" / "n1_1.JPEG")
    assert cut(Crop("n1", "n1_1.JPEG", (-5, 20, 200, 100)), tmp_path, tmp_path / "out").status == "cut"
    with Image.open(tmp_path / "out" / "n1" / "n1_1.JPEG_-5_20_200_100.jpg") as face:
        assert face.size == (80, 40)
    outside = cut(Crop("n1", "n1_1.JPEG", (100, 0, 200, 50)), tmp_path, tmp_path / "out")
    assert outside.status == "broken"
    assert "outside of the 80x60 image" in outside.reason


def test_missing_and_broken_photos_are_told_apart(tmp_path):
    photo = tmp_path / "n1" / "n1_1.JPEG"
    write_photo(photo)
    photo.write_bytes(photo.read_bytes()[:400])
    assert cut(Crop("n1", "n1_1.JPEG", (0, 0, 50, 50)), tmp_path, tmp_path / "out").status == "broken"
    assert cut(Crop("n1", "n1_2.JPEG", (0, 0, 50, 50)), tmp_path, tmp_path / "out").status == "missing"
    assert not (tmp_path / "out").exists()


def test_a_crop_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    write_photo(tmp_path / "n1" / "n1_1.JPEG")

    def full(image, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        cut(Crop("n1", "n1_1.JPEG", (0, 0, 50, 50)), tmp_path, tmp_path / "out")
    assert list((tmp_path / "out" / "n1").iterdir()) == []


def test_a_stopped_call_is_continued(imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "CHUNK", 2)
    table = read_coordinates(imagenet / "animalface_coordinates.txt")
    images, out = imagenet / "train", tmp_path / "out"
    with cut_all(table, images, out, workers=1) as stopped:
        assert [next(stopped).status for _ in range(3)] == ["cut"] * 3
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    assert len(before) >= 3
    with cut_all(table, images, out, workers=2) as cutting:
        outcomes = list(cutting)
    assert [outcome.crop for outcome in outcomes] == table
    assert sum(outcome.status == "there" for outcome in outcomes) == len(before)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert len(after) == 24, "one file a crop and nothing else"
    assert before.items() <= after.items(), "what was there was not written again"


def test_workers_are_as_many_as_may_be_used_and_there_before_the_first_crop(imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "usable_cores", lambda: 1)
    table = read_coordinates(imagenet / "animalface_coordinates.txt")
    before = set(multiprocessing.active_children())
    with cut_all(table, imagenet / "train", tmp_path / "out"):
        assert len(set(multiprocessing.active_children()) - before) == 1
    assert set(multiprocessing.active_children()) <= before


def test_the_loader_reads_what_was_cut(imagenet, tmp_path):
    table = read_coordinates(find_coordinates([imagenet]))
    with cut_all(table, find_images(imagenet, table), tmp_path / "out", workers=1) as outcomes:
        assert all(outcome.status == "cut" for outcome in outcomes)
    data = AnimalFaces(tmp_path / "out", cache="none", num_workers=0)
    assert data.classes["animal"] == ("Chihuahua", "golden retriever")
    assert sum(len(data.source(split)) for split in ("train", "val", "test")) == 24
    red = data.source("train").draw(torch.tensor([0]), None)[0, :, :4, 1]
    assert (red[0] > red[1] + 1).all()


@pytest.mark.parametrize("folder", ["", "train", "Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train"])
def test_imagenet_is_found_as_it_is_unpacked(tmp_path, folder):
    (tmp_path / folder / "n02085620").mkdir(parents=True)
    assert find_images(tmp_path, [Crop("n02085620", "a.JPEG", (0, 0, 1, 1))]) == tmp_path / folder


def test_what_was_found_instead_is_said(tmp_path):
    (tmp_path / "n01440764").mkdir()
    with pytest.raises(DataNotFoundError, match=r"n02085620.*image-net.org.*n01440764"):
        find_images(tmp_path, [Crop("n02085620", "a.JPEG", (0, 0, 1, 1))])
    with pytest.raises(DataNotFoundError, match=r"animalface_coordinates.txt lies neither.*coordinates=<file>"):
        find_coordinates([tmp_path])


def test_rows_are_read_once_and_in_order(tmp_path):
    table = tmp_path / "table.txt"
    table.write_bytes(b"\xef\xbb\xbfn2/b.JPEG 1 2 3 4\r\n\r\nn1/a.JPEG  0 0\t9 9\r\nn2/b.JPEG 1 2 3 4\r\n")
    assert read_coordinates(table) == [Crop("n2", "b.JPEG", (1, 2, 3, 4)), Crop("n1", "a.JPEG", (0, 0, 9, 9))]


@pytest.mark.parametrize(
    "row",
    [
        "n1/a.JPEG 1 2 3",
        "n1/a.JPEG 1 2 3 4 5",
        "n1/a.JPEG 1 2 3 4.5",
        "n1/a.JPEG 3 2 3 4",
        "n1/a.JPEG 1 4 3 2",
        "a.JPEG 1 2 3 4",
        "../a.JPEG 1 2 3 4",
        "n1/../../a.JPEG 1 2 3 4",
        "n1/.. 1 2 3 4",
        "/etc/passwd 1 2 3 4",
        "n1\\a.JPEG 1 2 3 4",
        "n1/.hidden 1 2 3 4",
    ],
)
def test_a_damaged_or_malicious_row_is_refused_by_its_number(tmp_path, row):
    table = tmp_path / "table.txt"
    table.write_text(f"n1/a.JPEG 1 2 3 4\n\n{row}\n")
    with pytest.raises(DataNotFoundError, match=r"Line 3 of .*table.txt is .*expected is synset/file.JPEG x1 y1 x2 y2"):
        read_coordinates(table)


def test_a_table_without_rows_is_refused(tmp_path):
    (tmp_path / "table.txt").write_text("\n")
    with pytest.raises(DataNotFoundError, match="has no rows"):
        read_coordinates(tmp_path / "table.txt")
    with pytest.raises(DataNotFoundError, match="cannot be read"):
        read_coordinates(tmp_path / "none.txt")
