"""How soon the defaults explain held-out pairs as well as the authors' flow does after twenty minutes.

    python benchmarks/time_to_quality.py                                       # the digits inside the package
    python benchmarks/time_to_quality.py --data data                           # all of MNIST
    python benchmarks/time_to_quality.py --data data model.steps=20000         # how far ours gets in as long
    python benchmarks/time_to_quality.py --data data flow.hidden=192 model.batch_size=512

Both translators explain the same autoencoder (trained first, where the model store lacks it) in the same factors. Ours
is trained by Lightning as conf/ says, with whatever is overridden; its clock starts before the data are read. The
baseline is `translator.AuthorsFlow` with flow=paper's sizes at the authors' settings: batches of 25 pairs, encoded at
every step and in two passes, Adam at 1.125e-4 as a loop over parameters, a bare loop around it. The clocks stand still
while likelihoods and transfers are measured, and none counts the autoencoder or the classifier that reads the digits.

The curves are written as CSV and PNG. The first look that is no worse than the baseline's last one counts as reaching
it, so that the ratios, by likelihood and by transfer, are rather too small. Likelihoods are those of pairs, on which
the baseline trains and ours by default does not (model.loss._target_=iin_lightning.losses.likelihood.PairLikelihood).
"""

import csv
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from common import arguments, machine, record
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import nn
from translator import FEW, Authors, AuthorsFlow

from iin_lightning.cli.compose import compose_train
from iin_lightning.data.module import DataModule
from iin_lightning.data.stream import Pairs
from iin_lightning.interpreter import Interpreter
from iin_lightning.plots.style import COLORS, save, style
from iin_lightning.printing import quiet
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.run import run
from iin_lightning.runs.stages import Stage, build_stage
from iin_lightning.runs.store import Store
from iin_lightning.training.ema import EMA

WANTED = 25.0
LOOKS = {"ours": 36, "baseline": 12}
LOOKS_SHORT = {"ours": 6, "baseline": 2}
SWAPS = 4  # batches of 500, but for the last look, which takes them all
SHORT = (
    "data.limit=1000",
    "model.steps=120",
    "model.warmup=20",
    "+first_stage.model.steps=60",
    "+first_stage.model.val_every=60",
    "+judge.model.steps=60",
    "+judge.model.val_every=60",
)


@dataclass(frozen=True)
class Point:
    """What a look found: nats per dimension of held-out pairs, and the shares of digits that swaps carry."""

    seconds: float
    steps: int
    nats: float
    digit_transfer: float
    digit_bound: float


class Curve:
    """A training's clock, which stands still during looks, and what they find."""

    def __init__(self, stage: Stage, flow: nn.Module, name: str, since: float | None = None) -> None:
        self.loss, self.flow, self.name = stage.task.loss, flow, name
        self.held_out = list(stage.data.val_dataloader())
        self.transfer, swaps = stage.evaluations[0][0].transfer, stage.evaluations[0][1]
        self.swaps = swaps.test_dataloader()
        interpreter = stage.task.interpreter
        self.interpreter = Interpreter(interpreter.encoder, flow, interpreter.factors)
        self.points: list[Point] = []
        self._spent, self._since = 0.0, time.perf_counter() if since is None else since

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return self._spent + time.perf_counter() - self._since

    @torch.no_grad()
    def look(self, steps: int, last: bool = False) -> None:
        self._spent = self.seconds
        was_training = self.flow.training
        self.flow.eval()
        nll = torch.cat([self.loss(self.flow, batch) for batch in self.held_out]).double().mean().item()
        nats = nll / (2 * self.interpreter.factors.latent_dim)
        self.transfer.reset()
        for target, source, images in islice(self.swaps, None if last else SWAPS):
            self.transfer.update(self.interpreter, *target, *source, images)
        scores = self.transfer.compute()
        self.flow.train(was_training)
        found = (scores["digit/digit"].value, scores["digit/reconstruction"].value)
        self.points.append(Point(self._spent, steps, nats, *found))
        Console().print(f"{self.name}: {self._spent:7.1f} s, {steps:6} steps, {nats:.3f} nats, digit {found[0]:.3f}")
        self._since = time.perf_counter()


class Looks(pl.Callback):
    """Looks at even distances, the last one at the end, at the average of the weights where a run keeps one."""

    def __init__(self, curve: Curve, steps: int, looks: int) -> None:
        self.curve, self.steps = curve, steps
        self.every = max(1, steps // looks)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step % self.every == 0 or step == self.steps:
            average = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)
            if average is not None:
                average.show(pl_module)
            self.curve.look(step, last=step == self.steps)
            if average is not None:
                average.put_back(pl_module)


def build(config: DictConfig) -> tuple[Stage, DataModule]:
    pl.seed_everything(config.seed, verbose=False)
    recipe = Recipe.of(config)
    return build_stage(recipe, Store(Path(config.paths.models), run, config.seed)), recipe.data


def train_baseline(config: DictConfig, seconds: float, looks: int) -> list[Point]:
    stage, data = build(config)
    factors, encoder = stage.task.interpreter.factors, stage.task.interpreter.encoder
    flow = AuthorsFlow(encoder.latent_dim)
    authors = Authors(flow, encoder, factors)
    pairs = Pairs(data.source("train"), factors, FEW, config.seed)
    curve = Curve(stage, flow, "baseline")
    step = 0
    for number in range(1, looks + 1):
        while step == 0 or curve.seconds < seconds * number / looks:
            authors.pair_step(pairs[step])
            step += 1
        curve.look(step, last=number == looks)
    return curve.points


def train_ours(config: DictConfig, looks: int) -> list[Point]:
    since = time.perf_counter()
    stage, _ = build(config)
    curve = Curve(stage, stage.task.interpreter.translator, "ours", since)
    averages = [instantiate(config.callbacks.ema)] if "ema" in config.callbacks else []
    trainer = instantiate(
        config.trainer,
        logger=False,
        callbacks=[*averages, Looks(curve, config.model.steps, looks)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    trainer.fit(stage.task, stage.data)
    return curve.points


def draw(ours: Sequence[Point], baseline: Sequence[Point]) -> Figure:
    with style():
        figure = Figure(figsize=(6.5, 2.6), layout="constrained")
        likelihood, transfer = figure.subplots(1, 2)
        for name, points, color in (("ours", ours, COLORS[1]), ("the authors' flow and settings", baseline, COLORS[2])):
            seconds = [point.seconds for point in points]
            likelihood.plot(seconds, [point.nats for point in points], color=color, label=name, marker=".")
            transfer.plot(seconds, [point.digit_transfer for point in points], color=color, marker=".")
        likelihood.axhline(baseline[-1].nats, color=COLORS[0], linestyle=":")
        transfer.axhline(ours[-1].digit_bound, color=COLORS[0], linestyle=":", label="plain reconstructions")
        likelihood.set_ylabel("nats per dimension, held out")
        transfer.set_ylabel("digits carried by a swap")
        transfer.legend(frameon=False)
        for axes in (likelihood, transfer):
            axes.set_xscale("log")
            axes.set_xlabel("seconds")
        figure.legend(*likelihood.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def write(curves: dict[str, list[Point]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "time_to_quality.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["curve", *(field.name for field in fields(Point))])
        writer.writeheader()
        writer.writerows({"curve": name} | asdict(point) for name, points in curves.items() for point in points)
    save(draw(curves["ours"], curves["baseline"]), folder / "time_to_quality.png")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="folder of MNIST; default: the digits inside the package")
    parser.add_argument("--encoder", type=Path, help="model folder of a trained autoencoder; default: from the store")
    parser.add_argument("--minutes", type=float, default=20.0, help="that the baseline gets (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder of the curves (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of ours, as for iin_lightning.train")
    options = parser.parse_intermixed_args()
    quiet()
    with tempfile.TemporaryDirectory() as scratch:
        chosen = ["model=sup"]
        chosen += (
            ["data=color_mnist_mini"] if options.data is None else ["data=color_mnist", f"paths.data={options.data}"]
        )
        chosen += [] if options.encoder is None else [f"first_stage.path={options.encoder}"]
        chosen += [*SHORT, f"paths.models={scratch}"] if options.short else []
        looks = LOOKS_SHORT if options.short else LOOKS
        seconds = 6.0 if options.short else 60 * options.minutes
        curves = {}
        # Each has latents of its own to encode. The baseline comes first: its networks wait in the store for ours.
        for name, train in (("baseline", partial(train_baseline, seconds=seconds)), ("ours", train_ours)):
            config = compose_train(*chosen, *options.overrides, f"paths.cache={scratch}/{name}")
            curves[name] = train(config, looks=looks[name])
    write(curves, options.out)
    ours, baseline = curves["ours"], curves["baseline"][-1]
    reached = {
        "likelihood": next((point for point in ours if point.nats <= baseline.nats), None),
        "transfer": next((point for point in ours if point.digit_transfer >= baseline.digit_transfer), None),
    }
    found = {
        "baseline, at the end": baseline,
        **{f"ours, at its {measure}": point for measure, point in reached.items()},
        "ours, at the end": ours[-1],
    }
    table = Table(title="Time to the baseline's quality", caption=", ".join(f"{k} {v}" for k, v in machine().items()))
    for column in ("", "seconds", "steps", "nats/dim", "digit", "its bound"):
        table.add_column(column, justify="right" if column else "left")
    for name, point in found.items():
        if point is not None:
            bounds = (f"{value:.3f}" for value in (point.nats, point.digit_transfer, point.digit_bound))
            table.add_row(name, f"{point.seconds:,.1f}", f"{point.steps:,}", *bounds)
    Console().print(table)
    ratios = {measure: point and baseline.seconds / point.seconds for measure, point in reached.items()}
    for measure, ratio in ratios.items():
        said = "none: ours did not get there" if ratio is None else f"{ratio:.1f}"
        Console().print(f"ratio by {measure} {said}, wanted >= {WANTED:g}")
    points = {name: None if point is None else asdict(point) for name, point in found.items()}
    record("time to quality", points | {"ratios": ratios, "wanted": WANTED, "ours": options.overrides}, options.short)


if __name__ == "__main__":
    main()
