"""Where things lie: conf/, run folders, checkpoints."""

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from omegaconf import OmegaConf

from iin_lightning.errors import ConfigError

REPLACED = (".json", ".yaml", ".safetensors")
"""Files that are never written through a link: a new one is renamed to their name."""


def conf_folder() -> Path:
    """Return the folder ``conf/``: inside an installed package, or at the top of a checkout."""
    installed = Path(str(files("iin_lightning"))) / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint that a run writes while it goes on, and continues from."""
    return folder / "checkpoints" / "last.ckpt"


def check_links(folder: Path) -> None:
    """Check that nothing that is written into a run folder would be written elsewhere, or wait for a reader.

    Raises:
        ConfigError: a link in it leads out of it, or it holds a pipe or a device.
    """
    top = folder.resolve()
    for place, folders, names in os.walk(folder):
        if Path(place).parent == folder / "wandb":
            folders.clear()  # W&B links its logs, and opens a new folder each time
            continue
        for path in (Path(place) / name for name in (*folders, *names)):
            leads_out = path.is_symlink() and not path.resolve().is_relative_to(top)
            if (leads_out and path.suffix not in REPLACED) or (path.exists() and not (path.is_dir() or path.is_file())):
                raise ConfigError(
                    f"{path} is {f'a link to {path.resolve()}' if leads_out else 'no regular file'}, and what is done "
                    "with a run is written into its own folder only: copy the folder without links (cp -rL), or "
                    "delete this one."
                )


def run_folder(resume: str | None, outputs: str, name: str | None, data: str, model: str, now: str) -> str:
    """Return the folder of a run: that which it continues, or ``outputs/<name>/<time>``; see ``new_folder``.

    Example:
        >>> run_folder("outputs/sup/2026-01-01_10-00-00/", "outputs", None, "color_mnist", "sup", "2026-01-02_10-00-00")
        'outputs/sup/2026-01-01_10-00-00'
    """
    if not resume:
        return new_folder(f"{outputs}/{name or f'{data}_{model}'}", now)
    folder = Path(resume).expanduser()
    check_links(folder)  # before Hydra opens run.log
    return str(folder)


def new_folder(parent: str, now: str) -> str:
    """Make a folder that no other run has, named by the time, with _2, _3, ... behind it where that is taken.

    All processes that torchrun has started get the same folder. Those that srun has started get ``job-<job>.<step>``,
    which is there already if SLURM starts the job again: a run then goes on.

    Raises:
        ConfigError: it cannot be made there.
    """
    parent = os.path.expanduser(parent)  # as a yaml says it
    if not {"--cfg", "-c", "--info", "-i"}.isdisjoint(argument.split("=")[0] for argument in sys.argv[1:]):
        return f"{parent}/{now}"  # a configuration is shown, and nothing made
    if not {"TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"}.isdisjoint(os.environ):
        from iin_lightning import distributed as ranks  # noqa: PLC0415  torch is slow to import

        if ranks.under_srun():
            return f"{parent}/job-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
        if "TORCHELASTIC_RUN_ID" in os.environ:
            return ranks.agreed(f"folder {parent}", lambda: _make_new(Path(parent), now))
    return _make_new(Path(parent), now)


def _make_new(parent: Path, now: str) -> str:
    folder, number = parent / now, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = parent / f"{now}_{number}"
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made ({error.strerror}): choose another paths.outputs.") from error
        else:
            return str(folder)


def study_name(name: str | None, data: str, model: str, overrides: Sequence[str]) -> str:
    """Return the name of a search, which differs for other arguments, whose losses could not be compared.

    Example:
        >>> study_name(None, "mnist", "unsup", ["seed=1", "sweep=optuna"])
        'mnist_unsup-231369dd'
        >>> study_name(None, "mnist", "unsup", ["sweep=optuna_joblib", "seed=1"])
        'mnist_unsup-231369dd'
    """
    asked = sorted(override for override in overrides if not override.startswith("sweep="))
    return f"{name or f'{data}_{model}'}-{hashlib.sha256(repr(asked).encode()).hexdigest()[:8]}"


def register_resolvers() -> None:
    """Make ``${run_folder:...}``, ``${new_folder:...}`` and ``${study_name:...}`` known to configurations."""
    # Jobs of a sweep, and whoever looks twice, find the folder that was made.
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("new_folder", new_folder, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("study_name", study_name, replace=True)


register_resolvers()  # a process that a launcher starts unpickles its job first, and then asks where its sweep lies
