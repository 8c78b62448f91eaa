"""Networks that no yaml lists: ``encoder=torchvision/<name>`` and ``encoder=timm/<name>``, for every name there is.

To Hydra they are configurations like all others, in sweeps and in the defaults of an experiment, too: they come from a
source of its search path, which fills the name into ``conf/encoder/torchvision.yaml`` and its neighbour.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from iin_lightning.cli.paths import conf_folder

PACKAGES = ("torchvision", "timm")
SCHEME = "networks"


class NetworkSource(ConfigSource):
    """The group ``encoder`` has an option ``<package>/<name>`` for each network of a package."""

    @staticmethod
    def scheme() -> str:
        """Of its place in the search path."""
        return SCHEME

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """None: a list of a thousand options would be no help."""
        return False

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing; see ``is_group``."""
        return []

    def is_config(self, config_path: str) -> bool:
        """Whether a package has a network of that name.

        Raises:
            ConfigError: the package is one of ours, and the name is not of its networks: suggests the nearest.
            MissingExtraError: the package is not installed.
        """
        found = _parse(config_path)
        if found is None:
            return False
        # Imported now, so that no other command waits for torch.
        from iin_lightning.encoders import zoo  # noqa: PLC0415

        package, name = found
        (zoo.check_torchvision if package == "torchvision" else zoo.check_timm)(name)
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """The yaml of the package with the name filled in."""
        found = _parse(config_path)
        if found is None:
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
        search_path.append("iin_lightning", f"{SCHEME}://")


def register() -> None:
    """Make both known to Hydra."""
    for plugin in (NetworkSource, NetworkSearchPath):
        Plugins.instance().register(plugin)


def _parse(config_path: str) -> tuple[str, str] | None:
    """The package and the name of a network.

    Example:
        >>> _parse("encoder/timm/resnet50.a1_in1k"), _parse("encoder/torchvision"), _parse("data/celeba")
        (('timm', 'resnet50.a1_in1k'), None, None)
    """
    group, _, rest = config_path.removesuffix(".yaml").partition("/")
    package, _, name = rest.partition("/")
    return (package, name) if group == "encoder" and package in PACKAGES and name else None
