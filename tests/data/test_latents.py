import multiprocessing
import os
import signal
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from iin_lightning.data.base import LabelledBatch, Subset
from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.disk import locked
from iin_lightning.data.encoding import Encoded, Encoding
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.latent_files import load, load_or_build
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.latents import LatentCache, fingerprint
from iin_lightning.data.pairs import PairIndex
from iin_lightning.data.pixel_cache import MappedImages
from iin_lightning.data.stream import FixedPairs, FixedSingles, Pairs, Singles
from iin_lightning.errors import CheckpointError, ConfigError, NonFiniteError, ResourceError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.seeding import Noise, generator

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def source(mnist_root):
    return ColorMNIST(mnist_root).source("val")


def small(scale: float = 0.1) -> LatentCache:
    labels = torch.arange(10).reshape(5, 2)
    return LatentCache(torch.ones(5, 3), torch.full((5, 3), scale), labels, ("digit", "color"))


def assert_equal(a: LatentCache, b: LatentCache) -> None:
    assert a.concepts == b.concepts
    for name in ("mean", "scale", "labels"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_the_cache_equals_encoding_directly(source, encoder):
    cache = LatentCache.build(source, encoder, training=False, seed=0, batch_size=2)
    posterior = encoder.eval().encode(source.draw(torch.arange(len(source)), None))
    torch.testing.assert_close(cache.mean, posterior.mean.detach())
    torch.testing.assert_close(cache.scale, posterior.scale)
    assert torch.equal(cache.labels, source.labels)
    assert cache.concepts == source.concepts
    assert not cache.mean.requires_grad


def test_training_latents_see_dequantised_images_once_and_by_seed(source, encoder):
    exact, noisy, again, other = (
        LatentCache.build(source, encoder, training=training, seed=seed).mean
        for training, seed in ((False, 0), (True, 0), (True, 0), (True, 1))
    )
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, other)
    assert 0 < (noisy - exact).abs().max() < 0.1


def test_how_many_images_the_processor_takes_at_a_time_changes_no_noise(source, encoder, monkeypatch):
    latents = []
    for values in (10**9, 1):  # all images of a batch at once; one by one, for none has less than one value
        monkeypatch.setattr("iin_lightning.data.encoding.CPU_VALUES", values)
        latents.append(LatentCache.build(source, encoder, training=True, seed=0, batch_size=2))
    torch.testing.assert_close(latents[0].mean, latents[1].mean)
    torch.testing.assert_close(latents[0].scale, latents[1].scale)


def test_the_encoder_gets_its_mode_back_even_after_an_error(source, encoder):
    for mode in (True, False):
        encoder.train(mode)
        LatentCache.build(source, encoder, training=False, seed=0)
        assert encoder.training is mode
    encoder.train()
    encoder.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        LatentCache.build(source, encoder, training=False, seed=0)
    assert encoder.training


def test_progress_is_told_how_many_items_are_done(source, encoder):
    told = []
    LatentCache.build(source, encoder, training=False, seed=0, batch_size=2, progress=lambda *done: told.append(done))
    assert told == [(2, 3), (3, 3)]


def test_latents_that_are_not_finite_are_named(source, encoder):
    encoder.weight.data[2] = float("inf")
    with pytest.raises(NonFiniteError, match=r"Of 18 means .* items 0 to 2, 3 are NaN or infinite.*train it again"):
        LatentCache.build(source, encoder, training=False, seed=0)


def test_latents_of_another_shape_are_named(source, encoder):
    encoder.latent_dim = 7
    with pytest.raises(ShapeError, match=r"means of shape \(3, 6\) for items 0 to 2, expected is \(3, 7\)"):
        LatentCache.build(source, encoder, training=False, seed=0)


def test_samples_have_the_posterior_mean_and_scale_and_evaluation_gives_the_mean():
    n = 40_000
    cache = LatentCache(
        torch.full((n, 2), 3.0), torch.tensor([[0.5, 0.0]]).repeat(n, 1), torch.zeros(n, 1).long(), ("a",)
    )
    items = torch.arange(n)
    z = cache.draw(items, Noise(0))
    torch.testing.assert_close(z.mean(0), torch.tensor([3.0, 3.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(z.std(0), torch.tensor([0.5, 0.0]), rtol=0, atol=0.02)
    assert torch.equal(cache.draw(items, None), cache.mean)


def test_a_kept_sample_is_fixed_by_seed_and_spread_like_the_posterior():
    cache = small()
    kept, items = cache.sampled(seed=1), torch.arange(5)
    assert torch.equal(kept.draw(items, None), kept.draw(items, Noise(9)))
    assert torch.equal(kept.mean, cache.sampled(seed=1).mean)
    assert not torch.equal(kept.mean, cache.sampled(seed=2).mean)
    assert not torch.equal(kept.mean, cache.mean)


class Parts:
    """Posteriors that are made as they are asked for, a part of three items at a time; the last one has one."""

    concepts = ("digit", "color")
    n_bytes = 10 * (2 * 4 * 4 + 2 * 8)

    def __init__(self, seed: int = 0, stop_after: int = 4) -> None:
        self.seed, self.stop_after = seed, stop_after
        self.times = 0
        self.most_alive = 0

    def part(self, first: int) -> Encoded:
        n, key = min(3, 10 - first), generator(self.seed, first)
        mean, scale = torch.randn(n, 4, generator=key), torch.rand(n, 4, generator=key)
        return Encoded(mean, scale, torch.arange(first * 2, (first + n) * 2).reshape(n, 2))

    def after(self, done):
        self.times += 1
        made = []
        for number, first in enumerate(range(done, 10, 3)):
            if number == self.stop_after:
                raise KeyboardInterrupt
            part = self.part(first)
            made.append(weakref.ref(part.mean))
            yield part
            del part
            self.most_alive = max(self.most_alive, sum(ref() is not None for ref in made))

    @property
    def whole(self) -> LatentCache:
        return LatentCache(*map(torch.cat, zip(*map(self.part, range(0, 10, 3)))), concepts=self.concepts)


def test_a_cache_comes_back_from_disk_and_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "new" / "val"
    assert_equal(load_or_build(path, "encoder 1", Parts(1)), Parts(1).whole)
    assert_equal(load(path, "encoder 1"), Parts(1).whole)
    assert sorted(file.name for file in path.parent.iterdir()) == ["val", "val.lock"]


def test_labels_may_have_no_columns(tmp_path):
    parts = Parts()
    parts.concepts, parts.part = (), lambda first: Encoded(torch.ones(2, 4), torch.ones(2, 4), torch.ones(2, 0).long())
    assert load_or_build(tmp_path / "val", "encoder 1", parts).labels.shape == (8, 0)


def test_no_more_than_a_part_is_held_while_a_cache_is_written(tmp_path):
    parts = Parts()
    load_or_build(tmp_path / "val", "encoder 1", parts)
    assert parts.most_alive == 1  # the one that the writer has just written


def test_a_cache_is_built_again_only_if_it_cannot_be_used(tmp_path, caplog):
    path, first, second = tmp_path / "val", Parts(1), Parts(2)
    for _ in range(2):
        assert_equal(load_or_build(path, "encoder 1", first), first.whole)
    assert not caplog.records
    for _ in range(2):
        assert_equal(load_or_build(path, "encoder 2", second), second.whole)
    assert (first.times, second.times) == (1, 1)
    assert "latents of 'encoder 1', not those of 'encoder 2'" in caplog.text


@pytest.mark.parametrize("file", ["mean", "scale", "labels", "record.json"])
def test_a_single_wrong_byte_anywhere_is_noticed(file, tmp_path, caplog):
    path = tmp_path / "val"
    load_or_build(path, "encoder 1", Parts())
    whole = (path / file).read_bytes()
    for place in range(len(whole)):
        for flipped in (7,):
            damaged = bytearray(whole)
            damaged[place] ^= flipped
            (path / file).write_bytes(damaged)
            with pytest.raises(CheckpointError, match="not a complete cache"):
                load(path, "encoder 1")
    again = Parts()
    assert_equal(load_or_build(path, "encoder 1", again), again.whole)
    assert again.times == 1
    assert "encoded again" in caplog.text
    assert (path / file).read_bytes() == whole


@pytest.mark.parametrize("file", ["mean", "scale", "labels", "record.json"])
def test_a_file_that_is_cut_short_or_prolonged_or_absent_is_noticed(file, tmp_path):
    path = tmp_path / "val"
    load_or_build(path, "encoder 1", Parts())
    whole = (path / file).read_bytes()
    for content in (whole[:-1], whole[:5], b"", whole + b"1", None):
        (path / file).unlink() if content is None else (path / file).write_bytes(content)
        with pytest.raises(CheckpointError, match="not a complete cache"):
            load(path, "encoder 1")


@pytest.mark.parametrize(("n_parts", "damaged"), [(0, None), (1, None), (3, None), (3, "mean"), (3, "record.json")])
def test_an_interrupted_build_goes_on_where_it_was(n_parts, damaged, tmp_path, caplog):
    path, rest = tmp_path / "val", Parts(1)
    with pytest.raises(KeyboardInterrupt):
        load_or_build(path, "encoder 1", Parts(1, stop_after=n_parts))
    assert not path.exists()
    for name in ("mean", "scale", "labels"):  # what came after the record was written
        with (tmp_path / "val.part" / name).open("ab") as file:
            file.write(b"half a row")
    if damaged is not None:
        (tmp_path / "val.part" / damaged).write_bytes(b"1234")
    made, part = [], rest.part
    rest.part = lambda first: made.append(first) or part(first)
    assert_equal(load_or_build(path, "encoder 1", rest), Parts(1).whole)
    assert made == [0, 3, 6, 9][0 if damaged else n_parts :]
    assert bool(caplog.records) == bool(damaged)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["val", "val.lock"]


def test_what_was_begun_of_other_latents_is_left_out(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        load_or_build(tmp_path / "val", "encoder 1", Parts(1, stop_after=2))
    assert_equal(load_or_build(tmp_path / "val", "encoder 2", Parts(2)), Parts(2).whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_rest_of_an_encoding_has_the_bits_of_the_whole(workers, source, encoder, monkeypatch):
    monkeypatch.setattr("iin_lightning.data.encoding.CPU_VALUES", 2 * 3 * 32 * 32)  # two images at a time
    encoding = Encoding(
        Subset(source, torch.arange(11) % len(source)), encoder, training=True, seed=0, batch_size=3, workers=workers
    )
    whole = list(encoding)
    assert [len(part.labels) for part in whole] == [2, 1, 2, 1, 2, 1, 2]
    done = 0
    for number, part in enumerate(whole):
        for rest, expected in zip(encoding.after(done), whole[number:], strict=True):
            assert all(map(torch.equal, rest, expected))
        done += len(part.labels)


class Deadly(Parts):
    """Kills its process in the middle."""

    def part(self, first: int) -> Encoded:
        if first == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().part(first)


def test_what_a_killed_build_leaves_is_no_cache(tmp_path):
    path = tmp_path / "val"
    job = FORK.Process(target=load_or_build, args=(path, "encoder 1", Deadly()))
    job.start()
    job.join(20)
    assert job.exitcode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError):
        load(path, "encoder 1")
    assert_equal(load_or_build(path, "encoder 1", Parts(2)), Parts(2).whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["val", "val.lock"]


def test_a_full_disk_is_found_before_anything_is_encoded(tmp_path, monkeypatch):
    parts = Parts()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=parts.n_bytes - 1))
    with pytest.raises(ConfigError, match=r"paths\.cache.*latents=online"):
        load_or_build(tmp_path / "val", "encoder 1", parts)
    assert parts.times == 0


def test_the_size_of_an_encoding_is_that_of_its_files(source, encoder, tmp_path):
    encoding = Encoding(source, encoder, training=False, seed=0)
    load_or_build(tmp_path / "val", "encoder 1", encoding)
    assert encoding.n_bytes == sum((tmp_path / "val" / name).stat().st_size for name in ("mean", "scale", "labels"))


class Slow(Parts):
    """Says in a file that it was asked."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def part(self, first: int) -> Encoded:
        if first == 0:
            with self.log.open("a") as file:
                file.write("built\n")
            time.sleep(0.5)
        return super().part(first)


def _build_slowly(path: Path, log: Path) -> None:
    assert_equal(load_or_build(path, "key", Slow(log)), Parts().whole)


def test_a_parallel_job_waits_and_reuses(tmp_path):
    log = tmp_path / "log"
    jobs = [FORK.Process(target=_build_slowly, args=(tmp_path / "val", log)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(20)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert log.read_text() == "built\n"


def test_workers_that_draw_the_images_do_not_change_the_latents(source, encoder):
    alone, worked = (
        LatentCache.build(source, encoder, training=True, seed=0, batch_size=1, workers=workers) for workers in (0, 2)
    )
    assert_equal(alone, worked)


def test_noise_is_drawn_and_leaves_mean_and_spread_of_all_samples_as_they_are():
    n, key = 4000, generator("posteriors")
    mean, scale = torch.randn(n, 3, generator=key) * torch.tensor([1.0, 5.0, 0.1]) + 2, torch.rand(n, 3, generator=key)
    cache = LatentCache(mean, scale, torch.zeros(n, 1).long(), ("digit",))
    noisy, items = cache.noisy(0.75), torch.arange(n)
    clean, drawn = (some.draw(items, Noise(0)) for some in (cache, noisy))
    torch.testing.assert_close(drawn.mean(0), clean.mean(0), atol=0.1, rtol=0.02)
    torch.testing.assert_close(drawn.std(0), clean.std(0), atol=0, rtol=0.03)
    # How much of a mean is left: 1 / sqrt(1 + n²) of what it is without noise.
    left = ((drawn - 2) * (mean - 2)).mean(0) / ((clean - 2) * (mean - 2)).mean(0)
    torch.testing.assert_close(left, torch.full((3,), 0.8), atol=0, rtol=0.06)
    assert torch.equal(noisy.draw(items, None), mean)
    assert torch.equal(cache.noisy(0.0).draw(items, Noise(0)), clean)
    assert noisy.content() != cache.content()


@pytest.mark.parametrize(("free", "moves"), [(4 * 520, False), (4 * 520 + 1, True)])
def test_latents_move_to_a_gpu_if_a_quarter_of_its_free_memory_holds_them(free, moves, monkeypatch):
    cache, gpu = small(), torch.device("cuda", 1)
    # 2 x 15 numbers of 4 bytes, and the labels and an index over them, five times 5 x 2 numbers of 8 bytes.
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 10 * free) if device == gpu else None)
    monkeypatch.setattr(LatentCache, "to", lambda self, device: ("moved to", device))
    assert cache.near(gpu) == (("moved to", gpu) if moves else cache)
    assert cache.near(torch.device("cpu")) is cache


@pytest.mark.parametrize("n_concepts", [1, 2, 5])
def test_an_index_of_pairs_takes_no_more_memory_than_is_reckoned_with(n_concepts):
    labels = torch.randint(3, (1000, n_concepts), generator=generator(0))
    index = PairIndex(labels)
    assert sum(table.nbytes for table in vars(index).values()) <= 4 * labels.nbytes


def test_a_fingerprint_tells_data_apart(mnist_root):
    def mark(**options) -> str:
        return fingerprint(ColorMNIST(mnist_root, **options).source("train"))

    marks = [
        mark(),
        mark(seed=1),
        mark(background="complement"),
        mark(views=2),
        mark(palette=3),
        mark(min_brightness=0.9),
        mark(val_fraction=0.2),
    ]
    assert len(set(marks)) == len(marks)
    assert mark() == marks[0]


def test_a_fingerprint_sees_a_change_in_any_image():
    images = torch.randint(256, (300, 1, 4, 4), dtype=torch.uint8, generator=generator(0))
    marks = set()
    for item in (None, 0, 1, 150, 299):
        changed = images.clone()
        if item is not None:
            changed[item, 0, 2, 2] ^= 1
        marks.add(fingerprint(ImageTensor(changed, torch.zeros(300, 1, dtype=torch.long), ("digit",))))
    assert len(marks) == 5


FACTORS = Factors({"residual": 1, "digit": 1, "color": 1}, latent_dim=3)
STREAMS = {
    "singles": lambda cache: Singles(cache, 4, 0),
    "pairs": lambda cache: Pairs(cache, FACTORS, 4, 0),
    "fixed singles": lambda cache: FixedSingles(cache, 4),
    "fixed pairs": lambda cache: FixedPairs(cache, FACTORS, 4, 0),
}
every_stream = pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS.keys())


class Waits(TorchDispatchMode):
    """Writes down what a GPU would be waited for: values that are read, and constants that are copied to it."""

    OPS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.lift_fresh, torch.ops.aten.nonzero, torch.ops.aten.equal)

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in self.OPS:
            self.seen.append(func)
        return func(*args, **(kwargs or {}))


@every_stream
def test_drawing_a_batch_waits_for_nothing(make):
    stream = make(small().noisy(1.0))
    with Waits() as waits:
        for step in range(2):
            stream[step]
    assert not waits.seen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_stream
def test_batches_of_latents_on_a_gpu_are_drawn_there(make):
    cache = small().noisy(1.0)
    stream = make(cache.to(torch.device("cuda")))
    stream[0]  # whatever is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = stream[1]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {part.device.type for part in batch} == {"cuda"}
    if isinstance(stream, FixedPairs):
        for on_gpu, part in zip(batch, make(cache)[1]):
            assert torch.equal(on_gpu.cpu(), part)


@pytest.mark.parametrize("cached", [True, False])
def test_latents_with_labels_are_those_of_their_images(mnist_root, encoder, tmp_path, cached):
    images = ColorMNIST(mnist_root, batch_size=6, num_workers=0)
    data = LatentData(images, encoder, cache=tmp_path if cached else None, cache_key="e", batch_size=6)
    data.labelled = True
    source, latents = images.source("val"), data.latents("val")
    for batch in data.val_dataloader():
        assert isinstance(batch, LabelledBatch)
        assert torch.equal(batch.x, latents.mean)
        assert torch.equal(batch.labels, source.labels)
    batch = next(iter(data.train_dataloader()))
    assert batch.labels.shape == (6, 2)
    assert batch.x.shape == ((6, encoder.latent_dim) if cached else (6, 3, 32, 32))
    data.trainer = SimpleNamespace(
        training=True,
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(processed=0)))
        ),
    )
    on_device = data.on_after_batch_transfer(batch, 0)
    assert on_device.x.shape == (6, encoder.latent_dim)
    assert torch.equal(on_device.labels, batch.labels)


@pytest.mark.parametrize("kind", ["latents", "pixels"])
def test_a_mapped_file_that_is_cut_off_is_an_error_and_not_the_end_of_the_process(kind, source, encoder, tmp_path):
    if kind == "latents":
        cache, file = load_or_build(tmp_path / "c", "k", Encoding(source, encoder, training=False, seed=0)), "c/mean"
    else:
        (tmp_path / "pixels").write_bytes(bytes(3 * 64 * 64 * 3))
        cache, file = MappedImages(tmp_path / "pixels", (3, 3, 64, 64), torch.zeros(3, 1).long(), ("a",)), "pixels"
    before = cache.draw(torch.arange(3), None)
    (tmp_path / file).rename(tmp_path / "deleted")  # a cache may be deleted at any time
    assert torch.equal(cache.draw(torch.arange(3), None), before)
    (tmp_path / "deleted").rename(tmp_path / file)
    os.truncate(tmp_path / file, 0)
    with pytest.raises(ResourceError, match=r"was cut off while it was read: it has 0 bytes instead of"):
        cache.draw(torch.tensor([2]), None)


def test_whoever_may_write_in_a_shared_folder_may_lock_what_others_made(tmp_path):
    with locked(tmp_path / "cache"):
        assert (tmp_path / "cache.lock").stat().st_mode & 0o777 == 0o666
