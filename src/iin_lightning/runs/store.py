"""The store of models: the only way from a run to another network, which is trained once and used by all runs."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything
from torch import Tensor, nn

from iin_lightning import serialization
from iin_lightning.disk import check_writable, locked
from iin_lightning.distributed import is_main_process, job_name
from iin_lightning.encoders.cut import Cut
from iin_lightning.encoders.reductions import PCA
from iin_lightning.encoders.user_network import UserNetwork
from iin_lightning.encoders.zoo import Outside
from iin_lightning.errors import ConfigError
from iin_lightning.interpreter import Interpreter
from iin_lightning.progress import printable
from iin_lightning.questions.subject import load_model
from iin_lightning.runs.build import build_encoder, warn_once
from iin_lightning.runs.recipe import Recipe
from iin_lightning.seeding import generator
from iin_lightning.serialization import STRUCTURE

PACKAGED = Path(str(files("iin_lightning"))) / "assets" / "models"
"""A store inside the package, of what the defaults explain and judge (`make assets`): a first run trains T alone."""

PUBLISHED = ("autoencode", "classify", "head")
"""Stages whose networks a later run may need."""

KEPT = ("Encoders and judges", "name another folder, paths.models=<folder>")
ALONE = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
"""How a trainer is told that it has this process to itself."""

POLL = 0.2  # seconds
DRAWN = 32  # images at a time that a PCA is fitted to

log = logging.getLogger(__name__)


@contextmanager
def seeded(seed: int, then: int | None = None) -> Iterator[None]:
    """Begin from a seed, and from one behind the block: what comes next does not depend on what was done in it."""
    seed_everything(seed, workers=True, verbose=False)
    yield
    seed_everything(seed if then is None else then, workers=True, verbose=False)


class Store:
    """Networks by their recipes.

    Args:
        root: ``paths.models``.
        train: runs a recipe in a folder; goes on where an earlier call was stopped.
        seed: from which those begin that ask for networks.
    """

    def __init__(self, root: Path, train: Callable[[Recipe, Path], Any], seed: int) -> None:
        self.root, self.train, self.seed = root, train, seed

    def get(self, recipe: Recipe) -> nn.Module:
        """The network of a recipe: from its folder, as it comes, from the store or the package, or trained now.

        What is built next begins from the seed, whether the network was trained now or found.

        Raises:
            ConfigError: the configuration says no way to get it.
        """
        with seeded(recipe.config.seed, then=self.seed):
            if recipe.path is not None:
                model = load_model(recipe.path)
                return model.encoder if isinstance(model, Interpreter) else model
            if recipe.stage is None:
                return self._as_it_comes(recipe)
            folder = self.folder(recipe)
            return serialization.load(self.made(folder, lambda: self._train(recipe, folder)))

    def judges(self, recipe: Recipe, device: torch.device) -> Callable[[str], nn.Module]:
        """Give the judges of a run by their concepts; where the store lacks one, this process trains it alone."""
        # A run of a GPU is evaluated elsewhere, too.
        trainer = ALONE | {"accelerator": "cpu" if device.type == "cpu" else "auto"}
        origin = OmegaConf.merge(recipe.origin, {"trainer": trainer})
        assert isinstance(origin, DictConfig)
        # W&B knows one run at a time, and this one may be in the middle of it.
        OmegaConf.set_struct(origin, False)
        (origin.get("logger") or {}).pop("wandb", None)
        alone = replace(recipe, config=origin, origin=origin)
        return lambda concept: self.get(alone.judge(concept))

    def folder(self, recipe: Recipe) -> Path:
        """Where the model of a recipe lies, or will lie; see ``Recipe.key``."""
        return self.root / f"{type(recipe.data).__name__.lower()}-{recipe.stage}-{recipe.key()}"

    @staticmethod
    def is_complete(folder: Path) -> bool:
        """Whether a model was written to its end; its structure is written last."""
        return (folder / "model" / STRUCTURE).is_file()

    def _train(self, recipe: Recipe, folder: Path) -> None:
        if is_main_process():
            print(printable(f"Training the {recipe.role} first ({folder})."))
        self.train(Recipe.of(recipe.config), folder)

    def made(self, folder: Path, train: Callable[[], Any]) -> Path:
        """The model folder, from here or the package, or trained now; jobs that need the same wait for one another."""
        for place in (folder, PACKAGED / folder.name):
            if self.is_complete(place):
                return place / "model"
        check_writable(self.root, *KEPT)
        self.root.mkdir(parents=True, exist_ok=True)
        trainer = Path(f"{folder}.trainer")  # says which job's processes train it
        if not is_main_process():
            # Whether to train is for the first process to say: another job may have finished the model since it looked.
            if self._begins(folder, trainer):
                train()
            return folder / "model"
        with FileLock(f"{folder}.lock"):
            if not self.is_complete(folder):
                trainer.write_text(job_name(), encoding="utf-8")
                try:
                    train()
                finally:
                    trainer.unlink(missing_ok=True)
        return folder / "model"

    def _begins(self, folder: Path, trainer: Path) -> bool:
        """Wait until the first process of this job trains a model, or it is complete: whether to train along."""
        own, parent = job_name(), os.getppid()
        while not self.is_complete(folder):
            with suppress(FileNotFoundError):
                if trainer.read_text(encoding="utf-8") == own:
                    return True
            if os.getppid() != parent:
                raise SystemExit("The process that started this one is gone.")
            time.sleep(POLL)
        return False

    def place(self, recipe: Recipe) -> Path | None:
        """Where the model of a run is published; None for a translator, and for what goes on with other values."""
        if recipe.stage not in PUBLISHED or recipe.config.data != recipe.origin.data:
            return None
        begun = self.folder(Recipe(recipe.origin, recipe.data, recipe.stage, recipe.origin))
        return begun if self.folder(recipe) == begun else None

    def publish(self, run: Path, folder: Path) -> None:
        """Copy a finished run's model into the store, unless its recipe is there, or say that the store takes none."""
        if self.is_complete(folder):
            return
        try:
            check_writable(self.root, *KEPT)
        except ConfigError as error:
            log.warning("%s Until then this model is in the folder of its run alone.", error)
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            shutil.copytree(run / "model", partial / "model")
            for name in ("config.yaml", "results.json"):
                shutil.copy(run / name, partial / name)
            if not self.is_complete(folder):
                shutil.rmtree(folder, ignore_errors=True)
                partial.replace(folder)

    def _as_it_comes(self, recipe: Recipe) -> Cut:
        """The network that ``encoder`` names, with the weights that it comes with, cut at its layer.

        What is random in it (a fresh last layer) comes from the seed. A PCA is fitted to training images, once for all
        runs of the same network, data and seed.
        """
        encoder = build_encoder(recipe.config, recipe.data)
        if not isinstance(encoder, Cut):
            raise ConfigError(
                "This run needs a trained encoder, but says neither how to train it (first_stage.recipe) nor where it "
                "lies (first_stage.path=<model folder>)."
            )
        _warn_of_random_parts(recipe, encoder)
        encoder.eval()
        return self._fitted(encoder, recipe) if isinstance(encoder.reduction, PCA) else encoder

    def _fitted(self, encoder: Cut, recipe: Recipe) -> Cut:
        config, source = recipe.config, recipe.data.source("train")
        made_of = (serialization.fingerprint(encoder), recipe.data.fingerprint("train"), config.seed)
        key = sha256(json.dumps(made_of).encode()).hexdigest()[:12]
        folder = self.root / f"{type(recipe.data).__name__.lower()}-pca-{key}"

        def batches() -> Iterator[Tensor]:
            order = torch.randperm(len(source), generator=generator(config.seed, "reduction"))
            for items in order.split(DRAWN):
                yield source.draw(items, None)

        # Of several processes the first to come fits, and the others wait for it.
        with locked(folder):
            if not self.is_complete(folder):
                check_writable(self.root, *KEPT)
                print(f"Fitting {config.encoder.reduce} to training images ({folder}).")
                on_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
                encoder.to("cuda" if on_gpu else "cpu").fit_reduction(batches())
                serialization.save(encoder.cpu(), folder / "model", {"network": serialization.describe(encoder)})
        fitted = serialization.load(folder / "model")
        assert isinstance(fitted, Cut)
        return fitted


def _warn_of_random_parts(recipe: Recipe, encoder: Cut) -> None:
    """Say what of a network is not trained and will not be."""
    network, config = encoder.network, recipe.config
    if config.encoder.network.weights is None:
        own = isinstance(network, UserNetwork)
        weights = "the weights that its constructor gives it, most often random ones" if own else "random weights"
        more = "" if own else ", or default"
        warn_once(
            f"The network that is explained has {weights}: name trained ones with encoder.network.weights=<file>{more}."
        )
    elif isinstance(network, Outside) and network.fresh_head and config.model.stage != "head":
        warn_once(
            f"The last layer for {network.n_classes} classes is fresh, with random weights, and so are the "
            "probabilities that are explained: first_stage.recipe=head trains it before."
        )
