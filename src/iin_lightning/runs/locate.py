"""Where models and their data are found: the runs that a command names, and what each was trained on."""

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from iin_lightning.cli.paths import check_links
from iin_lightning.data.module import DataModule
from iin_lightning.disk import check_writable
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, listed
from iin_lightning.printing import show_files, shown
from iin_lightning.progress import Screen
from iin_lightning.questions.results import FILE
from iin_lightning.questions.subject import Subject, load_model
from iin_lightning.runs.folder import CONFIG, read_config
from iin_lightning.runs.recipe import Recipe
from iin_lightning.runs.run import run
from iin_lightning.runs.store import Store
from iin_lightning.serialization import STRUCTURE


@dataclass
class RunSubject(Subject):
    """A subject that knows the configuration of its run; None for a bare model folder."""

    recipe: DictConfig | None = None


def load_subject(
    folder: Path, device: torch.device, config: DictConfig, *, out: Path | None = None, caches: bool = True
) -> RunSubject:
    """A model on a device, and the data of its run, or those that a command's ``data`` names.

    Without ``caches`` the data fill none, which takes long where few images are looked at.

    Raises:
        CheckpointError: the folder holds no model, a damaged one, or one that names code which is not trusted.
        ConfigError: a bare model folder without ``data=``.
        DataNotFoundError: a file of ``images`` is not there.
    """
    network = load_model(folder).to(device).eval()
    saved = _read_run(folder, config)
    chosen: DictConfig | None = config.data if config.data is not None or saved is None else saved.data
    if chosen is None:
        raise ConfigError(f"{folder} is a model without a configuration: say data=<data set> to measure it on.")
    paths = tuple(map(Path, config.get("images") or ()))
    for path in paths:
        if not path.is_file():
            raise DataNotFoundError(f"images=[{path}] is not there: name your image files, 'images=[a.png,b.png]'.")
    data: DataModule = instantiate(chosen if caches else uncached(chosen))
    subject = RunSubject(folder, network, data, None, Path(config.paths.cache), paths, out, recipe=saved)
    if saved is not None:
        saved.data = chosen  # judges are of the data that are asked about
        recipe = Recipe(saved, data, saved.model.stage, saved)
        store = Store(Path(saved.paths.models), run, saved.seed)
        subject.judge, subject.concept = store.judges(recipe, device), recipe.concept
    return subject


def _read_run(folder: Path, config: DictConfig) -> DictConfig | None:
    """What a run was configured as, with the paths that this command names; None for a bare model folder."""
    if not (folder / CONFIG).is_file():
        return None
    saved = read_config(folder / CONFIG)
    for override in HydraConfig.get().overrides.task:
        key = override.partition("=")[0]
        if key.startswith("paths."):
            OmegaConf.update(saved, key, OmegaConf.select(config, key))
    return saved


def uncached(data: DictConfig) -> DictConfig:
    """Return a data configuration without caches, which would decode all images where few are looked at.

    Example:
        >>> uncached(DictConfig({"cache": "ram", "base": {"cache": "disk", "limit": 9}}))
        {'cache': 'none', 'base': {'cache': 'none', 'limit': 9}}
    """
    data = deepcopy(data)
    if "cache" in data:
        data.cache = "none"
    if "base" in data:
        data.base = uncached(data.base)
    return data


def choose_device(name: str) -> torch.device:
    """The device of a name; of several GPUs the one that torchrun means for this process.

    Raises:
        ConfigError: it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"device={name} needs a GPU, and torch finds none on this machine: say device=cpu, or leave it out (a GPU "
            "is taken where there is one)."
        )
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError) as error:
        why = next(iter(str(error).splitlines()), "")
        raise ConfigError(
            f"device={name} cannot be used ({why}); allowed are auto, cpu, and cuda if there is one."
        ) from error


def find_runs(asked: Any) -> list[Path]:
    """The folders that ``run=`` names, by path or by pattern; each once.

    Raises:
        CheckpointError: a pattern fits nothing, or a folder holds no model.
        ConfigError: what is written into a folder would be written elsewhere.
    """
    names: Iterable[Any] = asked if isinstance(asked, ListConfig | list) else [asked]
    folders: dict[Path, Path] = {}
    for name in map(str, names):
        found = matching(name)
        if not Path(name).exists():  # among other things
            found = [path for path in found if _has_model(path)]
        if not found or not all(map(_has_model, found)):
            raise CheckpointError(
                f"run={name} is no finished run: expected is a folder with model/{STRUCTURE}, or a model folder itself."
            )
        for path in found:
            check_links(path)
            folders.setdefault(path.resolve(), path)
    return list(folders.values())


def matching(name: str) -> list[Path]:
    """The path of that name, whatever letters it has; else those that fit it as a pattern, sorted."""
    path = Path(name)
    there = next(place for place in (path, *path.parents) if place.exists())
    if there == path:
        return [path]
    return [Path(found) for found in sorted(glob(os.path.join(escape(str(there)), path.relative_to(there))))]


def names(folders: list[Path]) -> list[str]:
    """Names of runs: that of the folder and the one it lies in, numbered where two have the same.

    Example:
        >>> names([Path("outputs/sup/2026-01-01_10-00-00"), Path("mine")])
        ['sup/2026-01-01_10-00-00', 'mine']
    """
    short = ["/".join(folder.parts[-2:] if len(folder.parts) > 1 else folder.parts) for folder in folders]
    short = [name.removeprefix("outputs/") for name in short]
    return [name if short.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(short, 1)]


def places(folders: list[Path], out: str | None) -> dict[Path, Path | None]:
    """Where answers about runs are written: their own folders, or ``out``; None for a folder that only can be read.

    Raises:
        ConfigError: ``out`` cannot be written.
    """
    if out is None:
        return {folder: folder if os.access(folder, os.W_OK) else None for folder in folders}
    check_writable(Path(out), "Answers", "name another folder, out=<folder>")
    return {folder: Path(out, name if len(folders) > 1 else "") for folder, name in zip(folders, names(folders))}


def show_places(written: Mapping[Path, Path | None], console: Screen) -> None:
    """Print where the numbers of runs lie, or how they can be kept."""
    show_files((("results", place / FILE) for place in written.values() if place is not None), console)
    if unwritten := [shown(folder) for folder, place in written.items() if place is None]:
        text = f"{listed(unwritten)} cannot be written, so these numbers are in no file: keep them with out=<folder>."
        console.print(text, style="yellow", soft_wrap=True, markup=False)


def _has_model(folder: Path) -> bool:
    return any((place / STRUCTURE).is_file() for place in (folder, folder / "model"))
