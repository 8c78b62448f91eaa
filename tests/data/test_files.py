import logging
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from iin_lightning.data.files import BrokenImages, BrokenImagesError, ImageFiles, Listing, PackedPaths
from iin_lightning.data.framing import Framing
from iin_lightning.data.stream import ConceptPairs, Singles
from iin_lightning.factors import Factors
from iin_lightning.seeding import Noise

N = 12
LABELS = torch.stack([torch.arange(N) % 2, torch.arange(N) % 3], dim=1)


def write_images(folder: Path, n: int = N) -> tuple[Path, ...]:
    """Image i has the grey level 10·i all over."""
    paths = tuple(folder / f"{i:02d}.png" for i in range(n))
    for i, path in enumerate(paths):
        Image.fromarray(np.full((9, 8), 10 * i, dtype=np.uint8)).save(path)
    return paths


def source(paths: tuple[Path, ...], max_broken: float = 0.5, labels: torch.Tensor = LABELS) -> ImageFiles:
    broken = BrokenImages("train", PackedPaths(paths), max_broken)
    return ImageFiles(Listing(paths, labels), ("parity", "third"), Framing(4), broken)


def which(x: torch.Tensor) -> list[int]:
    """The images that were drawn."""
    return ((x[:, 0, 0, 0] + 1) * 127.5 / 10).round().int().tolist()


def test_items_are_drawn_in_the_order_that_is_asked_for(tmp_path):
    files = source(write_images(tmp_path))
    items = torch.tensor([3, 0, 11, 3])
    x = files.draw(items, None)
    assert x.shape == (4, 3, 4, 4)
    assert x.dtype == torch.float32
    assert which(x) == items.tolist()
    noisy = files.draw(items, Noise(0))
    assert 0 < (noisy - x).abs().max() <= 0.5 / 127.5 + 1e-6
    assert torch.equal(noisy, files.draw(items, Noise(0)))


def test_the_next_readable_image_stands_in_for_a_broken_one_and_brings_its_labels(tmp_path):
    paths = write_images(tmp_path)
    for broken in (2, 3):
        paths[broken].write_bytes(b"")
    files = source(paths)
    items = torch.tensor([2, 3, 5])
    assert which(files.draw(items, None)) == [4, 4, 5]
    assert torch.equal(files.drawn_labels(items), LABELS[[4, 4, 5]])
    assert torch.equal(files.labels, LABELS)
    assert files.broken.count == 2


def test_a_pair_shares_what_the_images_in_it_share_not_what_the_broken_one_would_have(tmp_path):
    paths = write_images(tmp_path)
    paths[0].write_bytes(b"")
    pairs = ConceptPairs(source(paths), Factors({"residual": 1, "parity": 1, "third": 1}, 3))
    batch = pairs.batch(torch.tensor([0, 2]), torch.tensor([6, 4]), None)  # 1 stands in for 0
    assert which(batch.a) == [1, 2]
    assert batch.shared.tolist() == [[False, False, False], [False, True, False]]


def test_the_content_changes_with_a_file(tmp_path):
    paths = write_images(tmp_path)
    before = source(paths).content()
    assert source(paths).content() == before
    Image.fromarray(np.full((9, 8), 77, dtype=np.uint8)).save(paths[5])
    assert source(paths).content() != before


def test_a_stand_in_does_not_depend_on_what_was_drawn_before(tmp_path):
    paths = write_images(tmp_path)
    for broken in (2, 8, 3):
        paths[broken].write_bytes(b"")
    items = torch.arange(N)
    alone = torch.cat([source(paths).draw(items[i : i + 1], None) for i in range(N)])
    assert torch.equal(source(paths).draw(items, None), alone)


def test_a_broken_image_is_reported_once_by_name(tmp_path, caplog):
    paths = write_images(tmp_path)
    paths[5].write_bytes(b"")
    files = source(paths)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            files.draw(torch.tensor([5, 5]), None)
    (record,) = caplog.records
    assert str(paths[5]) in record.getMessage()
    assert "UnidentifiedImageError" in record.getMessage()
    assert files.broken.count == 1


def test_a_broken_image_is_counted_once_over_all_workers(tmp_path):
    paths = write_images(tmp_path)
    for broken in (5, 6):
        paths[broken].write_bytes(b"")
    files = source(paths)
    batches = Singles(files, batch_size=8, seed=0)
    # Steps 0...5 draw each image four times, in both workers.
    alone = list(DataLoader(batches, batch_size=None, sampler=range(6)))
    assert files.broken.count == 2
    shared = source(paths)
    loader = DataLoader(Singles(shared, 8, 0), batch_size=None, sampler=range(6), num_workers=2)
    for a, b in zip(alone, loader):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.labels, b.labels)
    assert shared.broken.count == 2


def test_too_many_broken_images_name_the_count_the_files_and_the_cure(tmp_path):
    paths = write_images(tmp_path)
    for broken in range(5):
        paths[broken].write_bytes(b"")
    files = source(paths, max_broken=0.3)
    with pytest.raises(BrokenImagesError) as error:
        files.draw(torch.arange(N), None)
    for text in ("At least 4 of 12 train images", *map(str, paths[:3]), "data.max_broken=0.3", "delete them"):
        assert text in str(error.value)


def test_an_error_of_a_worker_is_as_short_as_one_of_this_process():
    text = "At least 1 of 12 train images cannot be read."
    # What a loader makes of it: it raises the worker's kind of error with the worker's traceback for a text.
    try:
        raise BrokenImagesError(text)
    except BrokenImagesError as error:
        story = "".join(traceback.format_exception(error))
    assert story.startswith("Traceback")
    assert str(BrokenImagesError(f"Caught BrokenImagesError in DataLoader worker process 0.\nOriginal {story}")) == text


@pytest.mark.parametrize("max_broken", [0.0, 0.999])
def test_an_end_is_found_where_no_image_can_be_read(tmp_path, max_broken):
    paths = tuple(tmp_path / f"{i}.jpg" for i in range(N))
    with pytest.raises(BrokenImagesError, match="No such file"):
        source(paths, max_broken).draw(torch.arange(3), None)


def test_packed_paths_come_back(tmp_path):
    paths = (tmp_path / "a b.jpg", Path("/x/ü/ß.png"), Path("/" + "long" * 50), Path("/latin\udce9.jpg"))
    packed = PackedPaths(paths)
    assert [packed[i] for i in range(len(packed))] == [str(path) for path in paths]
