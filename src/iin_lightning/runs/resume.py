"""The configuration of a run that is continued."""

import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from iin_lightning.bounded import read_torch
from iin_lightning.cli import trust
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.paths import conf_folder, last_checkpoint
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.serialization import write_whole
from iin_lightning.trusted import UNSIGNED, sign

CONFIG, CONFIG_RESUMED = "config.yaml", "config.resumed.yaml"
"""What a run began with, and what it was last continued with."""


def write(path: Path, config: DictConfig) -> None:
    """Write the configuration of a run, signed by this user."""
    write_whole(path, sign(f"# signature: {UNSIGNED}\n{OmegaConf.to_yaml(config)}"))


def read(path: Path) -> DictConfig:
    """The configuration of a run; of one from elsewhere what was trained, with the paths, loggers, ... of ``conf/``.

    Raises:
        CheckpointError: it is damaged, or names code that is not trusted.
    """
    config, own = trust.load(path)
    return config if own else trust.adopted(config, compose_train(), path)


def resumed(config: DictConfig) -> tuple[DictConfig, DictConfig]:
    """The configuration that a run began with, and the one to go on with, which has new values on top.

    Args:
        config: composed from a command line with ``resume=<run folder>``, whose other values are the new ones.

    Raises:
        CheckpointError: the folder holds no run, or one from elsewhere that is not trusted.
        ConfigError: the command line asks for another group, for a new key, or for fewer steps than were done.
    """
    folder = Path(config.resume)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"resume={folder} is no run folder: it holds no {CONFIG}. Name outputs/<name>/<time>.")
    last = folder / CONFIG_RESUMED
    files = (folder / CONFIG, last if last.is_file() else folder / CONFIG)
    (origin, begun_here), (saved, saved_here) = map(trust.load, files)
    if not (own := begun_here and saved_here):
        if not trust.trusts(config, folder):
            raise CheckpointError(
                f"{folder} was not made by you on this machine, or its {CONFIG} was changed by hand since. If you "
                f"trust whoever made it, add 'trust=[{folder}/]': its data, networks and settings of training are then "
                "taken; paths, loggers, callbacks and trainer are those of your command line. You are asked once."
            )
        origin, saved = (trust.adopted(one, config, file) for one, file in zip((origin, saved), files))
        origin.resume = None
    OmegaConf.set_struct(saved, True)
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key = override.key_or_group
        if key in ("resume", "trust"):  # what is trusted is so for this command
            continue
        if not own and re.split(r"[./@]", key)[0] not in trust.WHAT:
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
