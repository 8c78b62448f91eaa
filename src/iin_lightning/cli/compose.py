"""Configurations composed without running anything, of ``conf/`` and the user's folder (``--config-dir``)."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from iin_lightning.cli import schema
from iin_lightning.cli.flags import user_folder
from iin_lightning.cli.paths import conf_folder, register_resolvers
from iin_lightning.cli.typed import expand_home


def composed(config_name: str, overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """The configuration of a command, as its job gets it.

    Args:
        config_name: the primary file in ``conf/``.
        overrides: as Hydra reads them.
        config_dir: a folder with choices besides those of ``conf/``; by default that of the command line.

    Raises:
        HydraException, OmegaConfBaseException: they do not compose.
    """
    config = composed_with_hydra(config_name, overrides, config_dir, RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    expand_home(config)
    return config


def composed_with_hydra(
    config_name: str, overrides: Sequence[str], config_dir: str | None = None, mode: RunMode = RunMode.MULTIRUN
) -> DictConfig:
    """The same with Hydra's own part; by default what a sweep goes through is left out."""
    folder = config_dir or user_folder()
    # While a job runs Hydra knows the folder, in the processes of a sweep, too, which have another command line.
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(conf_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return hydra.compose_config(config_name, [*_search(folder), *overrides], run_mode=mode, from_shell=False)


def compose_train(*overrides: str, config_dir: str | None = None) -> DictConfig:
    """Compose ``conf/train.yaml`` with overrides, without running anything; see ``composed``."""
    schema.register()
    register_resolvers()
    return composed("train", overrides, config_dir)


def _search(folder: str | None) -> list[str]:
    """What lets Hydra look into a folder, too, if there is one."""
    if folder is None or not Path(folder).is_dir():
        return []
    place = f"file://{Path(folder).resolve()}".replace("'", "\\'")
    return [f"hydra.searchpath=['{place}']"]
