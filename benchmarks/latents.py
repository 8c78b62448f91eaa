"""What cached latents cost: encoding them, opening them again, and drawing a batch from few or many.

    python benchmarks/latents.py

* Building is compared with what nobody can save: the encoder alone, on images that lie ready as batches.
* Opening includes the comparison of every byte with its checksum; the file is in the page cache.
* A batch is drawn from a million latents and from ten thousand, mapped from a file and in main memory. The steps go
  on and on, so that each epoch's permutation is counted in. What remains is the price of memory that no processor
  cache holds.

All take turns; a figure is the median of the repeats, and a ratio the median of the ratios within a repeat.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count as counter
from pathlib import Path

import torch
from common import Row, Run, arguments, compare, record, row, table, take_turns
from rich.console import Console
from torch.utils.data import Dataset

from iin_lightning.cache import Cache
from iin_lightning.data.color_mnist import ColoredDigits, draw_palette
from iin_lightning.data.latents import Encoded, Encoding, LatentCache, kept_latents
from iin_lightning.data.stream import Pairs, Singles
from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.factors import Factors
from iin_lightning.seeding import generator

LATENT_DIM = 64
VIEWS = 240_000  # four of each of MNIST's digits
ENCODE_BATCH = 512
BATCH = 128
FEW, MANY = 10_000, 1_000_000
OPENING = 0.2  # seconds that opening all views may take
CONCEPTS = ("digit", "color")
KEPT = ("Latents", "measure fewer")
FACTORS = Factors({"residual": 32, "digit": 16, "color": 16}, latent_dim=LATENT_DIM)


class MadeUp:
    """Latents of as many items as one likes, a part at a time."""

    concepts = CONCEPTS

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_bytes = n * (8 * LATENT_DIM + 16)

    def after(self, done: int) -> Iterator[Encoded]:
        key = generator("made up")
        for items in torch.arange(self.n).split(10_000):
            mean, scale = torch.randn(2, len(items), LATENT_DIM, generator=key)
            labels = torch.stack([items % 10, torch.randint(1000, items.shape, generator=key)], dim=1)
            yield Encoded(mean, scale.abs(), labels)


def building(n: int, folder: Path, repeats: int) -> Row:
    """Against the encoder alone, on the same images."""
    key = generator("digits")
    digits = torch.randint(256, (n // 4, 32, 32), dtype=torch.uint8, generator=key)
    source = ColoredDigits(digits, torch.arange(n // 4) % 10, draw_palette(1000, 0.5, key), views=4, generator=key)
    torch.manual_seed(0)
    encoder = Autoencoder(image_size=32, channels=3, latent_dim=LATENT_DIM, width=32).eval()
    batches = [source.draw(items, key) for items in torch.arange(n).split(ENCODE_BATCH)]
    runs = counter()

    def build() -> None:
        encoding = Encoding(source, encoder, training=True, seed=0, batch_size=ENCODE_BATCH)
        kept_latents(Cache(folder, *KEPT), f"built {next(runs)}", encoding)

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            encoder.encode(batch)

    return compare(f"encoding {n:,} views to disk, against the encoder alone", build, forward, repeats, 1, wanted=0.9)


def opening(folder: Path, repeats: int) -> Row:
    """Against the seconds that it may take."""
    kept_latents(Cache(folder, *KEPT), "views", MadeUp(VIEWS))
    taken = take_turns({"ours": lambda: Cache(folder, *KEPT).find("views")}, repeats)
    taken["theirs"] = [OPENING] * repeats
    return row(f"opening {VIEWS:,} latents, against {OPENING} s", taken, wanted=1.0)


def steps(folder: Path, repeats: int, count: int) -> list[Row]:
    """The batches of few latents against those of many."""
    caches: dict[tuple[str, int], LatentCache] = {}
    for n in (FEW, MANY):
        mapped = kept_latents(Cache(folder, *KEPT), f"{n}", MadeUp(n))
        caches["mapped", n] = mapped
        tensors = (mapped.mean.clone(), mapped.scale.clone(), mapped.labels.clone())
        caches["in memory", n] = LatentCache(*tensors, concepts=CONCEPTS)
    rows = []
    for name, stream in (("singles", Singles), ("pairs", partial(Pairs, factors=FACTORS))):
        for place in ("mapped", "in memory"):
            runs = {
                side: going_on(stream(caches[place, n], batch_size=BATCH, seed=0))
                for side, n in (("ours", MANY), ("theirs", FEW))
            }
            taken = take_turns(runs, repeats, count)
            rows.append(row(f"{BATCH} {name} of {MANY:,} {place}, against {FEW:,}", taken, wanted=0.6))
    return rows


def going_on(stream: Dataset[object]) -> Run:
    """The next step at each call."""
    number = counter()
    return lambda: stream[next(number)]


def measure(n: int, repeats: int, count: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        return [building(n, folder, repeats), opening(folder, repeats), *steps(folder, repeats, count)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="(default: %(default)s)")
    options = parser.parse_args()
    rows = measure(2048, 4, 200) if options.short else measure(8192, options.repeats, 1000)
    Console().print(table("Latents", rows))
    record("latents", rows, options.short)


if __name__ == "__main__":
    main()
