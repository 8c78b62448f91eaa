"""Pixels that are decoded or changed once: whoever makes them and wherever they are kept, they are the same."""

import logging
import os
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from iin_lightning.data import files, pixels
from iin_lightning.data.change import ChangedSource, ChangeError
from iin_lightning.data.files import (
    BrokenImages,
    BrokenImagesError,
    ImageFiles,
    Listing,
    PackedPaths,
    content_key,
    decode,
)
from iin_lightning.data.framing import BrokenImageError, Framing
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.pixels import kept_images
from iin_lightning.errors import ConfigError, ResourceError
from iin_lightning.seeding import Noise, generator

N = 20
PIXELS = torch.randint(256, (N, 9, 8, 3), dtype=torch.uint8, generator=generator(0))
LABELS = torch.stack([torch.arange(N), torch.arange(N) % 3], dim=1)
CONCEPTS = ("number", "third")
FRAMING = Framing(4)
everywhere = pytest.mark.parametrize(("folder", "workers"), [(None, 0), (None, 2), ("cache", 0), ("cache", 2)])


@pytest.fixture
def paths(tmp_path) -> tuple[Path, ...]:
    (tmp_path / "images").mkdir()
    for i, image in enumerate(PIXELS):
        Image.fromarray(image.numpy()).save(tmp_path / "images" / f"{i:02d}.jpg")
    return tuple(sorted((tmp_path / "images").iterdir()))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK", 5)


def books(paths, max_broken: float = 0.5) -> BrokenImages:
    return BrokenImages("train", PackedPaths(paths), max_broken)


def decoded(paths, folder, broken=None, framing=FRAMING, memory=None, **options) -> ImageTensor:
    broken = broken or books(paths)
    return kept_images(
        partial(decode, broken.paths, framing),
        LABELS,
        CONCEPTS,
        (3, *framing.shape),
        content_key(broken.paths, framing, memory),
        folder,
        **{"what": "Pixels", "title": "Decoding", "report": broken.report} | options,
    )


class Noisy:
    """Adds random levels; counts its calls, and is stopped before one of them."""

    def __init__(self, stop=None, error=KeyboardInterrupt) -> None:
        self.calls, self.stop, self.error = 0, stop, error

    def __call__(self, image):
        if self.calls == self.stop:
            raise self.error
        self.calls += 1
        return image + torch.randint(256, image.shape, dtype=torch.uint8)

    def __repr__(self) -> str:
        return "Noisy()"


def versions(change, images=PIXELS) -> ChangedSource:
    return ChangedSource(ImageTensor(images, LABELS[: len(images)], CONCEPTS), change)


def changed(change, folder, images=PIXELS, **options) -> ImageTensor:
    source = versions(change, images)
    how = {"what": "Versions", "title": "Changing"} | options
    return kept_images(source.make, source.labels, CONCEPTS, source.image_shape, source.content(), folder, **how)


@everywhere
def test_what_is_kept_is_what_is_made_at_every_draw(paths, tmp_path, folder, workers):
    folder = folder and tmp_path / folder
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    pairs = [
        (decoded(paths, folder, workers=workers), ImageFiles(Listing(paths, LABELS), CONCEPTS, FRAMING, books(paths))),
        (changed(Noisy(), folder, workers=workers), versions(Noisy())),
    ]
    assert torch.equal(torch.rand(2), expected), "the global random numbers are left alone"
    items = torch.tensor([3, 19, 3, 0])
    for kept, made in pairs:
        assert kept.concepts == CONCEPTS
        assert torch.equal(kept.labels, LABELS)
        assert kept.content() == made.content()
        for key in (None, 1):
            a, b = (source.draw(items, key and Noise(key)) for source in (kept, made))
            assert torch.equal(a, b)


@everywhere
def test_broken_images_are_left_out_with_their_labels_reported_and_counted(paths, tmp_path, folder, workers, caplog):
    folder, whole = folder and tmp_path / folder, decoded(paths, None)
    paths[4].write_bytes(paths[4].read_bytes()[:-9])
    paths[17].unlink()
    kept = torch.tensor([i for i in range(N) if i not in (4, 17)])
    for _ in range(2):  # made, then found
        broken = books(paths)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            images = decoded(paths, folder, broken, workers=workers)
        assert torch.equal(images.images, whole.images[kept])
        assert torch.equal(images.labels, LABELS[kept])
        assert broken.count == 2
        assert [record.getMessage().split()[0] for record in caplog.records] == [str(paths[4]), str(paths[17])]


def test_an_image_that_could_not_be_read_for_a_while_comes_back(paths, tmp_path, monkeypatch):
    def out_of_reach(path, framing):
        if path == str(paths[4]):
            raise BrokenImageError("TimeoutError: the drive does not answer")
        return read_image(path, framing)

    folder, read_image = tmp_path / "cache", files.read_image
    with monkeypatch.context() as passing:
        passing.setattr(files, "read_image", out_of_reach)
        with pytest.raises(BrokenImagesError):  # after it, an unfinished entry goes on
            decoded(paths, folder, books(paths, 0.01))
        assert [len(decoded(paths, folder, mend=True)) for _ in range(2)] == [N - 1, N - 1]
    sent = pickle.dumps(decoded(paths, folder))
    assert len(pickle.loads(sent)) == N - 1, "one of several processes leaves what the others have found"
    broken = books(paths)
    mended = decoded(paths, folder, broken, mend=True)
    with pytest.raises(ResourceError, match="was made again by another job: start"):
        pickle.loads(sent)
    assert torch.equal(mended.labels, LABELS)
    assert torch.equal(mended.images, decoded(paths, None).images)
    assert broken.count == 0


@pytest.mark.parametrize("folder", [None, "cache"])
def test_too_many_broken_images_end_it(paths, tmp_path, folder):
    folder = folder and tmp_path / folder
    for path in paths[:3]:
        path.write_bytes(b"")
    with pytest.raises(BrokenImagesError, match="At least 3 of 20"):
        decoded(paths, folder, books(paths, 0.1))
    assert len(decoded(paths, folder, books(paths, 0.15))) == 17
    with pytest.raises(BrokenImagesError):  # the bound holds for what is found as well
        decoded(paths, folder, books(paths, 0.1))


def read_files(monkeypatch) -> list:
    """The files that are decoded from now on."""
    seen, read = [], files.read_image
    monkeypatch.setattr(files, "read_image", lambda path, framing: seen.append(path) or read(path, framing))
    return seen


def touch(paths):
    os.utime(paths[3], ns=(1, 1))
    return paths


def move(paths):
    folder = paths[0].parent.rename(paths[0].parent.with_name("elsewhere"))
    return tuple((folder / path.name).rename(folder / f"another {path.name}") for path in paths)


def change_a_byte(paths):
    status, content = paths[3].stat(), paths[3].read_bytes()
    paths[3].write_bytes(content[:-1] + b" ")
    os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    return paths


@pytest.mark.parametrize(
    ("change", "other"), [(touch, 0), (move, 0), (change_a_byte, 1), (lambda paths: paths[1:] + paths[:1], 1)]
)
def test_the_bytes_of_files_name_the_cache_and_not_their_place_or_time(paths, tmp_path, monkeypatch, change, other):
    memory, folder = tmp_path / "contents", tmp_path / "cache"
    first = decoded(paths, folder, memory=memory).content()
    with monkeypatch.context() as patch:
        patch.setattr(files, "_hash_of_file", None)  # not read again where nothing was touched
        assert decoded(paths, None, memory=memory).content() == first
    seen, paths = read_files(monkeypatch), change(paths)
    assert (decoded(paths, folder, memory=memory).content() != first) == other
    assert len(seen) == other * N


def test_another_framing_is_another_cache(paths, tmp_path):
    framings = (FRAMING, Framing(4, crop=6), Framing(4, antialias=False), Framing(4, pad=True), Framing(5))
    for framing in framings:
        kept = decoded(paths, tmp_path / "cache", framing=framing)
        assert torch.equal(kept.images, decoded(paths, None, framing=framing).images)
    assert len(list((tmp_path / "cache").glob("*/pixels"))) == len(framings)


def test_versions_are_made_once_and_another_change_or_image_makes_others(tmp_path):
    first, again, other = changed(Noisy(), tmp_path), Noisy(), PIXELS.clone()
    assert torch.equal(changed(again, tmp_path).images, first.images)
    assert again.calls == 0
    other[7, 0, 0, 0] ^= 1
    contents = {changed(Noisy(), tmp_path, images).content() for images in (PIXELS, other, PIXELS[:15])}
    assert len(contents) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_stopped_goes_on_where_it_was(tmp_path, error):
    with pytest.raises(ChangeError if error is ValueError else error):
        changed(Noisy(stop=13, error=error), tmp_path)
    rest = Noisy()
    assert torch.equal(changed(rest, tmp_path).images, changed(Noisy(), None).images)
    assert rest.calls == N - 10, "two chunks were whole"


class Crop(Noisy):
    def __call__(self, image):
        return image[:, 1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_process_refuses_is_said_in_one_sentence(tmp_path, workers):
    with pytest.raises(ChangeError) as error:
        changed(Crop(), tmp_path, workers=workers)
    assert str(error.value).startswith("The change Noisy() gives torch.uint8 (9, 7, 3)")


def test_a_full_disk_is_found_before_anything_is_made(tmp_path, monkeypatch):
    change = Noisy()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        changed(change, tmp_path)
    assert change.calls == 0


def test_a_pickle_holds_the_path_and_not_the_pixels(paths, tmp_path):
    kept = decoded(paths, tmp_path / "cache")
    content = pickle.dumps(kept)
    assert bytes(kept.images[0].flatten().tolist()) not in content
    again = pickle.loads(content)
    assert torch.equal(again.draw(torch.arange(N), None), kept.draw(torch.arange(N), None))
    assert torch.equal(again.labels, LABELS)
