"""Sample quality: torch-fidelity's numbers on the same folders, laws, protocols, cached real images, ranks."""

import json
from dataclasses import asdict
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch_fidelity
from PIL import Image
from torch import nn
from torch.multiprocessing import start_processes
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from iin_lightning.data.images import to_range
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.metrics.extractors import Extractor, to_uint8
from iin_lightning.metrics.sample_quality import PROTOCOLS, Protocol, SampleQuality, protocol

PLAIN = Protocol("plain", count=150)


class Tiny(Extractor):
    """Random convolutions of 8x8 images."""

    name, dim, input_size = "tiny", 6, 8
    resize = "none"

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, self.dim, 3)

    def features(self, pixels):
        return self.conv(to_range(pixels)).relu().mean((2, 3)) * 10


class TheirTiny(FeatureExtractorBase):
    """The same, as somebody would write it for torch-fidelity alone."""

    def __init__(self, name, features_list, **_):
        super().__init__(name, features_list)
        self.conv = Tiny().conv

    @staticmethod
    def get_provided_features_list():
        return ("all",)

    @staticmethod
    def get_default_feature_layer_for_metric(_):
        return "all"

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, x):
        return (self.conv(x.float() / 127.5 - 1).relu().mean((2, 3)) * 10,)


def images(n, seed, channels=3):
    generator = torch.Generator().manual_seed(int(100 * seed))
    smooth = torch.rand(n, channels, 2, 2, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise = torch.rand(n, channels, 8, 8, generator=generator)
    return (smooth + (0.3 + 0.2 * seed) * noise).clamp(0, 1) * 2 - 1


def quality(real=None, samples=None, reconstructions=None, *, recipe=PLAIN, size=64, **options):
    metric = SampleQuality(Tiny(), recipe, **options)
    for kind, x in (("real", real), ("samples", samples), ("reconstructions", reconstructions)):
        for part in () if x is None else x.split(size):
            metric.update(part, kind)
    return metric


def write_pngs(folder, x):
    folder.mkdir()
    for i, pixels in enumerate(to_uint8(x)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i:04d}.png")
    return str(folder)


def theirs(folder, extractor, **metrics):
    """torch-fidelity's numbers of the folder's two subfolders."""
    return torch_fidelity.calculate_metrics(
        input1=str(folder / "samples"),
        input2=str(folder / "real"),
        feature_extractor=extractor,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        **metrics,
    )


@pytest.fixture
def folder(tmp_path):
    write_pngs(tmp_path / "real", images(150, 0))
    write_pngs(tmp_path / "samples", images(130, 1))
    return tmp_path


def test_numbers_are_those_of_torch_fidelity_on_the_same_folders(folder):
    torch_fidelity.register_feature_extractor("their-tiny", TheirTiny)
    their = theirs(folder, "their-tiny", fid=True, kid=True, prc=True, kid_subset_size=130, rng_seed=PLAIN.seed)
    ours = quality(images(150, 0), images(130, 1), kernel=True, coverage=True).compute()
    assert ours == {
        "frechet_tiny/samples": pytest.approx(their["frechet_inception_distance"], rel=1e-6),
        "kernel_tiny/samples": pytest.approx(their["kernel_inception_distance_mean"], rel=1e-4),
        "precision_tiny/samples": their["precision"],
        "recall_tiny/samples": their["recall"],
    }
    assert ours["frechet_tiny/samples"] > 0.01
    assert 0 < ours["recall_tiny/samples"] < 1
    itself = quality(images(150, 0), reconstructions=images(150, 0).flip(0)).compute()
    assert itself["frechet_tiny/reconstructions"] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("options", [{"size": 1}, {"batch_size": 7}])
def test_batch_sizes_do_not_matter(options):
    real, samples = images(150, 0), images(130, 1)
    expected = quality(real, samples, kernel=True, coverage=True).compute()
    assert quality(real, samples, kernel=True, coverage=True, **options).compute() == pytest.approx(expected, rel=1e-5)


def test_inceptions_numbers_alone_are_called_fid(monkeypatch):
    monkeypatch.setattr(Tiny, "name", "inception")
    names = quality(images(20, 0), images(20, 1), images(20, 1), kernel=True, coverage=True).compute()
    kinds = ("samples", "reconstructions")
    assert set(names) == {f"{what}/{kind}" for what in ("fid", "kid", "precision", "recall") for kind in kinds}


def test_every_number_carries_all_that_it_depends_on():
    report = quality(images(150, 0), images(130, 1), kernel=True).report()
    assert json.loads(json.dumps(report)) == report
    record = report["kernel_tiny/samples"]
    assert record["protocol"] == asdict(PLAIN)
    assert record["extractor"] == {"name": "tiny", "weights": Tiny().fingerprint(), "resize": "none"}
    assert (record["real"], record["samples"], record["image_shape"]) == (150, 130, [3, 8, 8])
    assert (record["subsets"], record["subset_size"]) == (100, 130)
    assert report["frechet_tiny/samples"]["value"] > 0


@pytest.mark.filterwarnings("ignore:1 features in 6")
@pytest.mark.parametrize("counts", [(20, 0), (0, 20), (1, 20)])
def test_nothing_to_compare_is_an_error(counts):
    real, samples = counts
    with pytest.raises(ConfigError, match=f"came: real {real}, samples {samples}"):
        quality(images(real, 0), images(samples, 1)).compute()


def test_images_of_two_sizes_or_of_no_kind_are_refused():
    metric = quality(images(20, 0))
    with pytest.raises(ShapeError, match="of two sizes"):
        metric.update(torch.zeros(2, 3, 16, 16), "samples")
    with pytest.raises(ConfigError, match="did you mean samples"):
        metric.update(images(2, 0), "sample")


def test_each_protocol_prepares_images_as_it_says():
    x = images(40, 0) * 0.4
    plain = to_uint8(x)
    prepared = {
        name: {kind: SampleQuality(Tiny(), preset).prepare(x, kind) for kind in ("real", "samples")}
        for name, preset in PROTOCOLS.items()
    }
    brighter = prepared["authors2020"]["real"].int() - plain.int()
    assert set(brighter.unique().tolist()) == {0, 1}
    assert torch.equal(prepared["authors2020"]["samples"], plain)
    assert torch.equal(prepared["two_stage"]["real"], plain)
    assert prepared["two_stage"]["samples"].amax((1, 2, 3)).tolist() == [255] * 40
    assert torch.equal(prepared["clean"]["samples"], plain), "they have the extractor's size"
    large = torch.rand(2, 3, 20, 20) * 2 - 1
    assert SampleQuality(Tiny(), protocol("clean")).prepare(large, "real").shape == (2, 3, 8, 8)
    assert SampleQuality(Tiny(), protocol("two_stage")).prepare(large, "real").shape == (2, 3, 20, 20)


def test_real_images_are_chosen_without_replacement():
    preset = protocol("clean", count=40)
    assert torch.equal(preset.items(30), torch.arange(30))
    chosen = preset.items(100)
    assert len(chosen.unique()) == 40
    assert torch.equal(chosen, preset.items(100))
    assert not torch.equal(chosen, protocol("clean", count=40, seed=1).items(100))
    with pytest.raises(ConfigError, match="did you mean two_stage"):
        protocol("twostage")
    with pytest.raises(ConfigError, match="count=1"):
        protocol("clean", count=1)


# The cache of the real images


def rounded(report):
    """The same records; eigenvalues differ in their last bits with where in memory a matrix lies."""
    return {name: record | {"value": pytest.approx(record["value"], rel=1e-12)} for name, record in report.items()}


@pytest.mark.parametrize("kernel", [False, True])
def test_cached_real_images_give_the_same_numbers(tmp_path, kernel):
    real, samples = images(150, 0), images(130, 1)
    first = quality(real, samples, kernel=kernel)
    assert not first.load_real(tmp_path, "0f3c")
    first.save_real(tmp_path, "0f3c")
    second = SampleQuality(Tiny(), PLAIN, kernel=kernel)
    assert second.load_real(tmp_path, "0f3c")
    second.update(samples, "samples")
    assert second.report() == rounded(first.report())


def test_the_cache_knows_everything_that_its_numbers_depend_on(tmp_path):
    quality(images(150, 0)).save_real(tmp_path, "0f3c")
    other = Tiny()
    other.conv.weight.data[0] += 1
    assert not SampleQuality(Tiny(), PLAIN).load_real(tmp_path, "another data set")
    assert not SampleQuality(other, PLAIN).load_real(tmp_path, "0f3c")
    assert not SampleQuality(Tiny(), protocol("authors2020", count=150)).load_real(tmp_path, "0f3c")
    assert not SampleQuality(Tiny(), PLAIN, kernel=True).load_real(tmp_path, "0f3c"), "it lacks the features"
    assert SampleQuality(Tiny(), PLAIN).load_real(tmp_path, "0f3c")
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    quality(images(150, 0)).save_real(tmp_path, "0f3c")
    assert "computed again each time" in caplog.text


def test_the_next_model_meets_the_same_real_images():
    real, first, second = images(150, 0), images(130, 1), images(130, 2)
    metric = quality(real, first)
    metric.compute()
    metric.reset(real=False)
    metric.update(second, "samples")
    assert metric.report() == rounded(quality(real, second).report())
    metric.reset()
    metric.update(torch.zeros(2, 3, 16, 16), "real")


def _rank(rank, folder, real, samples):
    place, patience = f"file://{folder}/rendezvous", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2, timeout=patience)
    torch.set_num_threads(1)
    # All samples fall to the first rank: the second one must take part all the same.
    metric = quality(real[rank::2], samples if rank == 0 else None, kernel=True)
    numbers = metric.compute()
    found = [metric.load_real(folder / "cache", "0f3c")]
    metric.save_real(folder / "cache", "0f3c")
    metric.reset()
    found.append(metric.load_real(folder / "cache", "0f3c"))
    metric.update(samples[rank::2], "samples")
    (folder / f"{rank}.json").write_text(json.dumps([found, numbers, metric.compute()]))
    dist.destroy_process_group()


def test_two_ranks_make_one_and_share_the_cache(tmp_path):
    real, samples = images(150, 0), images(130, 1)
    start_processes(_rank, (tmp_path, real, samples), nprocs=2, start_method="fork")
    expected = quality(real, samples, kernel=True).compute()
    for rank in range(2):
        found, numbers, again = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == [False, True]
        # The subsets of the kernel distance fall on the features in another order.
        assert numbers == {
            "frechet_tiny/samples": pytest.approx(expected["frechet_tiny/samples"], rel=1e-6),
            "kernel_tiny/samples": pytest.approx(expected["kernel_tiny/samples"], rel=0.1),
        }
        assert again == pytest.approx(numbers, rel=0.1)
        assert again["frechet_tiny/samples"] == pytest.approx(numbers["frechet_tiny/samples"], rel=1e-6)
