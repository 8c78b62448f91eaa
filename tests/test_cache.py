"""What is kept: made once, gone on with where it was stopped, never trusted without a look at every byte."""

import multiprocessing
import os
import pickle
import signal
import time
import weakref
from types import SimpleNamespace

import pytest
import torch

from iin_lightning.cache import Cache, Part
from iin_lightning.disk import locked
from iin_lightning.errors import ConfigError, ResourceError
from iin_lightning.seeding import generator

FORK = multiprocessing.get_context("fork")
TENSORS = ("mean", "labels")
N_BYTES = 10 * (4 * 4 + 2 * 8)


class Made:
    """Ten items that are made as they are asked for, three at a time; item 4 gives no row, but a note."""

    def __init__(self, seed: int = 0, stop_after: int = 4) -> None:
        self.seed, self.stop_after = seed, stop_after
        self.items: list[int] = []
        self.most_alive = 0

    def part(self, first: int) -> Part:
        n, key = min(3, 10 - first), generator(self.seed, first)
        rows = torch.tensor([item != 4 for item in range(first, first + n)])
        tensors = {"mean": torch.randn(n, 4, generator=key)[rows], "labels": torch.arange(2 * n).reshape(n, 2)[rows]}
        return Part(tensors, first + n, {"4": "is broken"} if first == 3 else {})

    def __call__(self, done: int):
        made = []
        for number, first in enumerate(range(done, 10, 3)):
            if number == self.stop_after:
                raise KeyboardInterrupt
            self.items.append(first)
            part = self.part(first)
            made.append(weakref.ref(part.tensors["mean"]))
            yield part
            del part
            self.most_alive = max(self.most_alive, sum(ref() is not None for ref in made))

    @property
    def whole(self) -> dict[str, torch.Tensor]:
        parts = [self.part(first).tensors for first in range(0, 10, 3)]
        return {name: torch.cat([part[name] for part in parts]) for name in TENSORS}


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "new" / "cache", "Numbers", "count on your fingers")


def get(cache, make, key="seed"):
    return cache.get(f"{key} {make.seed}", make, N_BYTES)


def assert_whole(entry, make) -> None:
    assert entry.notes == {"4": "is broken"}
    for name in TENSORS:
        assert torch.equal(entry.tensors[name], make.whole[name])


def test_an_entry_is_made_once_and_nothing_else_is_left(cache, caplog):
    first, again = Made(1), Made(1)
    assert_whole(get(cache, first), first)
    assert first.most_alive <= 1, "no more than a part is held"
    assert_whole(get(cache, again), first)
    assert not again.items
    assert_whole(get(cache, Made(2)), Made(2))
    assert cache.find("seed 3") is None
    assert not caplog.records
    folders = {cache.path(f"seed {seed}").name for seed in (1, 2)}
    assert {file.name for file in cache.folder.iterdir()} == folders | {f"{name}.lock" for name in folders}


def test_tensors_of_any_shape_and_type_come_back(cache):
    values = {
        "scalar": torch.tensor(3, dtype=torch.int64),
        "double": torch.rand(2, 3, dtype=torch.float64),
        "no columns": torch.ones(2, 0).long(),
        "bool": torch.tensor([True, False]),
    }
    entry = cache.get("k", lambda done: [] if done else [Part(values, 1, {"shape": [3, 4]})], 100)
    for name, value in values.items():
        assert entry.tensors[name].dtype == value.dtype
        assert torch.equal(entry.tensors[name], value)
    assert entry.notes == {"shape": [3, 4]}


@pytest.mark.parametrize("file", [*TENSORS, "record.json"])
def test_a_wrong_byte_anywhere_is_noticed_and_so_is_a_file_of_another_length(file, cache, caplog):
    get(cache, Made())
    path = cache.path("seed 0") / file
    whole = path.read_bytes()
    damaged = [whole[:place] + bytes([whole[place] ^ 7]) + whole[place + 1 :] for place in range(len(whole))]
    for content in (*damaged, whole[:-1], whole[:5], b"", whole + b"1", None):
        path.unlink() if content is None else path.write_bytes(content)
        assert cache.find("seed 0") is None
    again = Made()
    assert_whole(get(cache, again), again)
    assert again.items == [0, 3, 6, 9]
    assert "is damaged" in caplog.text
    assert "Numbers are made again" in caplog.text
    assert path.read_bytes() == whole


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(cache):
    get(cache, Made(1))
    cache.path("seed 1").rename(cache.path("seed 2"))
    assert cache.find("seed 2") is None


@pytest.mark.parametrize(("n_parts", "damaged"), [(0, None), (1, None), (3, None), (3, "mean"), (3, "record.json")])
def test_what_was_stopped_goes_on_where_it_was(n_parts, damaged, cache, caplog):
    with pytest.raises(KeyboardInterrupt):
        get(cache, Made(stop_after=n_parts))
    path = cache.path("seed 0")
    assert not path.exists()
    part = path.with_name(f"{path.name}.part")
    for name in TENSORS:  # what came after the record was written
        with (part / name).open("ab") as file:
            file.write(b"half a row")
    if damaged is not None:
        (part / damaged).write_bytes(b"1234")
    rest = Made()
    assert_whole(get(cache, rest), rest)
    assert rest.items == [0, 3, 6, 9][0 if damaged else n_parts :]
    assert bool(caplog.records) == bool(damaged)
    assert not part.exists()


class Deadly(Made):
    """Kills its process in the middle."""

    def part(self, first: int) -> Part:
        if first == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().part(first)


def test_what_a_killed_process_leaves_is_no_entry(cache):
    job = FORK.Process(target=get, args=(cache, Deadly()))
    job.start()
    job.join(20)
    assert job.exitcode == -signal.SIGKILL
    assert cache.find("seed 0") is None
    assert_whole(get(cache, Made()), Made())


class Slow(Made):
    """Says in a file that it was asked."""

    def __init__(self, log) -> None:
        super().__init__()
        self.log = log

    def part(self, first: int) -> Part:
        if first == 0:
            with self.log.open("a") as file:
                file.write("made\n")
            time.sleep(0.3)
        return super().part(first)


def test_a_parallel_job_waits_and_reuses(cache, tmp_path):
    log = tmp_path / "log"
    jobs = [FORK.Process(target=get, args=(cache, Slow(log))) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(20)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert log.read_text() == "made\n"


def test_a_full_disk_is_found_before_anything_is_made(cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=N_BYTES - 1))
    make = Made()
    with pytest.raises(ConfigError, match=r"Numbers take 320 bytes, .* has 319 bytes left: make room, count on"):
        get(cache, make)
    assert not make.items


def test_a_pickle_holds_the_path_alone(cache):
    entry = get(cache, Made())
    content = pickle.dumps(entry)
    assert entry.tensors["mean"].numpy().tobytes() not in content
    assert_whole(pickle.loads(content), Made())


def test_a_mapped_file_that_is_cut_off_is_an_error_and_not_the_end_of_the_process(cache):
    entry, file = get(cache, Made()), cache.path("seed 0") / "mean"
    entry.check()
    file.rename(file.with_name("deleted"))  # a cache may be deleted at any time
    entry.check()
    file.with_name("deleted").rename(file)
    os.truncate(file, 0)
    with pytest.raises(ResourceError, match="was cut off while it was read: it has 0 bytes instead of"):
        entry.check()


def test_whoever_may_write_in_a_shared_folder_may_lock_what_others_made(tmp_path):
    with locked(tmp_path / "cache"):
        assert (tmp_path / "cache.lock").stat().st_mode & 0o777 == 0o666
