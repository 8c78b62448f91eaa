import pytest
import torch
from tests.data import fakes

from iin_lightning.data.celeba import ATTRIBUTES, CelebA
from iin_lightning.data.downloads import read_table
from iin_lightning.errors import ConfigError, DataNotFoundError
from iin_lightning.seeding import generator

SPLITS = ("train", "val", "test")


def celeba(root, **options) -> CelebA:
    return CelebA(root, **{"cache": "none", "num_workers": 0, **options})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fakes.write_celeba(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("newline", ["\r\n"])
@pytest.mark.parametrize("layout", ["torchvision", "flat", "official", "kaggle"])
def test_every_layout_is_read(tmp_path, root, layout, newline):
    data = celeba(fakes.write_celeba(tmp_path, layout, newline=newline), attributes=("Male", "Young", "identity"))
    expected = celeba(root, attributes=("Male", "Young", "identity"))
    for split, n in zip(SPLITS, (20, 10, 10)):
        listing, other = data.listing(split), expected.listing(split)
        assert len(listing.paths) == n
        assert [path.name for path in listing.paths] == [path.name for path in other.paths]
        assert all(path.is_absolute() and path.is_file() for path in listing.paths)
        assert torch.equal(listing.labels, other.labels)


def test_labels_are_the_attributes_in_the_order_that_was_asked_for(root):
    values = torch.randint(2, (40, 40), generator=generator("celeba"))
    data = celeba(root, attributes=["Smiling", "5_o_Clock_Shadow"])
    columns = [ATTRIBUTES.index("Smiling"), ATTRIBUTES.index("5_o_Clock_Shadow")]
    assert torch.equal(data.source("train").labels, values[:20, columns])
    assert data.classes["5_o_Clock_Shadow"] == ("not 5 o Clock Shadow", "5 o Clock Shadow")
    frequencies = data.frequencies()
    assert list(frequencies) == list(ATTRIBUTES)
    torch.testing.assert_close(torch.tensor(list(frequencies.values())), values[:20].float().mean(0))


def test_identity_is_a_concept_that_has_no_names(root):
    data = celeba(root, attributes=["identity"])
    assert data.kinds == {"identity": "identity"}
    assert data.classes == {}
    assert data.source("val").labels[:, 0].tolist() == [i // 2 + 7 for i in range(20, 30)]


def test_presets_differ_in_antialiasing_and_options_go_before_them(root):
    default, authors = celeba(root), celeba(root, preset="authors")
    assert (default.framing.crop, default.framing.size, default.framing.antialias) == (160, 64, True)
    assert (authors.framing.crop, authors.framing.size, authors.framing.antialias) == (160, 64, False)
    assert celeba(root, preset="authors", size=32, crop=100).framing.crop == 100
    assert celeba(root, size=32).image_shape == (3, 32, 32)


def test_listed_images_that_are_absent_are_left_out_and_counted_once(tmp_path, caplog):
    root = fakes.write_celeba(tmp_path, "flat")
    for i in (3, 4, 39):
        (root / "img_align_celeba" / f"{i:06d}.jpg").unlink()
    data = celeba(root)
    assert [len(data.listing(split).paths) for split in SPLITS] == [18, 10, 9]
    assert [record.getMessage() for record in caplog.records] == [
        f"3 of CelebA's 40 images are not in {root / 'img_align_celeba'}."
    ]


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        (
            "img_align_celeba",
            r"images \(img_align_celeba/000001.jpg.*Img/img_align_celeba.zip.*has identity_CelebA.txt",
        ),
        ("list_attr_celeba.txt", r"attributes \(list_attr_celeba.txt or .csv\).*CelebA.html"),
        ("list_eval_partition.txt", r"official splits \(list_eval_partition.txt or .csv\)"),
    ],
)
def test_what_is_missing_is_said_with_where_it_is_asked_for(tmp_path, gone, expected):
    root = fakes.write_celeba(tmp_path / "data", "flat")
    (root / gone).rename(tmp_path / "gone")
    with pytest.raises(DataNotFoundError, match=expected):
        celeba(root).source("train")


def test_an_archive_is_to_be_unpacked(tmp_path):
    root = fakes.write_celeba(tmp_path / "data", "official")
    (root / "Img" / "img_align_celeba").rename(tmp_path / "gone")
    (root / "Img" / "img_align_celeba.zip").write_bytes(b"")
    with pytest.raises(DataNotFoundError, match=r"Unpack .*Img/img_align_celeba.zip where it lies"):
        celeba(root).source("train")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"attributes": ["Smilling"]}, r"no attribute 'Smilling'; allowed are: .*identity \(did you mean Smiling\?\)"),
        ({"attributes": ["Male", "Male"]}, "name one twice"),
        ({"preset": "author"}, "no preset 'author' of CelebA; allowed are: default, authors"),
    ],
)
def test_what_celeba_has_not_is_refused_with_the_choices(options, expected):
    with pytest.raises(ConfigError, match=expected):
        celeba("nowhere", **options)


@pytest.mark.parametrize("damage", ["000005.jpg 1 1\n", "000005.jpg 1 x\n", "000005.jpg\n"])
def test_a_damaged_table_is_named_with_the_row(tmp_path, damage):
    path = tmp_path / "list.txt"
    path.write_text("2\n000001.jpg 1 1 1\n" + damage)
    with pytest.raises(DataNotFoundError, match=r"list.txt is damaged: .*3 whole numbers, but one is '000005.jpg"):
        read_table(path)


def test_a_partition_that_is_none_is_refused(tmp_path):
    root = fakes.write_celeba(tmp_path, "flat")
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000002.jpg 0", "000002.jpg 3"))
    with pytest.raises(DataNotFoundError, match=r"from 0 to 3; allowed are 0 \(train\)"):
        celeba(root).source("train")


def test_tables_may_be_in_another_order(tmp_path, root):
    other = fakes.write_celeba(tmp_path, "flat")
    path = other / "list_eval_partition.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    for split in SPLITS:
        assert torch.equal(celeba(other).listing(split).labels, celeba(root).listing(split).labels)


def test_a_limit_keeps_people_together(tmp_path):
    root = fakes.write_celeba(tmp_path)
    data = CelebA(root, attributes=("Male", "identity"), cache="none", num_workers=0, limit=8)
    people = data.source("train").labels[:, 1]
    assert len(people) == 8
    assert set(people.unique(return_counts=True)[1].tolist()) == {2}
