"""How fast a translator learns and samples beside one that works as the authors' code does (flow=paper, float32).

    python benchmarks/translator.py

The baseline has the same parameters and, given the same weights, the same output, which is checked first. It works as
the authors describe: a network of `nn.Linear` layers for each scale and each shift, Adam as a loop over parameters, an
image encoded at every step, the two halves of a pair in two passes. What the authors do beside is left out of it:
reading and drawing images, and what they log. Ours takes latents from the cache, whose making `time_to_quality.py`
counts. Neither clips gradients, as the authors do not; a row of its own says what our recipe's clipping costs.
"""

import torch
from common import Row, arguments, compare, ratio, record, row, table, take_turns
from hydra.utils import instantiate
from rich.console import Console
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from iin_lightning.cli.compose import compose_train
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.stream import Pairs, Singles
from iin_lightning.encoders.base import Encoder
from iin_lightning.factors import Factors, PairBatch
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.losses.likelihood import MarginalLikelihood, PairLikelihood, pair_nll, standard_normal_nll

LATENT_DIM, SIZE = 64, 32
LATENTS = 60_000
FEW, MANY = 25, 256
RATE, BETAS = 4.5e-6 * FEW, (0.5, 0.9)  # the authors'
SIDE = 2048  # of the matrices whose product shows the machine's peak


class AuthorsBlock(nn.Module):
    """ActNorm on (B, N, 1, 1), two couplings between which the halves change places, and a shuffle."""

    def __init__(self, dim: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.register_buffer("initialized", torch.tensor(False))
        self.scales = nn.ModuleList(_network(dim // 2, hidden, depth, tanh=True) for _ in range(2))
        self.shifts = nn.ModuleList(_network(dim // 2, hidden, depth, tanh=False) for _ in range(2))
        self.register_buffer("order", torch.randperm(dim))
        self.register_buffer("order_back", torch.argsort(self.order))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.initialized.item():
            self.loc.data.copy_(-x.mean(0)[None, :, None, None])
            self.scale.data.copy_(1 / (x.std(0) + 1e-6)[None, :, None, None])
            self.initialized.fill_(True)
        logdet = self.scale.abs().log().sum() * torch.ones(len(x))
        x = (self.scale * (x[:, :, None, None] + self.loc)).flatten(1)
        for scale, shift in zip(self.scales, self.shifts):
            kept, moved = x.chunk(2, dim=1)
            log_scale = scale(kept)
            x = torch.cat([moved * log_scale.exp() + shift(kept), kept], dim=1)
            logdet = logdet + log_scale.sum(1)
        return x[:, self.order], logdet

    def inverse(self, y: Tensor) -> Tensor:
        y = y[:, self.order_back]
        for scale, shift in zip(reversed(self.scales), reversed(self.shifts)):
            moved, kept = y.chunk(2, dim=1)
            y = torch.cat([kept, (moved - shift(kept)) * scale(kept).neg().exp()], dim=1)
        return (y[:, :, None, None] / self.scale - self.loc).flatten(1)


class AuthorsFlow(nn.Module):
    """The translator as the authors build it."""

    def __init__(self, dim: int = LATENT_DIM, n_blocks: int = 12, hidden: int = 512, depth: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AuthorsBlock(dim, hidden, depth) for _ in range(n_blocks))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        logdet = torch.zeros(len(z))
        for block in self.blocks:
            z, step = block(z)
            logdet = logdet + step
        return z, logdet

    def inverse(self, z_tilde: Tensor) -> tuple[Tensor, None]:
        """In the form that an interpreter expects; theirs has no log-determinant in this direction."""
        for block in reversed(self.blocks):
            z_tilde = block.inverse(z_tilde)
        return z_tilde, None

    @torch.no_grad()
    def copy_weights(self, translator: Translator) -> None:
        """Become the same function as one of our translators."""
        for block, ours in zip(self.blocks, translator.blocks, strict=True):
            block.loc.copy_(ours.actnorm.layer.loc[None, :, None, None])
            block.scale.copy_(ours.actnorm.layer.log_scale.exp()[None, :, None, None])
            block.initialized.fill_(True)
            block.order.copy_(ours.permutation.index)
            block.order_back.copy_(torch.argsort(ours.permutation.index))
            for i, coupling in enumerate((ours.coupling_1, ours.coupling_2)):
                for head, network in enumerate((block.scales[i], block.shifts[i])):
                    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
                    weights, biases = coupling.conditioner.weights, coupling.conditioner.biases
                    for linear, weight, bias in zip(linears, weights, biases, strict=True):
                        linear.weight.copy_(weight[head].T)
                        linear.bias.copy_(bias[head])


def _network(dim: int, hidden: int, depth: int, tanh: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(dim, hidden), nn.LeakyReLU()]
    for _ in range(depth):
        layers += [nn.Linear(hidden, hidden), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, dim), *([nn.Tanh()] if tanh else []))


class Authors:
    """Their training: the flow, its optimizer, and the encoder that each step asks."""

    def __init__(self, flow: AuthorsFlow, encoder: Encoder, factors: Factors) -> None:
        self.flow, self.encoder, self.factors = flow, encoder.eval(), factors
        # What torch.optim.Adam was in their time: a loop over parameters.
        self.optimizer = torch.optim.Adam(flow.parameters(), lr=RATE, betas=BETAS, foreach=False, fused=False)

    def encode(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.encoder.encode(images).sample()

    def step(self, z: Tensor) -> None:
        self._descend(standard_normal_nll(*self.flow(z)))

    def pair_step(self, pairs: PairBatch) -> None:
        """One step on pairs of images."""
        (a, logdet_a), (b, logdet_b) = (self.flow(self.encode(images)) for images in (pairs.a, pairs.b))
        self._descend(pair_nll(a, b, logdet_a, logdet_b, self.factors.expand(pairs.shared), rho=0.975))

    def _descend(self, nll: Tensor) -> None:
        self.optimizer.zero_grad()
        nll.mean().backward()
        self.optimizer.step()


class Ours:
    """What `tasks.interpret` does in a step, without Lightning; the optimizer is that of conf/."""

    def __init__(self, translator: Translator, factors: Factors) -> None:
        self.translator = translator
        self.singles, self.pairs = MarginalLikelihood(), PairLikelihood(factors)
        config = compose_train("model=unsup", f"model.lr={RATE}", f"model.betas={list(BETAS)}")
        self.clip = config.model.gradient_clip
        self.optimizer = instantiate(config.optimizer)(translator.parameters())

    def step(self, batch: Tensor | PairBatch, clip: bool = False) -> None:
        loss = (self.pairs if isinstance(batch, PairBatch) else self.singles)(self.translator, batch).mean()
        assert torch.isfinite(loss)
        self.optimizer.zero_grad()
        loss.backward()
        if clip:
            clip_grad_norm_(self.translator.parameters(), self.clip)
        self.optimizer.step()


def check_same(ours: nn.Module, theirs: nn.Module, z: Tensor) -> None:
    """Stop unless both have equally many parameters, and give the same in both directions."""
    counts = [sum(parameter.numel() for parameter in flow.parameters()) for flow in (ours, theirs)]
    assert counts[0] == counts[1], f"ours has {counts[0]} parameters, theirs {counts[1]}"
    with torch.no_grad():
        outputs = ours(z), theirs(z)
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(*(flow.inverse(outputs[0][0])[0] for flow in (ours, theirs)), rtol=1e-3, atol=1e-3)


def measure(repeats: int, few_count: int, many_count: int) -> list[Row]:
    torch.manual_seed(0)
    factors = Factors({"residual": 32, "digit": 16, "color": 16}, LATENT_DIM)
    labels = torch.stack([torch.randint(10, (LATENTS,)), torch.randint(512, (LATENTS,))], dim=1)
    cache = LatentCache(torch.randn(LATENTS, LATENT_DIM), torch.rand(LATENTS, LATENT_DIM), labels, factors.concepts)
    singles, pairs = Singles(cache, FEW, seed=0), Pairs(cache, factors, FEW, seed=0)
    # What the encoder has learned does not matter here.
    encoder = instantiate(compose_train("encoder=autoencoder_paper").encoder, channels=3, image_size=SIZE).eval()
    translator = instantiate(compose_train("flow=paper").flow, dim=LATENT_DIM)
    translator.initialize(cache.mean[:1024])
    flow = AuthorsFlow()
    flow.copy_weights(translator)
    check_same(translator, flow, cache.mean[:MANY])
    ours, theirs = Ours(translator, factors), Authors(flow, encoder, factors)
    interpreter = Interpreter(encoder, translator, factors)

    few, many = cache.mean[:FEW], cache.mean[:MANY]
    images = PairBatch(*torch.rand(2, FEW, 3, SIZE, SIZE) * 2 - 1, pairs[0].shared)
    steps = iter(range(1_000_000))

    def inverse(which: nn.Module) -> None:
        with torch.no_grad():
            which.inverse(many)

    def their_samples() -> None:
        with torch.no_grad():
            encoder.decode(flow.inverse(torch.randn(MANY, LATENT_DIM))[0])

    def few_row(name: str, our_run: object, their_run: object, wanted: float | None = None) -> Row:
        return compare(name, our_run, their_run, repeats, few_count, wanted)

    def their_step() -> None:
        theirs.step(few)

    rows = [
        few_row(f"translator step, batch {FEW}", lambda: ours.step(few), their_step, 1.75),
        few_row("  with our gradient clipping", lambda: ours.step(few, clip=True), their_step),
        few_row(
            f"full unsupervised step, batch {FEW}",
            lambda: ours.step(singles[next(steps)].x),
            lambda: theirs.step(theirs.encode(images.a)),
            2.0,
        ),
        few_row(
            f"pair step, {FEW} pairs", lambda: ours.step(pairs[next(steps)]), lambda: theirs.pair_step(images), 2.2
        ),
    ]
    left, right = torch.randn(2, SIDE, SIDE)
    runs = {
        "ours": lambda: ours.step(many),
        "theirs": lambda: theirs.step(many),
        "product": lambda: torch.mm(left, right),
    }
    taken = take_turns(runs, repeats, many_count)
    rows.append(row(f"translator step, batch {MANY}", taken, 1.25))
    # A multiply-add is two operations, and happens once forward and twice backward.
    weights = sum(layer.weight.numel() for layer in flow.modules() if isinstance(layer, nn.Linear))
    scale = 6 * weights * MANY / (2 * SIDE**3)
    for name, wanted in (("ours", 0.70), ("theirs", None)):
        share = scale * ratio(taken["product"], taken[name])
        rows.append(Row(f"  share of the matmul peak, {name}", share, wanted))
    rows.append(
        compare(f"inverse, {MANY}", lambda: inverse(translator), lambda: inverse(flow), repeats, 2 * many_count)
    )
    rows.append(
        compare(f"samples, decoded, {MANY}", lambda: interpreter.sample(MANY), their_samples, repeats, many_count)
    )
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="(default: %(default)s)")
    options = parser.parse_args()
    rows = measure(3, 2, 1) if options.short else measure(options.repeats, 8, 3)
    Console().print(table("Translator, flow=paper", rows))
    record("translator", rows, options.short)


if __name__ == "__main__":
    main()
