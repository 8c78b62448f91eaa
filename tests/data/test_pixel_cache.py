import json
import logging
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from iin_lightning.data import pixel_cache
from iin_lightning.data.files import BrokenImages, BrokenImagesError, ImageFiles, Listing, PackedPaths
from iin_lightning.data.framing import BrokenImageError, Framing, read_image
from iin_lightning.data.pixel_cache import MappedImages, into_memory, onto_disk
from iin_lightning.errors import ConfigError, DataNotFoundError
from iin_lightning.seeding import Noise, generator

N = 20
LABELS = torch.stack([torch.arange(N), torch.arange(N) % 3], dim=1)
CONCEPTS = ("number", "third")
FRAMING = Framing(4)
EVERYTHING = torch.arange(N)


@pytest.fixture
def paths(tmp_path) -> tuple[Path, ...]:
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = torch.randint(256, (N, 9, 8, 3), dtype=torch.uint8, generator=generator(0)).numpy()
    for i in range(N):
        Image.fromarray(pixels[i]).save(folder / f"{i:02d}.jpg")
    return tuple(sorted(folder.iterdir()))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pixel_cache, "CHUNK_BYTES", 7 * 3 * 4 * 4)


def books(paths, max_broken: float = 0.5) -> BrokenImages:
    return BrokenImages("train", PackedPaths(paths), max_broken)


def disk(paths, folder, broken=None, **options) -> MappedImages:
    return onto_disk(Listing(paths, LABELS), CONCEPTS, FRAMING, broken or books(paths), folder, **options)


def ram(paths, folder, broken=None, **options):
    return into_memory(Listing(paths, LABELS), CONCEPTS, FRAMING, broken or books(paths), **options)


both = pytest.mark.parametrize("build", [ram, disk])


@both
@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_draws_what_decoding_at_every_draw_does(paths, tmp_path, build, workers):
    cached = build(paths, tmp_path / "cache", workers=workers)
    files = ImageFiles(Listing(paths, LABELS), CONCEPTS, FRAMING, books(paths))
    assert cached.concepts == CONCEPTS
    assert torch.equal(cached.labels, LABELS)
    items = torch.tensor([3, 19, 3, 0])
    for key in (None, 1):
        a, b = (source.draw(items, key and Noise(key)) for source in (cached, files))
        assert torch.equal(a, b)


@both
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_left_out_with_their_labels_reported_and_counted(paths, tmp_path, build, workers, caplog):
    whole = ram(paths, None)
    paths[4].write_bytes(paths[4].read_bytes()[:-9])
    paths[17].unlink()
    for _ in range(2):  # built, then found
        broken = books(paths)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            cached = build(paths, tmp_path / "cache", broken, workers=workers)
        kept = torch.tensor([i for i in range(N) if i not in (4, 17)])
        assert torch.equal(cached.images, whole.images[kept])
        assert torch.equal(cached.labels, LABELS[kept])
        assert broken.count == 2
        assert [record.getMessage().split()[0] for record in caplog.records] == [str(paths[4]), str(paths[17])]


@both
def test_too_many_broken_images_end_it_and_leave_nothing_behind(paths, tmp_path, build):
    for path in paths[:3]:
        path.write_bytes(b"")
    with pytest.raises(BrokenImagesError, match="At least 3 of 20"):
        build(paths, tmp_path / "cache", books(paths, 0.1))
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".part", ".pixels", ".json")]
    assert len(build(paths, tmp_path / "cache", books(paths, 0.15))) == 17
    with pytest.raises(BrokenImagesError):  # now found, but the bound holds for what is found as well
        build(paths, tmp_path / "cache", books(paths, 0.1))


def decoded(monkeypatch) -> list:
    """The files that are decoded from now on."""
    seen, read = [], pixel_cache.read_image
    monkeypatch.setattr(pixel_cache, "read_image", lambda path, framing: seen.append(path) or read(path, framing))
    return seen


def test_a_file_is_decoded_once(paths, tmp_path, monkeypatch):
    first = disk(paths, tmp_path / "cache")
    seen = decoded(monkeypatch)
    again = disk(paths, tmp_path / "cache")
    assert not seen
    assert torch.equal(first.images, again.images)
    # Labels are not part of it: another choice of attributes finds the same pixels.
    other = onto_disk(Listing(paths, LABELS[:, :1]), ("number",), FRAMING, books(paths), tmp_path / "cache")
    assert not seen
    assert torch.equal(other.labels, LABELS[:, :1])


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
    how = {"memory": tmp_path / "contents"}
    first = disk(paths, tmp_path / "cache", **how).content()
    assert ram(paths, None).content() == ImageFiles(Listing(paths, LABELS), CONCEPTS, FRAMING, books(paths)).content()
    with monkeypatch.context() as patch:
        patch.setattr("iin_lightning.data.files._hash_of_file", None)  # not read again where nothing was touched
        assert ram(paths, None, **how).content() == first
    seen, paths = decoded(monkeypatch), change(paths)
    assert (disk(paths, tmp_path / "cache", **how).content() != first) == other
    assert len(seen) == other * N
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 1 + other


def test_another_framing_is_another_cache(paths, tmp_path):
    disk(paths, tmp_path / "cache")
    listing = Listing(paths, LABELS)
    for framing in (Framing(4, crop=6), Framing(4, antialias=False), Framing(4, pad=True), Framing(5)):
        source = onto_disk(listing, CONCEPTS, framing, books(paths), tmp_path / "cache")
        assert torch.equal(source.images, into_memory(listing, CONCEPTS, framing, books(paths)).images)
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 5


def truncate(pixels: Path, record: Path):
    os.truncate(pixels, pixels.stat().st_size - 1)


def overwrite(pixels: Path, record: Path):
    pixels.write_bytes(bytes(pixels.stat().st_size))


def stop_before_the_record(pixels: Path, record: Path):
    record.unlink()


def lose_the_pixels(pixels: Path, record: Path):
    pixels.unlink()


def halve_the_record(pixels: Path, record: Path):
    record.write_text(record.read_text(encoding="utf-8")[:50], encoding="utf-8")


def empty_the_record(pixels: Path, record: Path):
    record.write_text("[]", encoding="utf-8")


def stop_while_decoding(pixels: Path, record: Path):
    record.unlink()
    pixels.rename(pixels.with_suffix(".part"))
    os.truncate(pixels.with_suffix(".part"), 10)


DAMAGES = [
    truncate,
    overwrite,
    stop_before_the_record,
    lose_the_pixels,
    halve_the_record,
    empty_the_record,
    stop_while_decoding,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_noticed_and_made_again(paths, tmp_path, monkeypatch, damage):
    pixels = disk(paths, tmp_path / "cache").path
    damage(pixels, pixels.with_suffix(".json"))
    seen = decoded(monkeypatch)
    again = disk(paths, tmp_path / "cache")
    assert len(seen) == N
    assert torch.equal(again.images, ram(paths, None).images)
    assert not list((tmp_path / "cache").glob("*.part"))
    seen.clear()
    disk(paths, tmp_path / "cache")
    assert not seen


def test_a_job_that_is_stopped_while_decoding_leaves_nothing_half_written(paths, tmp_path, monkeypatch):
    def stop(path, framing):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache, "read_image", stop)
        with pytest.raises(KeyboardInterrupt):
            disk(paths, tmp_path / "cache")
    assert {file.suffix for file in (tmp_path / "cache").iterdir()} <= {".lock"}
    assert len(disk(paths, tmp_path / "cache")) == N


def test_parallel_jobs_wait_for_the_one_that_decodes(paths, tmp_path, monkeypatch):
    seen, results = decoded(monkeypatch), []
    jobs = [threading.Thread(target=lambda: results.append(disk(paths, tmp_path / "cache"))) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(seen) == N
    assert len(results) == 3


def test_the_record_says_what_a_person_wants_to_know(paths, tmp_path):
    paths[2].write_bytes(b"")
    pixels = disk(paths, tmp_path / "cache").path
    record = json.loads(pixels.with_suffix(".json").read_text())
    assert record["shape"] == [N - 1, 3, 4, 4]
    assert record["framing"] == {"size": 4, "crop": None, "antialias": True, "pad": False, "window": None}
    assert record["first file"] == str(paths[0])
    assert list(record["broken"]) == ["2"]
    assert pixels.stat().st_size == (N - 1) * 3 * 4 * 4


def test_a_pickle_holds_the_path_and_not_the_pixels(paths, tmp_path, monkeypatch):
    mapped = disk(paths, tmp_path / "cache")
    pixels = bytes(mapped.images[0].flatten().tolist())
    content = pickle.dumps(mapped)
    assert pixels not in content
    again = pickle.loads(content)
    assert torch.equal(again.draw(EVERYTHING, None), mapped.draw(EVERYTHING, None))
    assert torch.equal(again.labels, LABELS)


def test_a_cache_leaves_the_global_random_numbers_alone(paths, tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    disk(paths, tmp_path / "cache", workers=2)
    assert torch.equal(torch.rand(2), expected)


def test_a_full_disk_is_found_before_anything_is_decoded(paths, tmp_path, monkeypatch):
    seen = decoded(monkeypatch)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        disk(paths, tmp_path / "cache")
    assert not seen


def test_an_image_that_could_not_be_read_for_a_while_comes_back(paths, tmp_path, monkeypatch, caplog):
    def out_of_reach(path, framing):
        if path == str(paths[4]):
            raise BrokenImageError("TimeoutError: the drive does not answer")
        return read_image(path, framing)

    with monkeypatch.context() as passing:
        passing.setattr(pixel_cache, "read_image", out_of_reach)
        assert len(disk(paths, tmp_path / "cache")) == N - 1
        assert len(disk(paths, tmp_path / "cache")) == N - 1  # as long as it stays so, the file is kept
    sent = pickle.dumps(disk(paths, tmp_path / "cache", mend=False))
    assert len(pickle.loads(sent)) == N - 1  # one of several processes leaves it as the others may have found it
    broken = books(paths)
    with caplog.at_level(logging.WARNING):
        cached = disk(paths, tmp_path / "cache", broken)
    with pytest.raises(DataNotFoundError, match="was made again by another job"):
        pickle.loads(sent)
    assert torch.equal(cached.labels, LABELS)
    assert torch.equal(cached.images, ram(paths, tmp_path).images)
    assert broken.count == 0
    assert f"{paths[4]} was broken and can be read now" in caplog.text
