"""One run from configuration to results: require what must be trained before, fit, test, draw, write down."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from torch import Tensor, nn

from iin_lightning import serialization
from iin_lightning.cli.paths import last_checkpoint
from iin_lightning.data.module import DataModule
from iin_lightning.distributed import is_main_process
from iin_lightning.errors import ConfigError, NonFiniteError
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.measured import paired
from iin_lightning.plots.style import save
from iin_lightning.printing import quiet
from iin_lightning.progress import printable
from iin_lightning.questions import results
from iin_lightning.questions.learned import known, learned, warn
from iin_lightning.questions.subject import Subject, load_model
from iin_lightning.runs import provenance
from iin_lightning.runs.beyond import beyond, questions
from iin_lightning.runs.build import be_deterministic, build_trainer, check_trainer
from iin_lightning.runs.checks import check_numbers, few_images, warn_once
from iin_lightning.runs.loggers import build_loggers, finish, log_outcome
from iin_lightning.runs.outside import trained_outside
from iin_lightning.runs.recipes import WISHES, recipe
from iin_lightning.runs.resume import CONFIG, CONFIG_RESUMED, write
from iin_lightning.runs.stages import Stage, build_stage
from iin_lightning.runs.store import ModelStore
from iin_lightning.training.checkpoints import Checkpoints, KeepBest
from iin_lightning.training.ema import EMA
from iin_lightning.training.pictures import Pictures, log_pictures

# Networks that a later run may need: they go into the model store.
PUBLISHED = ("autoencode", "classify", "head")


def run(config: DictConfig, folder: Path, origin: DictConfig) -> dict[str, Any]:
    """Do everything that a run does, in its folder; where a checkpoint lies in it, go on from there.

    Args:
        config: what to do.
        folder: of the run.
        origin: what the run began with, another one if it is resumed with other values: the recipe of the networks
            that it needs.

    Returns:
        What ``results.json`` holds.
    """
    started = time.monotonic()
    quiet()
    _check(config, origin)
    folder.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        for name, said in {CONFIG: origin, CONFIG if origin is config else CONFIG_RESUMED: config}.items():
            write(folder / name, said)
    provenance.record(config, folder)
    be_deterministic(config.deterministic)  # before the trainer is, since much is computed for it
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data: DataModule = instantiate(config.data)
    data.batch_size = config.model.batch_size
    for warning in data.warnings() if is_main_process() else ():
        warn_once(warning)

    def required(role: str, concept: str | None = None) -> nn.Module:
        network = require(origin, role, concept, data)
        # What is built next starts from the seed, whether that network was trained now or found in the store.
        pl.seed_everything(config.seed, workers=True, verbose=False)
        return network

    asked = questions(config, data, required)
    stage = build_stage(config, data, required)
    store = ModelStore(Path(config.paths.models))
    # Known before it is trained: images may come and go meanwhile.
    places = [store.folder(each, data) for each in (origin, config) if config.model.stage in PUBLISHED]
    loggers, failed = build_loggers(config, folder), True
    try:
        trainer, images = _trainer(config, folder, stage, loggers, data)
        checkpoint = last_checkpoint(folder)
        pl.seed_everything(config.seed, workers=True, verbose=False)
        # Our checkpoints hold plain values only, so nothing else need be unpickled.
        trainer.fit(stage.task, stage.data, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
        validation = _finish(trainer, stage)
        metrics = paired(_test(trainer, stage))
        outcome: dict[str, Any] = {
            "name": config.name,
            "stage": config.model.stage,
            "metrics": metrics,
            "validation": validation,
            "steps": trainer.global_step,
            "seconds": round(time.monotonic() - started, 1),
            "seed": config.seed,
            "broken_images": data.broken,
            "skipped_steps": stage.task.skipped,
            **stage.provenance,
        }
        if trainer.is_global_zero:
            _check_finite(stage.task)
            stage.save(folder / "model")
            figures = _draw(trainer, stage, images, folder / "figures")
            outcome["figures"] = [path.relative_to(folder).as_posix() for path in figures.values()]
            results.write(outcome, folder)
            results.show(outcome, folder)
            warn(known(learned(outcome, outcome.get("factors", ()))), folder)
            log_outcome(loggers, outcome, folder)
            # A model that was resumed with other values is that of no recipe.
            if len(set(places)) == 1 and config.data == origin.data:
                store.publish(folder, places[0])
        trainer.strategy.barrier("results")
        if asked:
            network = load_model(folder / "model").to(trainer.strategy.root_device)
            beyond(
                asked, Subject(folder, network, data, origin, Path(config.paths.cache), require, out=folder), trainer
            )
        if trainer.is_global_zero:
            results.finish(folder)
        failed = False
        return outcome
    finally:
        finish(loggers, failed)


def _check(config: DictConfig, origin: DictConfig) -> None:
    """Find mistakes of a recipe, and of those that it needs, before anything is trained."""
    check_numbers(config.model, "model")
    for role, key in WISHES.items():
        if (needed := recipe(origin, role)) is not None:
            check_numbers(needed.model, f"{key}.model")
    check_trainer(config.trainer)


def _check_finite(task: nn.Module) -> None:
    """Let no broken network into the model store, where every later run would find it."""
    for name, parameter in task.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NonFiniteError(
                f"After training, {name} has values that are not finite, so the model is not saved: train with a "
                "lower model.lr or model.gradient_clip."
            )


def _trainer(
    config: DictConfig, folder: Path, stage: Stage, loggers: list[Any], data: DataModule
) -> tuple[Trainer, Tensor]:
    checkpoint = last_checkpoint(folder)
    images = few_images(data)
    callbacks: dict[str, pl.Callback] = {}
    if config.model.keep == "best":
        callbacks["best"] = KeepBest(checkpoint.parent / "best", stage.task.monitor)
    # After the best weights are known, which it must know of.
    callbacks["checkpoint"] = Checkpoints(checkpoint, config.checkpoint.steps, config.checkpoint.minutes)
    if stage.draw is not None:
        callbacks["pictures"] = Pictures(stage.draw, images, folder / "figures")
    return build_trainer(config, loggers, callbacks, folder), images


def _finish(trainer: Trainer, stage: Stage) -> dict[str, float]:
    """Let the task hold the weights to keep, also where a run goes on after its last step; their held-out loss."""
    callbacks = {type(callback): callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
    loss = callbacks[Checkpoints].validation.get(stage.task.monitor)
    if (average := callbacks.get(EMA)) is not None:
        average.show(stage.task)
    if (best := callbacks.get(KeepBest)) is not None and best.best_model_score is not None:
        best.restore(stage.task)
        loss = float(best.best_model_score)
    return {} if loss is None else {stage.task.monitor: loss}


def _test(trainer: Trainer, stage: Stage) -> dict[str, float]:
    metrics = dict(trainer.test(stage.task, datamodule=stage.data, verbose=False)[0])
    for task, data in stage.evaluations:
        metrics |= trainer.test(task, datamodule=data, verbose=False)[0]
    return metrics


def _draw(trainer: Trainer, stage: Stage, images: Tensor, folder: Path) -> dict[str, Path]:
    if stage.draw is None:
        return {}
    stage.task.cpu().eval()
    paths = {name: save(figure, folder / f"{name}.png") for name, figure in stage.draw(images).items()}
    log_pictures(trainer.loggers, paths, trainer.global_step)
    return paths


def require(config: DictConfig, role: str, concept: str | None = None, data: DataModule | None = None) -> nn.Module:
    """The encoder, or the judge of a concept, of a run: from a folder, from outside, from the store, or trained now.

    Args:
        config: of the run.
        role: "encoder" or "judge".
        concept: of the judge.
        data: of the run; made of its configuration where they are not at hand.

    Raises:
        ConfigError: the configuration says of no way to get it.
    """
    path = config[WISHES[role]].get("path")
    if path is not None:
        model = load_model(Path(path))
        return model.encoder if isinstance(model, Interpreter) else model
    needed = recipe(config, role, concept)
    if needed is None and role == "encoder":
        return trained_outside(config, instantiate(config.data) if data is None else data)
    if needed is None:
        raise ConfigError(
            "This run needs a trained judge, but says neither how to train it (judge.recipe) nor where it lies "
            "(judge.path=<model folder>)."
        )
    if data is None or "data" in config[WISHES[role]]:
        data = instantiate(needed.data)
    store = ModelStore(Path(config.paths.models))
    folder = store.folder(needed, data)

    def train(place: Path) -> None:
        if is_main_process():
            print(printable(f"Training the {role}{f' of {concept}' if concept else ''} first ({place})."))
        run(needed, place, needed)

    return serialization.load(store.get(folder, train))
