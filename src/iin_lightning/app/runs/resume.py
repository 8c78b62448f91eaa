"""The configuration of a run that is continued."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from iin_lightning.app import trust
from iin_lightning.app.console.compose import compose_train
from iin_lightning.app.paths import conf_folder, last_checkpoint
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.serialization import read_torch

CONFIG, CONFIG_RESUMED = "config.yaml", "config.resumed.yaml"
"""What a run began with, and what it was last continued with."""

LATER = ("evaluation", "analyses", "checkpoint", "on_nan", "deterministic", "trust")
"""Keys that a run may be older than."""


def read(path: Path) -> DictConfig:
    """The configuration of a run, whatever version wrote it.

    Raises:
        CheckpointError: it is damaged, or names code that is not trusted.
    """
    config = trust.read(path)
    absent = [key for key in LATER if key not in config]
    if absent:
        known = compose_train()
        for key in absent:
            config[key] = known[key]
    return config


def resumed(config: DictConfig) -> tuple[DictConfig, DictConfig]:
    """The configuration that a run began with, and the one to go on with, which has new values on top.

    Args:
        config: composed from a command line with ``resume=<run folder>``, whose other values are the new ones.

    Raises:
        CheckpointError: the folder holds no run, or one whose configuration names code that is not trusted.
        ConfigError: the command line asks for another group, for a new key, or for fewer steps than were done.
    """
    folder = Path(config.resume)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"resume={folder} is no run folder: it holds no {CONFIG}. Name outputs/<name>/<time>.")
    last = folder / CONFIG_RESUMED
    origin, saved = read(folder / CONFIG), read(last if last.is_file() else folder / CONFIG)
    OmegaConf.set_struct(saved, True)
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key = override.key_or_group
        if key in ("resume", "trust"):  # what is trusted is so for this command
            continue
        if override.is_add() or override.is_delete() or (conf_folder() / key).is_dir():
            raise ConfigError(
                f"A resumed run keeps its groups, so {override.input_line} cannot be changed: leave it out, or start a "
                "new run. Values such as model.steps=5000 may change."
            )
        # As it was typed: what comes from the environment is not written down.
        parent, _, name = key.rpartition(".")
        typed = OmegaConf.to_container(OmegaConf.select(config, parent) if parent else config)
        assert isinstance(typed, dict)
        OmegaConf.update(saved, key, typed[name])
    saved.resume = str(folder)
    _check_steps(saved, last_checkpoint(folder))
    return origin, saved


def _check_steps(config: DictConfig, checkpoint: Path) -> None:
    """Refuse to go on to where a run has been already: nothing would be trained, and its numbers be of more steps."""
    asked = config.trainer.max_steps
    done = read_torch(checkpoint)["global_step"] if checkpoint.is_file() else 0
    if 0 <= asked < done:
        key = "model.steps" if OmegaConf.is_interpolation(config.trainer, "max_steps") else "trainer.max_steps"
        raise ConfigError(
            f"This run has done {done} steps already, and {key}={asked} asks for fewer: say more of them to train on, "
            "or leave it out."
        )
