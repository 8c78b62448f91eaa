from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from iin_lightning.data import pixels
from iin_lightning.data.file_module import FileModule
from iin_lightning.data.files import ImageFiles, Listing
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.pixels import KeptImages
from iin_lightning.errors import ConfigError, DataNotFoundError

PER_SPLIT = {"train": 24, "val": 6, "test": 8}


class Numbers(FileModule):
    """root/<split>/<i>.png, of which three in a row show the same person."""

    title, license, terms = "Numbers", "CC0", "Anything."
    concepts: tuple[str, ...] = ("parity", "person")
    kinds: Mapping[str, str] = {"parity": "class", "person": "identity"}
    classes: Mapping[str, Sequence[str]] = {"parity": ("even", "odd")}

    def __init__(self, root: Path, **options) -> None:
        super().__init__(size=8, batch_size=6, **options)
        self.root = root

    def listing(self, split):
        paths = tuple(sorted((self.root / split).glob("*.png")))
        items = torch.arange(len(paths))
        return Listing(paths, torch.stack([items % 2, items // 3], dim=1))


class People(Numbers):
    group = "person"


@pytest.fixture
def root(tmp_path) -> Path:
    for split, n in PER_SPLIT.items():
        (tmp_path / split).mkdir()
        for i in range(n):
            Image.new("RGB", (9, 12), (10 * i, i, 0)).save(tmp_path / split / f"{i:02d}.png")
    return tmp_path


def cached(cache: str, root: Path) -> dict:
    return {"cache": cache, "cache_dir": root / "cache"}


every_cache = pytest.mark.parametrize("cache", ["none", "ram", "disk"])


@every_cache
def test_every_cache_gives_the_same_batches(root, cache):
    data = Numbers(root, num_workers=0, **cached(cache, root))
    expected = Numbers(root, cache="none", num_workers=2)
    assert data.image_shape == (3, 8, 8)
    for split, n in PER_SPLIT.items():
        assert len(data.source(split)) == n
        assert data.source(split) is data.source(split)
        for a, b in zip(
            getattr(data, f"{split}_dataloader")(), getattr(expected, f"{split}_dataloader")(), strict=True
        ):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.labels, b.labels)
    assert data.broken == {"train": 0, "val": 0, "test": 0}


@pytest.mark.parametrize(("cache", "kind"), [("none", ImageFiles), ("ram", ImageTensor), ("disk", KeptImages)])
def test_images_are_kept_where_they_are_asked_for(root, cache, kind):
    assert type(Numbers(root, **cached(cache, root)).source("val")) is kind
    assert bool(list((root / "cache").rglob("pixels/*/pixels")) if (root / "cache").exists() else []) == (
        cache == "disk"
    )


def test_without_a_cache_every_core_decodes_up_to_eight(root, monkeypatch):
    for cores, workers in ((1, 1), (3, 3), (64, 8)):
        monkeypatch.setattr(pixels, "usable_cores", lambda cores=cores: cores)
        assert Numbers(root, cache="none").num_workers == workers
        assert Numbers(root, cache="ram").num_workers == 0
    assert Numbers(root, cache="ram", num_workers=5).num_workers == 5


@every_cache
@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_limit_is_taken_before_anything_is_decoded(root, cache, limit):
    # So many broken images would be an error in the whole split, and most of them are not looked at.
    data = Numbers(root, limit=limit, num_workers=0, **cached(cache, root))
    sizes = {split: len(data.source(split)) for split in PER_SPLIT}
    assert sizes == {split: min(limit, n) for split, n in PER_SPLIT.items()}
    if cache != "none":
        assert len(data.source("train").images) == sizes["train"]
    again = Numbers(root, limit=limit, cache="none")
    assert torch.equal(data.source("train").labels, again.source("train").labels)


@pytest.mark.parametrize("limit", [4, 12])
def test_a_limit_keeps_a_group_together(root, limit):
    people = People(root, limit=limit, cache="none").source("train").labels[:, 1]
    assert len(people) == limit // 3 * 3
    assert (people.unique(return_counts=True)[1] == 3).all()


def test_an_empty_split_says_which(root):
    for path in (root / "val").iterdir():
        path.unlink()
    with pytest.raises(DataNotFoundError, match="The val split of Numbers has no images"):
        Numbers(root, cache="none").source("val")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cache": "disk"}, r"cache_dir is not set: set data\.cache_dir"),
        ({"cache": "dsk"}, "did you mean disk"),
        ({"cache": "ram", "max_broken": 1.0}, r"max_broken=1.0 must lie in \[0, 1\)"),
        ({"cache": "ram", "crop": 0}, "crop=0"),
        ({"cache": "ram", "limit": 0}, "limit=0"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_any_file_is_read(options, text):
    with pytest.raises(ConfigError, match=text):
        Numbers(Path("nowhere"), **options)
