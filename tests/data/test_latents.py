from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from iin_lightning.data.base import LabelledBatch, Subset
from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.images import ImageTensor
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.latents import Encoding, LatentCache, fingerprint
from iin_lightning.data.pairs import PairIndex
from iin_lightning.data.stream import FixedPairs, FixedSingles, Pairs, Singles
from iin_lightning.errors import NonFiniteError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.seeding import Noise, generator


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


def test_the_size_of_an_encoding_is_that_of_its_tensors(source, encoder):
    encoding = Encoding(source, encoder, training=False, seed=0)
    assert encoding.n_bytes == sum(tensor.nbytes for part in encoding for tensor in part)


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


@pytest.mark.parametrize("workers", [0, 2])
def test_the_rest_of_an_encoding_has_the_bits_of_the_whole(workers, source, encoder, monkeypatch):
    monkeypatch.setattr("iin_lightning.data.latents.CPU_VALUES", 2 * 3 * 32 * 32)  # two images at a time
    encoding = Encoding(
        Subset(source, torch.arange(11) % len(source)), encoder, training=True, seed=0, batch_size=3, workers=workers
    )
    whole = list(encoding)
    assert [len(part.labels) for part in whole] == [2, 1, 2, 1, 2, 1, 2]
    done = 0
    for number, part in enumerate(whole):
        if number in (1, 2, 6) or not workers:
            for rest, expected in zip(encoding.after(done), whole[number:], strict=True):
                assert all(map(torch.equal, rest, expected))
        done += len(part.labels)


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
    cache = tmp_path if cached else None
    data = LatentData(images, encoder, batches="labelled", cache=cache, cache_key="e", batch_size=6)
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
