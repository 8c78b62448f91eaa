"""One run from its recipe to its results; `run` is all of it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from iin_lightning.cli.paths import last_checkpoint
from iin_lightning.distributed import is_main_process
from iin_lightning.errors import NonFiniteError
from iin_lightning.metrics.measured import paired
from iin_lightning.plots.style import save
from iin_lightning.printing import quiet, show_files
from iin_lightning.progress import Screen
from iin_lightning.questions import results
from iin_lightning.questions.answer import known, learned, warn
from iin_lightning.questions.subject import Subject, load_model
from iin_lightning.runs.ask import ask_after_training, asked_after_training
from iin_lightning.runs.build import few_images, warn_once
from iin_lightning.runs.folder import CONFIG, CONFIG_RESUMED, record, write_config
from iin_lightning.runs.loggers import build_loggers, finish, log_outcome
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.stages import Stage, build_stage
from iin_lightning.runs.store import Store, seeded
from iin_lightning.training.checkpoints import AtomicCheckpointIO, Checkpoints, KeepBest
from iin_lightning.training.ema import EMA
from iin_lightning.training.pictures import Pictures, log_pictures


def run(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Do all of a training in its folder, going on from a checkpoint in it; what ``results.json`` holds comes back."""
    config, started = recipe.config, time.monotonic()
    _begin(recipe, folder)
    store = Store(Path(config.paths.models), run, config.seed)
    with seeded(config.seed):
        asked = asked_after_training(recipe, store)
        stage = build_stage(recipe, store)
        place = store.place(recipe)  # before the training: images may come and go meanwhile
        images = few_images(recipe.data)
    with _loggers(config, folder) as loggers:
        with seeded(config.seed):
            trainer = _trainer(config, folder, stage, loggers, images)
        checkpoint = last_checkpoint(folder)
        # Checkpoints hold plain values only, so nothing else need be unpickled.
        trainer.fit(stage.task, stage.data, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
        validation = _keep(trainer, stage)
        metrics = dict(trainer.test(stage.task, datamodule=stage.data, verbose=False)[0])
        for task, data in stage.evaluations:
            metrics |= trainer.test(task, datamodule=data, verbose=False)[0]
        outcome: dict[str, Any] = {
            "name": config.name,
            "stage": recipe.stage,
            "metrics": paired(metrics),
            "validation": validation,
            "steps": trainer.global_step,
            "seconds": round(time.monotonic() - started, 1),
            "seed": config.seed,
            "broken_images": recipe.data.broken,
            "skipped_steps": stage.task.skipped,
            **stage.provenance,
        }
        if trainer.is_global_zero:
            _check_finite(stage.task)
            stage.save(folder / "model")
            outcome["figures"] = _draw(trainer, stage, images, folder)
            results.write(outcome, folder)
            show(outcome, folder)
            log_outcome(loggers, outcome, folder)
            if place is not None:
                store.publish(folder, place)
        trainer.strategy.barrier("results")
        if asked:
            ask_after_training(asked, _subject(recipe, store, folder, trainer.strategy.root_device), trainer)
        if trainer.is_global_zero:
            results.finish(folder)
        return outcome


def _begin(recipe: Recipe, folder: Path) -> None:
    """Write down what is done, and let this process take algorithms that give the same bits, if they are asked for."""
    config, origin = recipe.config, recipe.origin
    quiet()
    folder.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        write_config(folder / CONFIG, origin)
        if origin is not config:
            write_config(folder / CONFIG_RESUMED, config)
        for warning in recipe.data.warnings():
            warn_once(warning)
    record(config, folder)
    torch.use_deterministic_algorithms(config.deterministic)
    if config.deterministic:
        torch.backends.cudnn.benchmark = False  # which another job of this process may have left on
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses


@contextmanager
def _loggers(config: DictConfig, folder: Path) -> Iterator[list[Logger]]:
    """The loggers of a run, which are closed as failed if the block is."""
    loggers, failed = build_loggers(config, folder), True
    try:
        yield loggers
        failed = False
    finally:
        finish(loggers, failed)


def _trainer(config: DictConfig, folder: Path, stage: Stage, loggers: list[Logger], images: Tensor) -> Trainer:
    """Lightning's trainer with the callbacks of the group, and those that keep and draw."""
    checkpoint = last_checkpoint(folder)
    callbacks: list[pl.Callback] = [instantiate(callback) for callback in config.callbacks.values()]
    if config.model.keep == "best":
        callbacks.append(KeepBest(checkpoint.parent / "best", stage.task.monitor))
    # After the best weights are known, which it must know of.
    callbacks.append(Checkpoints(checkpoint, config.checkpoint.steps, config.checkpoint.minutes))
    if stage.draw is not None:
        callbacks.append(Pictures(stage.draw, images, folder / "figures"))
    trainer: Trainer = instantiate(
        config.trainer,
        # Which algorithm is the fastest may be another one at the next run.
        benchmark=config.trainer.benchmark and not config.deterministic,
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        # Where Lightning looks under SLURM for states of its own: not those that another project left here.
        default_root_dir=str(folder),
        enable_checkpointing=True,
    )
    return trainer


def _keep(trainer: Trainer, stage: Stage) -> dict[str, float]:
    """Let the task hold the weights to keep, also where a run goes on after its last step; their held-out loss."""
    callbacks = {type(callback): callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
    loss = callbacks[Checkpoints].validation.get(stage.task.monitor)
    if (average := callbacks.get(EMA)) is not None:
        average.show(stage.task)
    if (best := callbacks.get(KeepBest)) is not None and best.best_model_score is not None:
        best.restore(stage.task)
        loss = float(best.best_model_score)
    return {} if loss is None else {stage.task.monitor: loss}


def _subject(recipe: Recipe, store: Store, folder: Path, device: torch.device) -> Subject:
    network, cache = load_model(folder / "model").to(device), Path(recipe.config.paths.cache)
    judge = store.judges(recipe, device)
    return Subject(folder, network, recipe.data, judge, cache, out=folder, concept=recipe.concept)


def _check_finite(task: nn.Module) -> None:
    """Let no broken network into the model store, where every later run would find it."""
    for name, parameter in task.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NonFiniteError(
                f"After training, {name} has values that are not finite, so the model is not saved: train with a "
                "lower model.lr or model.gradient_clip."
            )


def _draw(trainer: Trainer, stage: Stage, images: Tensor, folder: Path) -> list[str]:
    """Draw what the stage shows; the files within the run folder."""
    if stage.draw is None:
        return []
    stage.task.cpu().eval()
    paths = {name: save(figure, folder / "figures" / f"{name}.png") for name, figure in stage.draw(images).items()}
    log_pictures(trainer.loggers, paths, trainer.global_step)
    return [path.relative_to(folder).as_posix() for path in paths.values()]


def show(outcome: dict[str, Any], folder: Path) -> None:
    """Print the metrics, the paths of the pictures and the model's folder, and factors that are not to be believed."""
    console, metrics = Screen(markup=False), outcome["metrics"]
    console.print(results.metrics_table(outcome["name"], metrics))
    if transfer := results.transfer_scores(metrics):
        console.print(results.transfer_table(transfer))
    pictures = [("picture", folder / figure) for figure in outcome.get("figures", [])]
    show_files([*pictures, ("model", folder / "model"), ("results", folder / results.FILE)], console)
    warn(known(learned(outcome, outcome.get("factors", ()))), folder)
