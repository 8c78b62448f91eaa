"""What evaluating samples costs beside the features that it needs: all of our path against torch-fidelity's features.

    python benchmarks/evaluation.py                    # 10,000 samples: a quarter of an hour of one core
    python benchmarks/evaluation.py --samples 2000     # three minutes
    python benchmarks/evaluation.py --extractor inception --weights weights-inception-2015-12-05-6726825d.pth

Our path draws samples from an interpreter, makes bytes of them, extracts their features, adds them up, and takes the
distance from real images whose statistics are there already. torch-fidelity is given as many images as bytes in memory,
in batches of our size (its default of 64 takes three times as long on a processor), and stops when it has their
features. The two take turns, block by block, so that what else the machine does troubles each alike. Expected: a ratio
of at most 1.1, and no growth of memory.
"""

import resource
from typing import Any

import torch
from common import arguments, record, seconds
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.extractors import EfficientNetLite0, Extractor, Inception, build_extractor
from iin_lightning.metrics.sample_quality import FEW, MANY, SampleQuality, protocol
from iin_lightning.seeding import generator

SIZE, LATENT_DIM = 32, 64
DRAWN = 500  # samples at a time, as eval_batch_size
WARM_UP = 64


class Bytes(Dataset[Tensor]):
    """Images in memory, one by one, as torch-fidelity wants them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> Tensor:
        return self.images[item]


def register(extractor: Extractor) -> str:
    """Make an extractor known to torch-fidelity, and return its name there."""

    class Registered(FeatureExtractorBase):
        """What torch-fidelity asks of an extractor."""

        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.extractor = extractor

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, pixels: Tensor) -> tuple[Tensor]:
            return (self.extractor(pixels),)

    name = f"iin-{extractor.name}"
    register_feature_extractor(name, Registered)
    return name


def interpreter() -> Interpreter:
    """conf/encoder/autoencoder.yaml under conf/flow/default.yaml, untrained: what it draws does not matter here."""
    network = Autoencoder(image_size=SIZE, latent_dim=LATENT_DIM, width=32, norm="batch")
    translator = Translator(LATENT_DIM)
    return Interpreter(network, translator, Factors({"residual": LATENT_DIM}, LATENT_DIM)).eval()


def memory() -> float:
    """MB at the highest so far: of the accelerator if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(samples: int, block: int, extractor_name: str, weights: str | None) -> tuple[Table, dict[str, float]]:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    extractor = build_extractor(extractor_name, weights=weights).to(device)
    theirs = create_feature_extractor(register(extractor), ["features"], cuda=cuda, verbose=False)
    quality = SampleQuality(extractor, protocol("authors2020", count=samples)).to(device)
    batch_size = FEW.get(device.type, MANY)
    quality.statistics["real"].update(torch.rand(2 * extractor.dim, extractor.dim, device=device))
    model = interpreter().to(device)
    draws = generator(0, "samples")
    pixels = torch.randint(256, (block, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator(0, "bytes"))

    def features(n: int) -> None:
        get_featuresdict_from_dataset(Bytes(pixels[:n]), theirs, batch_size, cuda, save_cpu_ram=True, verbose=False)

    def evaluation(n: int) -> None:
        for start in range(0, n, DRAWN):
            quality.update(model.sample(min(DRAWN, n - start), draws), "samples")

    features(WARM_UP)
    evaluation(WARM_UP)
    quality.reset(real=False)
    sizes = [min(block, samples - start) for start in range(0, samples, block)]
    spent, held = {features: 0.0, evaluation: 0.0}, []
    for i, n in enumerate(track(sizes, "Measuring", transient=True)):
        for run in (features, evaluation) if i % 2 else (evaluation, features):
            spent[run] += seconds(lambda run=run, n=n: run(n))
        held.append(memory())
    distance = seconds(quality.compute)
    table = Table(title=f"{samples} samples, {extractor.name} on {device.type}")
    for column in ("", "seconds", "/ features"):
        table.add_column(column, justify="right" if column else "left")
    found = {
        "torch-fidelity, features alone": spent[features],
        "samples, bytes, features, sums": spent[evaluation],
        "the distance": distance,
        "evaluation": spent[evaluation] + distance,
    }
    for name, value in found.items():
        table.add_row(name, f"{value:,.1f}", f"{value / spent[features]:.3f}")
    table.caption = f"peak memory, MB: {held[0]:,.0f} after {sizes[0]} samples, {held[-1] - held[0]:+,.1f} at the end"
    return table, found | {"ratio": found["evaluation"] / spent[features], "growth of memory, MB": held[-1] - held[0]}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--samples", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--block", type=int, default=500, help="samples before the other's turn (default: %(default)s)")
    parser.add_argument("--extractor", choices=(Inception.name, EfficientNetLite0.name), default=EfficientNetLite0.name)
    parser.add_argument("--weights", help="inception's, if they cannot be downloaded")
    options = parser.parse_args()
    # On a busy machine two threads would wait for each other at every layer.
    torch.set_num_threads(1)
    if options.short:
        options.samples, options.block = 500, 125
    table, found = measure(options.samples, options.block, options.extractor, options.weights)
    Console().print(table)
    record(f"evaluation, {options.extractor}", found, options.short)


if __name__ == "__main__":
    main()
