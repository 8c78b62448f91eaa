"""What is evaluated: a trained model, its data, and their held-out latents."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.progress import Progress
from torch import Tensor, nn

from iin_lightning.app.ranks import is_main_process
from iin_lightning.app.resume import CONFIG
from iin_lightning.app.run import require
from iin_lightning.data.base import Source, Split, Subset
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import DataModule
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.interpreter import Interpreter
from iin_lightning.seeding import FIXED
from iin_lightning.serialization import STRUCTURE

ALONE = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
"""How a trainer is told that it has this process to itself."""


@dataclass
class Subject:
    """A model under evaluation.

    Attributes:
        folder: of the run or of the model.
        interpreter: on the device.
        data: whose test split it is measured on.
        recipe: the run's own configuration; None for a bare model folder.
    """

    folder: Path
    interpreter: Interpreter
    data: DataModule
    recipe: DictConfig | None

    @property
    def device(self) -> torch.device:
        """Where the interpreter lives."""
        return self.interpreter.device

    def latents(self, split: Split) -> LatentCache:
        """A posterior sample of each image of a split."""
        if split not in self._latents:
            source = self.data.source(split)
            with Progress(transient=True, disable=not is_main_process()) as bar:
                task = bar.add_task(f"Encoding {split} images", total=len(source))
                posterior = LatentCache.build(
                    source,
                    self.interpreter.encoder,
                    training=False,
                    seed=FIXED,
                    device=self.device,
                    progress=lambda done, _: bar.update(task, completed=done),
                )
            self._latents[split] = posterior.sampled(FIXED)
        return self._latents[split]

    @cached_property
    def _latents(self) -> dict[Split, LatentCache]:
        return {}

    @cached_property
    def translated(self) -> tuple[Tensor, Tensor]:
        """z̃ (n, N) of the test split, and log|det ∂z̃/∂z| (n,), on the processor."""
        return self._translate("test")

    def nll(self, split: Split) -> Tensor:
        """``-log p(z)`` of the latents of a split (n,), in nats, on the processor."""
        z_tilde, logdet = self.translated if split == "test" else self._translate(split)
        return 0.5 * (z_tilde.double().square().sum(1) + z_tilde.shape[1] * math.log(2 * math.pi)) - logdet

    @torch.no_grad()
    def _translate(self, split: Split) -> tuple[Tensor, Tensor]:
        parts = [self.interpreter.translator(z.to(self.device)) for z in self.latents(split).mean.split(2000)]
        z_tilde, logdet = (torch.cat(outputs).cpu() for outputs in zip(*parts))
        return z_tilde, logdet

    def judge(self, concept: str) -> nn.Module:
        """A classifier of a concept that has not seen this model: from the store, or trained now, by this process.

        Raises:
            ConfigError: there is no recipe to train it by.
        """
        if self.recipe is None:
            raise ConfigError(f"A judge is trained by the recipe of a run, and {self.folder} is a bare model folder.")
        recipe = OmegaConf.merge(self.recipe, {"trainer": ALONE})
        assert isinstance(recipe, DictConfig)
        return require(recipe, "judge", concept).to(self.device).eval()

    def concepts(self) -> dict[str, Tensor]:
        """The values of the concepts that can be probed: classes (n,), colours (n, 3); identities are left out."""
        source = self.data.source("test")
        values: dict[str, Tensor] = {}
        for column, name in enumerate(self.data.concepts):
            if self.data.kinds[name] == "class":
                values[name] = self.latents("test").labels[:, column]
            elif self.data.kinds[name] == "color" and (colors := _colors(source)) is not None:
                values[name] = colors
        return values


def load_subject(folder: Path, device: torch.device, config: DictConfig) -> Subject:
    """Load a model and the data that it is to be measured on.

    Args:
        folder: of a run, or of a model.
        device: where to compute.
        config: of the command; its ``data``, if there is any, go before the run's own.

    Raises:
        CheckpointError: the folder holds no interpreter.
        ConfigError: a bare model folder without ``data=``.
    """
    interpreter = Interpreter.from_pretrained(model_folder(folder)).to(device).eval()
    return Subject(folder, interpreter, instantiate(choose_data(folder, config)), read_recipe(folder, config))


def choose_device(name: str) -> torch.device:
    """The device of a name; of several GPUs the one that torchrun means for this process.

    Raises:
        ConfigError: it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name} cannot be used ({error}); allowed are auto, cpu, and cuda if there is one."
        ) from error


def model_folder(folder: Path) -> Path:
    """Where the model of a run folder lies, or the folder itself if it is one."""
    return folder / "model" if (folder / "model" / STRUCTURE).is_file() else folder


def read_recipe(folder: Path, config: DictConfig) -> DictConfig | None:
    """What a run was configured as, with the paths that this command names; nothing for a bare model folder."""
    if not (folder / CONFIG).is_file():
        return None
    recipe = OmegaConf.load(folder / CONFIG)
    assert isinstance(recipe, DictConfig)
    for override in HydraConfig.get().overrides.task:
        key = override.partition("=")[0]
        if key.startswith("paths."):
            OmegaConf.update(recipe, key, OmegaConf.select(config, key))
    return recipe


def choose_data(folder: Path, config: DictConfig) -> DictConfig:
    """The data that the command names, or those of the run.

    Raises:
        ConfigError: neither is there.
    """
    recipe = read_recipe(folder, config)
    data: DictConfig | None = config.data if config.data is not None or recipe is None else recipe.data
    if data is None:
        raise ConfigError(f"{folder} is a model without a configuration: say data=<data set> to measure it on.")
    return data


def find_runs(run: Any) -> list[Path]:
    """The folders that ``run=`` names, by path or by pattern.

    Raises:
        CheckpointError: a pattern fits nothing, or a folder holds no model.
    """
    names: Iterable[Any] = run if isinstance(run, ListConfig | list) else [run]
    folders: list[Path] = []
    for name in map(str, names):
        found = [Path(path) for path in sorted(glob(name))] if has_magic(name) else [Path(name)]
        if has_magic(name):  # among other things
            found = [path for path in found if _has_model(path)]
        if not found or not all(map(_has_model, found)):
            raise CheckpointError(
                f"run={name} is no finished run: expected is a folder with model/{STRUCTURE}, or a model folder itself."
            )
        folders += found
    return folders


def _has_model(folder: Path) -> bool:
    return any((place / STRUCTURE).is_file() for place in (folder, folder / "model"))


def _colors(source: Source) -> Tensor | None:
    items = torch.arange(len(source))
    if isinstance(source, Subset):
        items, source = source.items, source.source
    colors = getattr(source, "colors", None)
    return None if colors is None else colors(items)
