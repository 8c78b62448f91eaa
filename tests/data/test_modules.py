"""Loaders under a real trainer: what a run sees, and that a resumed one goes on exactly."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.stream import Singles
from iin_lightning.errors import ConfigError, NonFiniteError
from iin_lightning.factors import Factors, PairBatch
from iin_lightning.seeding import Noise

FACTORS = Factors({"residual": 2, "digit": 2, "color": 2}, latent_dim=6)


class Task(LightningModule):
    """Sees batches and keeps them; its one weight depends on their order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen, self.evaluated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return (self.weight * batch[0].mean() - 1) ** 2

    def validation_step(self, batch, batch_idx):
        self.evaluated.append(batch)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=0.1)


class StopInTheMiddle(Callback):
    """Saves at a step, as a checkpoint callback does, or as after Ctrl-C within the next batch."""

    def __init__(self, step: int, path, interrupted: bool) -> None:
        self.step, self.path, self.interrupted = step, path, interrupted

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        if self.interrupted and len(task.seen) == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        if not self.interrupted and len(task.seen) == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def trainer(**options) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**quiet | {"accelerator": "cpu", "use_distributed_sampler": False, **options})


def images(root, **options) -> ColorMNIST:
    return ColorMNIST(root, **{"views": 2, "batch_size": 16, "eval_batch_size": 9, **options})


DATA = {
    "images": lambda root, encoder, cache, **o: images(root, **o),
    "single latents": lambda root, encoder, cache, **o: LatentData(
        images(root), encoder, cache=cache, batch_size=16, **o
    ),
    "pairs of latents": lambda root, encoder, cache, **o: LatentData(
        images(root), encoder, FACTORS, cache=cache, batch_size=16, **o
    ),
    "single latents online": lambda root, encoder, cache, **o: LatentData(images(root), encoder, batch_size=16, **o),
    "pairs of latents online": lambda root, encoder, cache, **o: LatentData(
        images(root), encoder, FACTORS, batch_size=16, **o
    ),
}
every_data = pytest.mark.parametrize("make", DATA.values(), ids=DATA.keys())


def tensors(batches):
    return [batch[0] if isinstance(batch, tuple) else batch for batch in batches]


def assert_same(a, b):
    assert len(a) == len(b)
    for left, right in zip(tensors(a), tensors(b)):
        assert torch.equal(left, right)


STEPS, EPOCHS = {"max_steps": 17}, {"max_epochs": 3}
RESUMED = [
    ("images", STEPS, "after a batch"),
    ("images", EPOCHS, "within a batch"),
    ("pairs of latents", STEPS, "after a batch"),
    ("single latents online", STEPS, "within a batch"),
    ("pairs of latents online", EPOCHS, "after a batch"),
]


@pytest.mark.parametrize(("name", "length", "stopped"), RESUMED)
def test_a_resumed_run_goes_on_exactly(name, length, stopped, request):
    mnist_root, encoder, tmp_path = map(request.getfixturevalue, ("mnist_root", "encoder", "tmp_path"))

    def fit(task, ckpt_path=None, **options):
        data = DATA[name](mnist_root, encoder, tmp_path / "cache")
        trainer(**length, limit_val_batches=0, **options).fit(task, datamodule=data, ckpt_path=ckpt_path)
        return task

    whole = fit(Task())
    assert len(whole.seen) == (17 if "max_steps" in length else 3 * 8)
    path = tmp_path / "half.ckpt"
    half = fit(Task(), callbacks=[StopInTheMiddle(11, path, stopped == "within a batch")])
    rest = fit(Task(), ckpt_path=path)
    assert_same([*half.seen[:11], *rest.seen], whole.seen)
    assert torch.equal(rest.weight, whole.weight)


def test_training_can_be_prolonged(mnist_root, tmp_path):
    first, second, whole = Task(), Task(), Task()
    short = trainer(max_steps=6)
    short.fit(first, datamodule=images(mnist_root))
    short.save_checkpoint(tmp_path / "end.ckpt")
    trainer(max_steps=10).fit(second, datamodule=images(mnist_root), ckpt_path=tmp_path / "end.ckpt")
    trainer(max_steps=10).fit(whole, datamodule=images(mnist_root))
    assert_same([*first.seen, *second.seen], whole.seen)


@pytest.mark.parametrize("name", ["images", "pairs of latents online"])
def test_workers_do_not_change_what_a_run_sees(name, mnist_root, encoder, tmp_path):
    def fit(num_workers):
        task = Task()
        data = DATA[name](mnist_root, encoder, tmp_path, num_workers=num_workers)
        trainer(max_epochs=2).fit(task, datamodule=data)
        return task

    alone, worked = fit(0), fit(2)
    assert_same(alone.seen, worked.seen)
    assert_same(alone.evaluated, worked.evaluated)


def test_max_steps_counts_accumulated_batches(mnist_root):
    task = Task()
    trainer(max_steps=3, accumulate_grad_batches=2).fit(task, datamodule=images(mnist_root))
    assert len(task.seen) == 6


def test_without_a_trainer_a_pass_is_an_epoch(mnist_root):
    data = images(mnist_root)
    assert len(data.train_dataloader()) == len(list(data.train_dataloader())) == -(-114 // 16)
    assert torch.equal(next(iter(data.train_dataloader())).x, Singles(data.source("train"), 16, 0)[0].x)


@every_data
def test_evaluation_sees_every_item_once_and_the_same_whatever_the_global_seed(make, mnist_root, encoder, tmp_path):
    def evaluate(seed):
        torch.manual_seed(seed)
        task, data = Task(), make(mnist_root, encoder, tmp_path)
        trainer().test(task, datamodule=data, verbose=False)
        return task.evaluated

    first = evaluate(1)
    assert sum(len(x) for x in tensors(first)) == 24
    assert_same(first, evaluate(2))


@pytest.mark.parametrize("cached", [True, False])
def test_latents_are_posterior_samples_of_the_images_in_their_pairs(cached, mnist_root, encoder, tmp_path):
    data = LatentData(images(mnist_root, views=1), encoder, FACTORS, cache=tmp_path if cached else None, batch_size=57)
    task = Task()
    trainer(max_steps=60, limit_val_batches=0).fit(task, datamodule=data)
    assert isinstance(task.seen[0], PairBatch)
    z = torch.stack([torch.cat([batch.a, batch.b]) for batch in task.seen])
    means = encoder.eval().encode(data.images.source("train").draw(torch.arange(57), None)).mean.detach()
    # Every step has every item as its anchor; residuals have the encoder's scale of 1/2.
    torch.testing.assert_close(z[:, :57].mean((0, 1)), means.mean(0), rtol=0, atol=0.03)
    spread = (z[:, :57].var((0, 1)) - means.var(0, correction=0)).sqrt()
    torch.testing.assert_close(spread, torch.full((6,), 0.5), rtol=0, atol=0.02)
    assert not torch.equal(z[0], z[1])


def test_online_latents_leave_the_encoder_in_evaluation_mode(mnist_root, encoder):
    class Waking(Task):
        def on_train_batch_start(self, batch, batch_idx):
            encoder.train()  # LinearEncoder refuses to encode in training mode

    task = Waking()
    trainer(max_steps=3).fit(task, datamodule=LatentData(images(mnist_root), encoder))
    assert len(task.seen) == 3
    assert not any(z.requires_grad for z in task.seen)
    assert encoder.weight.grad is None


def test_a_second_run_finds_its_latents_unless_encoder_or_data_changed(mnist_root, encoder, tmp_path):
    def encoded(key="encoder 1", seed=0, **options) -> int:
        before = encoder.seen
        data = LatentData(images(mnist_root, **options), encoder, cache=tmp_path, cache_key=key, seed=seed)
        data.setup("fit")
        return encoder.seen - before

    assert encoded() == 117
    assert encoded() == 0
    assert encoded(seed=1) == 0
    assert encoded(key="encoder 2") == 117
    assert encoded(background="complement") == 117
    assert encoded() == 0
    assert len(list(tmp_path.glob("*/record.json"))) == 6


def test_an_encoder_that_gives_nan_is_refused_before_training(mnist_root, encoder, tmp_path):
    encoder.weight.data[0] = float("nan")
    task = Task()
    for cache in (tmp_path, None):
        with pytest.raises(NonFiniteError, match="items 0 to"):
            trainer(max_steps=1).fit(task, datamodule=LatentData(images(mnist_root), encoder, cache=cache))
    assert not task.seen
    assert all(path.suffix in (".lock", ".part") for path in tmp_path.iterdir())


def test_latent_noise_enters_training_batches_alone(mnist_root, encoder, tmp_path):
    def batches(noise: float):
        data = LatentData(
            images(mnist_root, views=1), encoder, cache=tmp_path, cache_key="e", noise=noise, batch_size=20
        )
        held_out = [batch for loader in (data.val_dataloader(), data.test_dataloader()) for batch in loader]
        seen = [data.latents(split).draw(torch.arange(2), Noise(0)) for split in ("train", "val", "test")]
        return [*held_out, *seen], next(iter(data.train_dataloader()))

    (clean, trained_on), (with_noise, noisy) = batches(0.0), batches(1e6)
    for a, b in zip(clean, with_noise, strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(trained_on, noisy)
    assert 0.3 < (noisy.std(0) / trained_on.std(0)).median() < 3  # as wide as before


def test_latent_noise_of_images_that_are_encoded_at_each_step_keeps_their_spread(mnist_root, encoder):
    tasks = [Task(), Task()]
    for task, noise in zip(tasks, (0.0, 1e6)):
        data = LatentData(images(mnist_root, views=1), encoder, noise=noise, batch_size=20)
        trainer(max_steps=1).fit(task, datamodule=data)
    clean, noisy = (task.seen[0] for task in tasks)
    assert not torch.allclose(clean, noisy)
    torch.testing.assert_close(noisy.mean(0), clean.mean(0), rtol=0, atol=1)
    assert 0.3 < (noisy.std(0) / clean.std(0)).median() < 3


def test_latent_noise_is_not_negative(mnist_root, encoder):
    with pytest.raises(ConfigError, match=r"latent_noise=-1"):
        LatentData(images(mnist_root), encoder, noise=-1)


def test_batches_that_are_drawn_on_a_gpu_need_no_workers_and_no_pinned_memory(mnist_root):
    data = images(mnist_root, num_workers=2)
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
    loading = [data._loading(torch.device(device)) for device in ("cpu", "cuda:0")]
    assert [(options["num_workers"], options["pin_memory"]) for options in loading] == [(2, True), (0, False)]
