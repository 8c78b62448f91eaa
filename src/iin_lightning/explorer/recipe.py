"""What the training of a concept is told: the files that it reads, and the arguments of its command."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.sketched import write
from iin_lightning.explorer.states import ConceptState
from iin_lightning.printing import argument
from iin_lightning.serialization import model_folder
from iin_lightning.trusted import trusted

BASE = "explored"  # the model's own data set, as a choice of the group data


def recipe_of(explored: Explored) -> DictConfig:
    """The data set of a model, without changes that were made to its images for another concept.

    Raises:
        ConfigError: it is not known, or its images are not in colour.
    """
    recipe = explored.subject.recipe
    if recipe is None:
        raise ConfigError(
            f"{explored.name} is a model folder without its run: nothing says which data it was trained on, so that no "
            "concept can be trained. Open the page with run=<run folder>."
        )
    if explored.shape[0] != 3:
        raise ConfigError(f"A sketch changes images in colour, and those of {explored.name} are grey.")
    base: DictConfig = recipe.data
    while "changes" in base or "sketches" in base:
        base = base.base
    return base


def new_folder(parent: Path) -> Path:
    """A folder of this second; a number is added where there is one already."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 100):
        folder = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{parent} has too many runs of this second.")


def written(folder: Path, explored: Explored, state: ConceptState, base: DictConfig) -> dict[str, str | Path]:
    """Write the files that a training needs into its folder, and say it in arguments.

    Args:
        folder: of the run.
        explored: whose encoder is taken.
        state: the concept.
        base: its data set.

    Returns:
        Key -> value as Hydra reads it, or a path, as ``words`` takes them.
    """
    recipe, sketches = folder / "recipe", folder / "sketches"
    (recipe / "data").mkdir(parents=True)
    sketches.mkdir()
    (recipe / "data" / f"{BASE}.yaml").write_text(
        f"# The data set of {explored.name}.\n{OmegaConf.to_yaml(base)}", encoding="utf-8"
    )
    subject, packages = explored.subject, trusted()
    assert subject.recipe is not None
    drawn = {"a": state.sketch_a, "b": state.sketch_b}
    return {
        "--config-dir": recipe,
        "data": "sketch",
        "data.base": BASE,
        "data.keep": "[]",
        "data.concept": state.name,
        **{f"data.sketch_{k}": Path(write(text, sketches, f"{state.name}_{k}")) for k, text in drawn.items()},
        "data.limit": str(state.images),
        "encoder": "interpreter",
        "first_stage.path": model_folder(subject.folder),
        "model": "sup",
        "model.steps": str(state.steps),
        "model.val_every": str(max(1, state.steps // 2)),
        # So few latents would be learned by heart without noise.
        "model.warmup": str(state.steps // 10),
        "model.latent_noise": "0.6",
        "judge.recipe": "null",
        "name": f"explore/{state.name}",
        **{f"paths.{name}": Path(path) for name, path in subject.recipe.paths.items()},
        **({"trust": f"[{','.join(packages)}]"} if packages else {}),
    }


def words(said: Mapping[str, str | Path], spelled: Callable[[str], str] = str) -> list[str]:
    """Arguments as a command takes them.

    Args:
        said: key -> value as Hydra reads it, or a path.
        spelled: what is said of a path.

    Example:
        >>> words({"--config-dir": Path("/mine"), "data.limit": "5", "paths.data": Path("/my data")})
        ['--config-dir', '/mine', 'data.limit=5', 'paths.data="/my data"']
    """
    found: list[str] = []
    for key, value in said.items():
        if key.startswith("--"):
            found += [key, spelled(str(value))]
        else:
            found.append(argument(key, spelled(str(value))) if isinstance(value, Path) else f"{key}={value}")
    return found
