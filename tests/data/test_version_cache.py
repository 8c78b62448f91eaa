"""Versions that are kept: made once, gone on with where they were stopped, never trusted without a look."""

import json
import logging
import os
import threading

import pytest
import torch

from iin_lightning import seeding
from iin_lightning.data import version_cache
from iin_lightning.data.change import ChangeError
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.version_cache import ChangedSource, into_memory, onto_disk
from iin_lightning.errors import ConfigError
from iin_lightning.seeding import generator

N = 23
CHUNK = 5
PIXELS = torch.randint(256, (N, 3, 4, 4), dtype=torch.uint8, generator=generator(0))
LABELS = torch.arange(N)[:, None]


class Noise:
    """Adds random levels; counts its calls, and is stopped before one of them."""

    def __init__(self, stop=None, error=KeyboardInterrupt) -> None:
        self.calls, self.stop, self.error = 0, stop, error

    def __call__(self, pixels):
        if self.calls == self.stop:
            raise self.error
        self.calls += 1
        return pixels + torch.randint(256, pixels.shape, dtype=torch.uint8)

    def __repr__(self) -> str:
        return "Noise()"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(version_cache, "CHUNK", CHUNK)


def versions(change, pixels=PIXELS) -> ChangedSource:
    return ChangedSource(ImageTensor(pixels, LABELS[: len(pixels)], ("number",)), change)


def disk(change, folder, pixels=PIXELS, **options):
    return onto_disk(versions(change, pixels), folder, "Changing", **options)


@pytest.fixture
def expected():
    return into_memory(versions(Noise()), "Changing").images


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_holds_what_is_made_at_every_draw_whoever_makes_it(tmp_path, workers, expected):
    made = disk(Noise(), tmp_path, workers=workers)
    assert torch.equal(made.images, expected)
    assert torch.equal(into_memory(versions(Noise()), "Changing", workers=workers).images, expected)
    items = torch.tensor([3, 22, 3, 0])
    for key in (None, 1):
        a, b = (source.draw(items, key and seeding.Noise(key)) for source in (made, versions(Noise())))
        assert torch.equal(a, b)
    assert torch.equal(made.drawn_labels(items), LABELS[items])


def test_versions_are_made_once_and_another_change_or_image_makes_others(tmp_path):
    first = disk(Noise(), tmp_path)
    again = Noise()
    assert torch.equal(disk(again, tmp_path).images, first.images)
    assert again.calls == 0
    other = PIXELS.clone()
    other[7, 0, 0, 0] ^= 1
    assert disk(Noise(), tmp_path, other).path != first.path
    assert disk(Noise(), tmp_path, PIXELS[:20]).path != first.path
    assert {file.suffix for file in tmp_path.iterdir()} == {".pixels", ".json", ".lock"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_stopped_goes_on_where_it_was(tmp_path, expected, error):
    whole = disk(Noise(), tmp_path / "whole").path
    with pytest.raises(ChangeError if error is ValueError else error):
        disk(Noise(stop=13, error=error), tmp_path / "part")
    rest = Noise()
    resumed = disk(rest, tmp_path / "part").path
    assert rest.calls == N - 10, "two chunks were whole"
    assert resumed.read_bytes() == whole.read_bytes() == expected.numpy().tobytes()
    assert not list((tmp_path / "part").glob("*.part"))
    assert not list((tmp_path / "part").glob("*.journal"))


def stopped(folder):
    """The half-written file and the journal of a job that was stopped after two chunks."""
    with pytest.raises(KeyboardInterrupt):
        disk(Noise(stop=13), folder)
    return next(folder.glob("*.part")), next(folder.glob("*.journal"))


def test_what_the_journal_does_not_know_is_made_again(tmp_path, expected):
    part, _ = stopped(tmp_path)
    with part.open("ab") as file:
        file.write(b"half of a chunk")  # as after a loss of power
    rest = Noise()
    assert torch.equal(disk(rest, tmp_path).images, expected)
    assert rest.calls == N - 10


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def shorten(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    path.write_text("[]")


@pytest.mark.parametrize(("damage", "which"), [(flip_a_byte, 0), (shorten, 0), (empty, 1), (shorten, 1)])
def test_a_damaged_half_is_noticed_and_made_from_the_first_image_on(tmp_path, expected, caplog, damage, which):
    damage(stopped(tmp_path)[which])
    rest = Noise()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(disk(rest, tmp_path).images, expected)
    assert rest.calls == N
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(("damage", "suffix"), [(flip_a_byte, ".pixels"), (shorten, ".pixels"), (empty, ".json")])
def test_a_damaged_file_is_noticed_and_made_again(tmp_path, expected, caplog, damage, suffix):
    damage(disk(Noise(), tmp_path).path.with_suffix(suffix))
    again = Noise()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(disk(again, tmp_path).images, expected)
    assert again.calls == N
    assert "is damaged" in caplog.text
    assert disk(Noise(stop=0), tmp_path) is not None


@pytest.mark.parametrize("suffix", [".pixels", ".json"])
def test_a_file_that_is_gone_is_made_again(tmp_path, expected, suffix):
    disk(Noise(), tmp_path).path.with_suffix(suffix).unlink()
    assert torch.equal(disk(Noise(), tmp_path).images, expected)


def test_parallel_jobs_wait_for_the_one_that_makes_them(tmp_path, expected):
    changes, made = [Noise() for _ in range(3)], []
    jobs = [threading.Thread(target=lambda change=change: made.append(disk(change, tmp_path))) for change in changes]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(change.calls for change in changes) == [0, 0, N]
    assert len(made) == 3


class Crop(Noise):
    def __call__(self, pixels):
        return pixels[:, 1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_process_refuses_is_said_in_one_sentence(tmp_path, workers):
    with pytest.raises(ChangeError) as error:
        disk(Crop(), tmp_path, workers=workers)
    assert str(error.value).startswith("The change Noise() gives torch.uint8 (3, 3, 4)")


def test_a_full_disk_is_found_before_anything_is_made(tmp_path, monkeypatch):
    change = Noise()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        disk(change, tmp_path)
    assert change.calls == 0


def test_the_record_says_what_a_person_wants_to_know(tmp_path):
    record = json.loads(disk(Noise(), tmp_path).path.with_suffix(".json").read_text())
    assert record["shape"] == [N, 3, 4, 4]
    assert "Noise()" in record["change"]
