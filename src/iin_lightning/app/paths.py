"""Where things lie: conf/, run folders, checkpoints."""

from importlib.resources import files
from pathlib import Path

from omegaconf import OmegaConf


def conf_folder() -> Path:
    """The folder ``conf/``: inside an installed package, or at the top of a checkout."""
    installed = Path(str(files("iin_lightning"))) / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"


def run_folder(resume: str | None, outputs: str, name: str | None, data: str, model: str, now: str) -> str:
    """The folder of a run: the one it continues, or ``outputs/<name>/<time>``.

    Example:
        >>> run_folder(None, "outputs", None, "color_mnist", "sup", "2026-01-01_10-00-00")
        'outputs/color_mnist_sup/2026-01-01_10-00-00'
    """
    return str(Path(resume)) if resume else f"{outputs}/{name or f'{data}_{model}'}/{now}"


def last_checkpoint(folder: Path) -> Path:
    """The checkpoint that a run writes while it goes on, and continues from."""
    return folder / "checkpoints" / "last.ckpt"


def register_resolvers() -> None:
    """Make ``${run_folder:...}`` known to configurations."""
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
