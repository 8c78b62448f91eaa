"""``conf/`` and the user's folder (``--config-dir``): their groups, their choices and what they compose."""

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from iin_lightning.cli.arguments import NESTED, expand_home, user_folder
from iin_lightning.cli.paths import conf_folder, register_resolvers
from iin_lightning.cli.schema import Evaluate, Root

PACKAGES = ("torchvision", "timm")
"""Packages whose networks are choices of ``encoder`` by name: ``encoder=torchvision/resnet50``."""


def is_group(name: str) -> bool:
    """Say whether a name is that of a group, a folder of ``conf/``.

    Example:
        >>> is_group("data/stylizer"), is_group("seed"), is_group("..")
        (True, False, False)
    """
    named = re.fullmatch(r"[\w-]+(/[\w-]+)*", name) is not None  # and no path of another folder
    return named and any((folder / name).is_dir() for folder in _folders())


def group_of(key: str) -> str | None:
    """Return the group that a key chooses from, if any.

    Example:
        >>> group_of("data"), group_of("data.base"), group_of("data@outside"), group_of("data.limit")
        ('data', 'data', 'data', None)
    """
    name = "data" if re.fullmatch(NESTED, key) else key.lstrip("+").partition("@")[0]
    return name if is_group(name) else None


def group_choices(group: str) -> list[str]:
    """Return the choices of a group, those of the user's folder, too.

    Example:
        >>> group_choices("logger")
        ['csv', 'wandb']
        >>> group_choices("encoder")[-2:]
        ['torchvision/<name>', 'timm/<name>']
    """
    found = set(choice_files(group))
    if group == "encoder":  # what a name completes is no choice without it
        return sorted(found - set(PACKAGES)) + [f"{package}/<name>" for package in PACKAGES]
    return sorted(found)


def choice_files(group: str) -> dict[str, Path]:
    """Return choice -> yaml of a group; a file of the user's folder hides ours of the same name."""
    return {path.stem: path for folder in _folders() for path in sorted((folder / group).glob("*.yaml"))}


def _folders() -> Iterator[Path]:
    yield conf_folder()
    own = user_folder()
    if own is not None and Path(own).is_dir():
        yield Path(own)


def register() -> None:
    """Make the keys of a run, the resolvers and the networks of ``PACKAGES`` known to Hydra."""
    ConfigStore.instance().store("iin_lightning_root", Root)
    ConfigStore.instance().store("iin_lightning_evaluate", Evaluate)
    register_resolvers()
    for plugin in (NetworkSource, NetworkSearchPath):
        Plugins.instance().register(plugin)


def compose_train(*overrides: str, config_dir: str | None = None) -> DictConfig:
    """Compose ``conf/train.yaml`` with overrides, without running anything; see ``composed``."""
    register()
    return composed("train", overrides, config_dir)


def composed(config_name: str, overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """Compose ``conf/<config_name>.yaml`` as the job of the command gets it, with the choices of a user's folder.

    The folder is by default that of the command line.

    Raises:
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """
    config = composed_with_hydra(config_name, overrides, config_dir, RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    expand_home(config)
    return config


def composed_with_hydra(
    config_name: str, overrides: Sequence[str], config_dir: str | None = None, mode: RunMode = RunMode.MULTIRUN
) -> DictConfig:
    """Compose the same with Hydra's own part; by default values that a sweep goes through are left out."""
    folder = config_dir or user_folder()
    search = []
    if folder is not None and Path(folder).is_dir():
        place = f"file://{Path(folder).resolve()}".replace("'", "\\'")
        search = [f"hydra.searchpath=['{place}']"]
    # While a job runs Hydra knows the folder, in the processes of a sweep, too, which have another command line.
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(conf_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return hydra.compose_config(config_name, [*search, *overrides], run_mode=mode, from_shell=False)


class NetworkSource(ConfigSource):
    """The choices ``encoder=<package>/<name>``, for which there is no yaml each.

    To Hydra they are choices like all others, in sweeps and in the defaults of an experiment, too: this source of its
    search path fills the name into ``conf/encoder/<package>.yaml``.
    """

    @staticmethod
    def scheme() -> str:
        """Return the scheme of its place in the search path."""
        return "networks"

    def available(self) -> bool:
        """Return True."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return False: a list of a thousand choices would be no help."""
        return False

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return nothing; see ``is_group``."""
        return []

    def is_config(self, config_path: str) -> bool:
        """Say whether a package has a network of that name.

        Raises:
            ConfigError: the package has no such network; names the nearest.
            MissingExtraError: the package is not installed.
        """
        if (found := _network(config_path)) is None:
            return False
        # Imported now, so that no other command waits for torch.
        from iin_lightning.encoders import zoo  # noqa: PLC0415

        package, name = found
        (zoo.check_torchvision if package == "torchvision" else zoo.check_timm)(name)
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the yaml of the package with the name filled in."""
        if (found := _network(config_path)) is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        package, name = found
        config = OmegaConf.load(conf_folder() / "encoder" / f"{package}.yaml")
        assert isinstance(config, DictConfig)
        if "defaults" in config:  # relative ones, which are looked for beside this configuration
            config.defaults = [f"/encoder/{base}" for base in config.defaults]
        OmegaConf.update(config, "encoder.network.name", name)
        return ConfigResult(self.provider, self.full_path(), config, header={"package": "_global_"})


class NetworkSearchPath(SearchPathPlugin):
    """Lets Hydra look into the source behind all folders."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append it."""
        search_path.append("iin_lightning", f"{NetworkSource.scheme()}://")


def _network(config_path: str) -> tuple[str, str] | None:
    """The package and the name of a network.

    Example:
        >>> _network("encoder/timm/resnet50.a1_in1k"), _network("encoder/torchvision"), _network("data/celeba")
        (('timm', 'resnet50.a1_in1k'), None, None)
    """
    group, _, rest = config_path.removesuffix(".yaml").partition("/")
    package, _, name = rest.partition("/")
    return (package, name) if group == "encoder" and package in PACKAGES and name else None
