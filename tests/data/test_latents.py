import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.latents import LatentCache, fingerprint
from iin_lightning.errors import CheckpointError, NonFiniteError, ShapeError
from iin_lightning.seeding import generator


@pytest.fixture
def source(mnist_root):
    return ColorMNIST(mnist_root).source("val")


def small(value: float = 1.0) -> LatentCache:
    labels = torch.arange(10).reshape(5, 2)
    return LatentCache(torch.full((5, 3), value), torch.full((5, 3), 0.1), labels, ("digit", "color"))


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
    z = cache.draw(items, generator(0))
    torch.testing.assert_close(z.mean(0), torch.tensor([3.0, 3.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(z.std(0), torch.tensor([0.5, 0.0]), rtol=0, atol=0.02)
    assert torch.equal(cache.draw(items, None), cache.mean)


def test_a_kept_sample_is_fixed_by_seed_and_spread_like_the_posterior():
    cache = small()
    kept, items = cache.sampled(seed=1), torch.arange(5)
    assert torch.equal(kept.draw(items, None), kept.draw(items, generator(9)))
    assert torch.equal(kept.mean, cache.sampled(seed=1).mean)
    assert not torch.equal(kept.mean, cache.sampled(seed=2).mean)
    assert not torch.equal(kept.mean, cache.mean)


def test_a_saved_cache_comes_back_and_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "new" / "val.safetensors"
    small().save(path, "encoder 1")
    small(2.0).save(path, "encoder 2")
    assert_equal(LatentCache.load(path, "encoder 2"), small(2.0))
    assert list(path.parent.iterdir()) == [path]


def test_a_cache_of_something_else_or_cut_short_or_absent_is_refused(tmp_path):
    path = tmp_path / "val.safetensors"
    with pytest.raises(CheckpointError, match="not a complete file"):
        LatentCache.load(path, "encoder 1")
    small().save(path, "encoder 1")
    with pytest.raises(CheckpointError, match="holds the latents of 'encoder 1', not those of 'encoder 2'"):
        LatentCache.load(path, "encoder 2")
    for length in (path.stat().st_size - 1, 20, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(CheckpointError, match="not a complete file"):
            LatentCache.load(path, "encoder 1")


def test_a_cache_is_built_again_only_if_the_file_cannot_be_used(tmp_path):
    path, built = tmp_path / "val.safetensors", []

    def get(key: str) -> LatentCache:
        return LatentCache.load_or_build(path, key, lambda: built.append(key) or small(len(built)))

    get("encoder 1")
    assert_equal(get("encoder 1"), small(1))
    assert built == ["encoder 1"]
    assert_equal(get("encoder 2"), small(2))
    assert_equal(get("encoder 2"), small(2))
    path.write_bytes(path.read_bytes()[:-5])
    assert_equal(get("encoder 2"), small(3))
    assert built == ["encoder 1", "encoder 2", "encoder 2"]


def _build_slowly(path: Path, log: Path) -> None:
    def build() -> LatentCache:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(1)
        return small()

    assert_equal(LatentCache.load_or_build(path, "key", build), small())


def test_a_parallel_job_waits_and_reuses(tmp_path):
    path, log = tmp_path / "val.safetensors", tmp_path / "log"
    jobs = [multiprocessing.get_context("fork").Process(target=_build_slowly, args=(path, log)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(20)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert log.read_text() == "built\n"


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
