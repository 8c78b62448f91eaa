"""How fast an autoencoder learns before its discriminator starts, beside a step as the authors' code makes it.

    python benchmarks/autoencoder.py

Networks and losses are those of model=autoencoder_adversarial. Their step runs the discriminator on images and
reconstructions from the first step on, with a weight of 0, balances its gradient, and sends its loss back through the
decoder and the encoder, whose reconstructions it does not detach. Ours leaves the discriminator alone until it counts.
Both give the autoencoder the same gradients, which is checked first. The perceptual distance does LPIPS's work with an
untrained VGG-16, since its weights must be downloaded; it is a large part of either step, so that the ratio without it
stands beside.
"""

from functools import partial
from pathlib import Path

import torch
from common import Row, arguments, compare, record, table
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.models import vgg16

from iin_lightning.cli.compose import compose_train
from iin_lightning.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.run import run
from iin_lightning.runs.stages import autoencode
from iin_lightning.runs.store import Store
from iin_lightning.training.autoencode import Autoencode

BATCHES = (25, 100)
TAPS = (4, 9, 16, 23, 30)  # where LPIPS looks: behind the last layer of each of VGG's five parts
RATE, BETAS = 1.125e-4, (0.5, 0.9)


class Perceptual(nn.Module):
    """The work of LPIPS: both images through VGG-16, squared distances of what five layers say."""

    def __init__(self) -> None:
        super().__init__()
        layers = vgg16(weights=None).features
        self.parts = nn.ModuleList(layers[start:end] for start, end in zip((0, *TAPS), TAPS)).requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for part in self.parts:
            x, y = part(x), part(y)
            total = total + (normalize(x) - normalize(y)).square().mean((1, 2, 3))
        return total


def ours(task: Autoencode, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    """What `tasks.autoencode` does in a step, without Lightning."""
    optimizer.zero_grad()
    posterior = task.network.encode(x)
    reconstruction = task.network.decode(posterior.sample())
    terms = task.loss(x, reconstruction, posterior)
    assert task.adversarial.generator_term(reconstruction, terms.nll, task.network.last_layer, step=0) is None
    assert task.adversarial.discriminator_term(x, reconstruction, step=0) is None
    assert torch.isfinite(terms.total)
    terms.total.backward()
    optimizer.step()


class Authors:
    """Their step; both optimizers step last, since torch now forbids to change weights before they are differentiated.

    Before the start every gradient of the discriminator is 0, so the order changes nothing.
    """

    def __init__(self, task: Autoencode) -> None:
        self.network, self.loss, self.discriminator = task.network, task.loss, task.adversarial.discriminator
        self.optimizer = self._adam(nn.ModuleList([self.network, self.loss]))
        self.discriminator_optimizer = self._adam(self.discriminator)

    @staticmethod
    def _adam(module: nn.Module) -> torch.optim.Adam:
        # What torch.optim.Adam was in their time: a loop over parameters.
        return torch.optim.Adam(module.parameters(), lr=RATE, betas=BETAS, foreach=False, fused=False)

    def __call__(self, x: Tensor) -> None:
        factor = 0.0  # before disc_start
        posterior = self.network.encode(x)
        reconstruction = self.network.decode(posterior.sample())
        terms = self.loss(x, reconstruction, posterior)
        real, fake = self.discriminator(x), self.discriminator(reconstruction)
        judged, generated = discriminator_loss(real, fake) * factor, generator_loss(fake)
        weight = adaptive_weight(terms.nll, generated, self.network.last_layer)
        self.discriminator_optimizer.zero_grad()
        judged.backward(retain_graph=True)
        self.optimizer.zero_grad()
        (terms.total + weight * factor * generated).backward()
        self.discriminator_optimizer.step()
        self.optimizer.step()


def build(perceptual: bool) -> tuple[Autoencode, torch.optim.Optimizer]:
    """The task of the recipe, the same weights at every call."""
    torch.manual_seed(0)
    config = compose_train("model=autoencoder_adversarial", "model.loss.perceptual=null")
    task = autoencode(Recipe.of(config), Store(Path(config.paths.models), run, config.seed)).task
    assert isinstance(task, Autoencode)
    if perceptual:
        task.loss.perceptual = Perceptual()
    return task, task.configure_optimizers()["optimizer"]


def check_same(task: Autoencode, optimizer: torch.optim.Optimizer, authors: Authors, x: Tensor) -> None:
    """Stop unless both give the autoencoder the same gradients."""
    for step in (lambda: ours(task, optimizer, x), lambda: authors(x)):
        torch.manual_seed(1)
        step()
    for mine, other in zip(task.network.parameters(), authors.network.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-3 * float(other.grad.abs().max()))


def measure(batches: tuple[int, ...], repeats: int, count: int) -> list[Row]:
    images = torch.rand(max(batches), 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = []
    for perceptual in (True, False):
        task, optimizer = build(perceptual)
        authors = Authors(build(perceptual)[0])
        check_same(task, optimizer, authors, images[: batches[0]])
        for size in batches:
            mine, other = (partial(step, images[:size]) for step in (partial(ours, task, optimizer), authors))
            name = f"autoencoder step, batch {size}{'' if perceptual else ', no perceptual distance'}"
            wanted = 1.6 if perceptual and size == BATCHES[0] else None
            rows.append(compare(name, mine, other, repeats, count, wanted))
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="(default: %(default)s)")
    options = parser.parse_args()
    rows = measure(BATCHES[:1], 3, 2) if options.short else measure(BATCHES, options.repeats, 4)
    Console().print(table("Autoencoder, before the discriminator starts", rows))
    record("autoencoder", rows, options.short)


if __name__ == "__main__":
    main()
